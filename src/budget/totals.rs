//! The sums of the bytes of several connections.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Bytes;

/// The sums of the bytes of several connections.
#[derive(Debug, Default)]
pub(super) struct Totals {
    deciding: AtomicUsize,
    waiting: AtomicUsize,
    /// All bytes of connections that are being closed, which count nowhere else.
    closing: AtomicUsize,
}

impl Totals {
    pub(super) fn deciding(&self) -> usize {
        self.deciding.load(Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    pub(super) fn closing(&self) -> usize {
        self.closing.load(Relaxed)
    }

    /// All bytes of connections that are not being closed.
    pub(super) fn open(&self) -> usize {
        self.deciding() + self.waiting()
    }

    /// Counts the difference between two states of a connection.
    pub(super) fn update(&self, before: Bytes, after: Bytes) {
        let (before, after) = (parts(before), parts(after));
        let totals = [&self.deciding, &self.waiting, &self.closing];
        for (total, (before, after)) in totals.into_iter().zip(before.into_iter().zip(after)) {
            // An atomic counter wraps around, so a decrease is an increase.
            if before != after {
                total.fetch_add(after.wrapping_sub(before), Relaxed);
            }
        }
    }
}

/// The bytes of a connection in each total.
fn parts(bytes: Bytes) -> [usize; 3] {
    let (deciding, waiting) = (bytes.deciding, bytes.all_waiting());
    if bytes.closed { [0, 0, deciding + waiting] } else { [deciding, waiting, 0] }
}
