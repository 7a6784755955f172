//! Long texts in chunks, so that a page is never in memory as a whole.

use std::iter;

/// The size in bytes from which a chunk is complete.
const CHUNK_BYTES: usize = 64 << 10;

/// Splits a text into chunks of at least 64 KiB; only the last may be shorter. `write`
/// appends the next part of the text, and returns `false` without appending at its end.
pub fn text_chunks(mut write: impl FnMut(&mut String) -> bool) -> impl Iterator<Item = String> {
    iter::from_fn(move || {
        // The last part of a chunk may exceed the size.
        let mut chunk = String::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        while chunk.len() < CHUNK_BYTES && write(&mut chunk) {}
        if chunk.is_empty() { None } else { Some(chunk) }
    })
}
