//! The part of a pattern that its prefix and suffix leave.

/// A position after that of every pattern.
pub(super) const NO_POSITION: usize = usize::MAX;

/// The part of a pattern between its first and its last `*`.
#[derive(Debug)]
pub(super) struct Inner {
    /// The position of the pattern in the whole list.
    pub(super) position: usize,
    /// The texts between two `*`, in order. None of them is empty.
    pub(super) pieces: Vec<Box<[u8]>>,
}
