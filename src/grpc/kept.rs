//! The memory that connections keep of calls that have ended: h2 has room for as many calls
//! as a connection ever had at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The memory that h2 keeps for each of the most calls at the same time.
const BYTES: usize = 1_280;

/// Calls at the same time that are not counted, so that ordinary connections keep nothing.
const FEW: usize = 16;

/// The memory that all connections keep.
#[derive(Clone, Debug)]
pub(super) struct AllKept {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// The memory that one of them keeps until it ends.
#[derive(Debug)]
pub(super) struct Kept {
    all: AllKept,
    bytes: usize,
}

impl AllKept {
    /// With a bound of half a budget of `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Arc::default(), most: most / 2 }
    }

    pub(super) fn connect(&self) -> Kept {
        Kept { all: self.clone(), bytes: 0 }
    }
}

impl Kept {
    /// The connection has so many calls. Returns false if it keeps more than before because
    /// of them, and all connections together keep too much.
    pub(super) fn note_calls(&mut self, calls: usize) -> bool {
        let bytes = calls.saturating_sub(FEW) * BYTES;
        let Some(more @ 1..) = bytes.checked_sub(self.bytes) else { return true };
        self.bytes = bytes;
        self.all.bytes.fetch_add(more, Relaxed) + more <= self.all.most
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_with_many_calls_beyond_the_bound_have_to_end() {
        let all = AllKept::new(200 * BYTES);
        let mut first = all.connect();
        assert!(first.note_calls(FEW + 100));
        // Fewer calls change nothing.
        assert!(first.note_calls(1));
        let (mut few, mut many) = (all.connect(), all.connect());
        assert!(few.note_calls(FEW));
        assert!(!many.note_calls(FEW + 1));
        drop((first, few));
        assert!(many.note_calls(FEW + 2));
        drop(many);
        assert_eq!(all.bytes.load(Relaxed), 0);
    }
}
