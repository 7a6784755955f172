//! Notices that the caller of a request stops waiting.

use std::sync::Arc;

use super::{call::CallerStatus, settler::SettlementQueue};

/// A caller that waits for the results of its request. If it is dropped before
/// [`finish`](Self::finish), the request was cancelled: its hits are refunded.
#[derive(Debug)]
pub(super) struct CallerGuard<'a> {
    pub(super) status: Arc<CallerStatus>,
    settlements: &'a SettlementQueue,
    is_finished: bool,
}

impl<'a> CallerGuard<'a> {
    pub(super) fn new(settlements: &'a SettlementQueue) -> Self {
        Self { status: Arc::default(), settlements, is_finished: false }
    }

    /// The caller receives its results. `served` is whether its request passed.
    pub(super) fn finish(mut self, served: bool) {
        self.settlements.refund_unread(self.status.finish(served));
        self.is_finished = true;
    }
}

impl Drop for CallerGuard<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Calls in flight share the status, so it is dropped after the last reply.
            let pending = self.settlements.pending_request();
            self.settlements.refund_unread(self.status.cancel(pending));
        }
    }
}
