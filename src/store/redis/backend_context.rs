//! State that the connections to all servers of one backend share.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use super::{in_flight::InFlight, run_clock::RunClock, settler::SettlementQueue};
use crate::{store::PoolUsage, warnings::LineBudget};

/// Handles to the shared state. Clones refer to the same state.
#[derive(Clone, Debug)]
pub(super) struct BackendContext {
    pub(super) run_clock: RunClock,
    pub(super) in_flight: InFlight,
    pub(super) settlements: SettlementQueue,
    /// Of the lines about connections. A cluster may have any number of nodes, and name new
    /// ones at any time.
    pub(super) log_lines: Arc<LineBudget>,
    /// Replies of servers that are out of memory.
    pub(super) out_of_memory: Arc<AtomicU64>,
    connections: Arc<ConnectionCounts>,
}

#[derive(Debug, Default)]
struct ConnectionCounts {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// An open connection, in the statistics. Counts as closed when it is dropped.
#[derive(Debug)]
pub(super) struct OpenGuard(Arc<ConnectionCounts>);

impl BackendContext {
    pub(super) fn new(run_clock: RunClock, settlements: SettlementQueue) -> Self {
        let in_flight = InFlight::default();
        let log_lines = LineBudget::new("lines about connections to Redis were left out");
        Self {
            run_clock,
            in_flight,
            settlements,
            log_lines: Arc::new(log_lines),
            out_of_memory: Arc::default(),
            connections: Arc::default(),
        }
    }

    /// Counts an open connection.
    pub(super) fn open_connection(&self) -> OpenGuard {
        self.connections.opened.fetch_add(1, SeqCst);
        OpenGuard(Arc::clone(&self.connections))
    }

    /// Returns the counts of connections and of their replies; all other fields are zero.
    pub(super) fn connection_usage(&self) -> PoolUsage {
        // In this order, `opened` is never less than `closed`.
        let closed = self.connections.closed.load(SeqCst);
        let opened = self.connections.opened.load(SeqCst);
        let out_of_memory = self.out_of_memory.load(SeqCst);
        let active = opened - closed;
        PoolUsage { active, opened, closed, out_of_memory, ..PoolUsage::default() }
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}
