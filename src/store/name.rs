//! Names of counters, shortened for caches in this process.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::counter::CounterKey;

/// The longest name that is kept as it is, in bytes. Long names are replaced by their
/// SHA-256, because otherwise a few counters could take much memory.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// The name of `key` for use in a cache: unique, and at most [`MAX_NAME_BYTES`] long.
pub(super) fn short_name(key: &CounterKey) -> Cow<'_, [u8]> {
    let name = key.as_bytes();
    if name.len() <= MAX_NAME_BYTES {
        return Cow::Borrowed(name);
    }
    Cow::Owned(Sha256::digest(name).to_vec())
}
