//! The bounds of the in-memory store.

use std::fmt;

use super::slot::COUNTER_BYTES;

/// The most that the in-memory store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The bound in bytes. Each counter counts as 100. Counters of `sliding_log` and
    /// `concurrency` also count the memory of their lists: 80 bytes, and 16 for each call.
    pub bytes: usize,
    /// The bound in counters. `None` for no such bound.
    pub keys: Option<usize>,
}

impl Bounds {
    /// The bytes that each counter counts as.
    pub const COUNTER: usize = COUNTER_BYTES;
}

impl fmt::Display for Bounds {
    /// The settings of the bounds, with their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MEMORY_MAX_BYTES ({})", self.bytes)?;
        match self.keys {
            Some(keys) => write!(f, " and MEMORY_MAX_KEYS ({keys})"),
            None => Ok(()),
        }
    }
}

impl Default for Bounds {
    /// 128 MiB.
    fn default() -> Self {
        Self { bytes: 1 << 27, keys: None }
    }
}
