//! Counts the calls in flight to all servers of one backend.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A shared counter of calls in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

/// Counts one call as in flight until it is dropped.
pub(super) struct InFlightGuard<'a>(&'a InFlight);

impl InFlight {
    pub(super) fn enter(&self) -> InFlightGuard<'_> {
        self.0.fetch_add(1, Relaxed);
        InFlightGuard(self)
    }
}

impl InFlightGuard<'_> {
    /// Returns whether no other call is in flight.
    pub(super) fn is_only(&self) -> bool {
        self.0.0.load(Relaxed) == 1
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
