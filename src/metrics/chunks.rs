//! Long texts, a piece at a time.

use std::iter;

/// How long a piece is at least, in bytes, but for the last.
const PIECE: usize = 64 << 10;

/// The pieces of a text. `write` adds a little to it whenever it is called, or adds
/// nothing and says that nothing is left.
pub fn text_chunks(mut write: impl FnMut(&mut String) -> bool) -> impl Iterator<Item = String> {
    iter::from_fn(move || {
        // With room for what goes beyond.
        let mut piece = String::with_capacity(PIECE + PIECE / 8);
        while piece.len() < PIECE && write(&mut piece) {}
        (!piece.is_empty()).then_some(piece)
    })
}
