//! State that all requests to a Redis store share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{call::Moment, settler::SettlementQueue};
use crate::{limit::Hits, store::StoreError};

#[derive(Debug)]
pub(super) struct DispatchContext<S> {
    pub(super) servers: Arc<S>,
    pub(super) settlements: SettlementQueue,
    pub(super) holder_ids: HolderIds,
}

/// The times of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) start: Moment,
    /// The run time of this process at the start.
    pub(super) run_time_at_start: Duration,
    pub(super) deadline: Instant,
}

/// Numbers of calls that hold hits.
#[derive(Debug)]
pub(super) struct HolderIds(AtomicU64);

impl HolderIds {
    /// Starts at a random number, as every instance generates ids.
    pub(super) fn new() -> Self {
        let first = u64::from(fastrand::u32(..)) | 1;
        Self(AtomicU64::new(first << 20))
    }

    /// A number between 1 and [`Hits::MAX`] that no other call of this instance has, and with
    /// high probability none of another instance.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) % Hits::MAX + 1
    }
}

/// The minimum time between two attempts of a call whose outcome depends on hits that other
/// calls hold.
pub(super) const MIN_RETRY_DELAY: Duration = Duration::from_millis(1);

/// A random delay between once and twice [`MIN_RETRY_DELAY`].
pub(super) fn retry_delay() -> Duration {
    MIN_RETRY_DELAY.mul_f64(1.0 + fastrand::f64())
}

/// The error of a charge whose outcome still depends on held hits at the deadline.
pub(super) fn still_held() -> StoreError {
    StoreError::Failed("undecided calls hold the last hits of the limit".into())
}
