//! Patterns that differ only between their first and their last `*`.

use super::{
    super::pattern::contains_in_order,
    inner::{Inner, NO_POSITION},
    pieces::PieceMatcher,
};

#[derive(Debug)]
pub(super) struct PatternGroup {
    /// The first position of a pattern without pieces, or [`NO_POSITION`].
    without_pieces: usize,
    with_pieces: WithPieces,
}

/// The patterns with pieces, in the order of their positions.
#[derive(Debug)]
enum WithPieces {
    Few(Box<[Inner]>),
    Many(Box<PieceMatcher>),
}

impl PatternGroup {
    /// Up to `max_scanned` patterns are tested one by one.
    pub(super) fn new(patterns: Vec<Inner>, max_scanned: usize) -> Self {
        let mut without_pieces = NO_POSITION;
        let mut with_pieces = Vec::new();
        for pattern in patterns {
            if pattern.pieces.is_empty() {
                without_pieces = without_pieces.min(pattern.position);
            } else {
                with_pieces.push(pattern);
            }
        }
        // A pattern without pieces matches whatever a later pattern could match.
        with_pieces.retain(|pattern| pattern.position < without_pieces);
        let with_pieces = if with_pieces.len() > max_scanned {
            WithPieces::Many(Box::new(PieceMatcher::new(with_pieces)))
        } else {
            WithPieces::Few(with_pieces.into())
        };
        Self { without_pieces, with_pieces }
    }

    pub(super) fn lowest_position(&self) -> usize {
        let lowest = match &self.with_pieces {
            WithPieces::Few(patterns) => match patterns.first() {
                Some(first) => first.position,
                None => NO_POSITION,
            },
            WithPieces::Many(matcher) => matcher.lowest_position(),
        };
        self.without_pieces.min(lowest)
    }

    /// The position of the first pattern that matches if `text` is the text
    /// between prefix and suffix, or `best` if that is lower.
    pub(super) fn first(&self, text: &[u8], best: usize) -> usize {
        let best = best.min(self.without_pieces);
        match &self.with_pieces {
            WithPieces::Few(patterns) => {
                for pattern in patterns {
                    if best <= pattern.position {
                        break;
                    }
                    if contains_in_order(text, &pattern.pieces) {
                        return pattern.position;
                    }
                }
                best
            }
            WithPieces::Many(matcher) => matcher.first(text, best),
        }
    }
}
