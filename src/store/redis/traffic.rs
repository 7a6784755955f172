//! How many connections there are, and were.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use crate::store::PoolUsage;

/// The connections to all servers of one Redis.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// An open connection. It is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Traffic {
    /// Counts one more.
    pub(super) fn open(&self) -> Open {
        self.0.opened.fetch_add(1, SeqCst);
        Open(Arc::clone(&self.0))
    }

    /// What there is and was.
    pub(super) fn usage(&self) -> PoolUsage {
        // In this order never more are closed than were opened.
        let closed = self.0.closed.load(SeqCst);
        let opened = self.0.opened.load(SeqCst);
        PoolUsage { active: opened - closed, opened, closed, ..PoolUsage::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}
