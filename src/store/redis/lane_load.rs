//! The cost of the calls in a lane, queued and in flight.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::limits::FULL_BATCH_COST;

/// Costs in units of [`cost`](super::call::cost).
#[derive(Debug, Default)]
pub(super) struct LaneLoad {
    queued: AtomicUsize,
    in_flight: AtomicUsize,
    /// Notified when the queued calls become enough for a full batch.
    pub(super) full_batch: Notify,
}

impl LaneLoad {
    pub(super) fn has_full_batch(&self) -> bool {
        FULL_BATCH_COST <= self.queued.load(Relaxed)
    }

    pub(super) fn enqueue(&self, cost: usize) {
        let before = self.queued.fetch_add(cost, Relaxed);
        if before < FULL_BATCH_COST && FULL_BATCH_COST <= before + cost {
            self.full_batch.notify_one();
        }
    }

    pub(super) fn dequeue(&self, cost: usize) {
        self.queued.fetch_sub(cost, Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }
}

/// Counts a batch as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct LoadGuard {
    load: Arc<LaneLoad>,
    cost: usize,
    /// Held for a batch that is not full: a lane has only one of them in flight.
    _partial_batch: Option<OwnedSemaphorePermit>,
}

impl LoadGuard {
    pub(super) fn new(
        load: &Arc<LaneLoad>,
        cost: usize,
        partial_batch: Option<OwnedSemaphorePermit>,
    ) -> Self {
        load.in_flight.fetch_add(cost, Relaxed);
        Self { load: Arc::clone(load), cost, _partial_batch: partial_batch }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(self.cost, Relaxed);
    }
}
