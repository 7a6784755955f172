//! How many connections there are, and were.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::{lane::InFlight, pulse::Pulse};
use crate::store::PoolUsage;

/// The connections to all servers of one Redis, and how long this process has run for
/// them.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    counts: Arc<Counts>,
    pulse: Pulse,
    in_flight: InFlight,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// An open connection. It is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Traffic {
    /// No connections.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { counts: Arc::default(), pulse, in_flight: InFlight::default() }
    }

    /// How long this process has run.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The calls in flight.
    pub(super) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Counts one more.
    pub(super) fn open(&self) -> Open {
        self.counts.opened.fetch_add(1, SeqCst);
        Open(Arc::clone(&self.counts))
    }

    /// What there is and was.
    pub(super) fn usage(&self) -> PoolUsage {
        // In this order never more are closed than were opened.
        let closed = self.counts.closed.load(SeqCst);
        let opened = self.counts.opened.load(SeqCst);
        PoolUsage { active: opened - closed, opened, closed, ..PoolUsage::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}
