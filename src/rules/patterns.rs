//! Finds the first of many patterns that matches, without testing each.
//!
//! Patterns are grouped by their prefix (the text before the first `*`), and
//! then by their suffix (the text after the last `*`). Patterns with the same
//! prefix and suffix are one [`PatternGroup`]. A lookup is a binary search for
//! all prefixes that the text starts with, and for each of them a binary search
//! for all suffixes that the text ends with. If many patterns of a group have
//! pieces between their first and their last `*`, all pieces are searched at
//! once, see [`PieceMatcher`].
//!
//! The time of a lookup grows with the logarithm of the number of patterns and
//! with the length of the text. It is longer only if many patterns nearly match
//! the same text: a lookup tries each prefix that is the start of another one
//! (`a*1`, `aa*1`, `aaa*1`), and each pattern whose pieces also occur in many
//! other patterns (`*a1*b1*`, `*a1*b2*`, `*a2*b1*`).

use self::{
    group::PatternGroup,
    inner::{Inner, NO_POSITION},
    prefixes::PrefixIndex,
};
use super::pattern::{Pattern, TextBuffer};

mod group;
mod inner;
mod pieces;
mod prefixes;

/// The number of patterns of a group up to which each is tested by itself.
const MAX_SCANNED: usize = 8;

/// A list of patterns. A position is the index of a pattern in this list.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    /// The groups by prefix, then by suffix. Suffixes are reversed.
    groups: PrefixIndex<PrefixIndex<PatternGroup>>,
    /// The length of the longest suffix, in bytes.
    longest_suffix: usize,
}

/// A pattern while the list is being grouped.
struct Unsorted {
    reversed_suffix: Box<[u8]>,
    inner: Inner,
}

impl Patterns {
    /// Groups `patterns`. Every pattern must have a `*`.
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self::with_max_scanned(patterns, MAX_SCANNED)
    }

    fn with_max_scanned(patterns: Vec<Pattern>, max_scanned: usize) -> Self {
        let mut longest_suffix = 0;
        let mut by_prefix = Vec::with_capacity(patterns.len());
        for (position, Pattern { prefix, mut middle, suffix }) in patterns.into_iter().enumerate() {
            middle.retain(|piece| !piece.is_empty());
            let mut reversed_suffix = suffix.unwrap_or_default();
            reversed_suffix.reverse();
            longest_suffix = longest_suffix.max(reversed_suffix.len());
            let inner = Inner { position, pieces: middle };
            by_prefix.push((prefix, Unsorted { reversed_suffix, inner }));
        }
        let groups = PrefixIndex::new(by_prefix, |same_prefix| {
            let groups = group_by_suffix(same_prefix, max_scanned);
            let lowest = groups.lowest_position().unwrap_or(NO_POSITION);
            (groups, lowest)
        });
        Self { groups, longest_suffix }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The position of the first pattern that matches the whole of `text`.
    pub(super) fn first(&self, text: &[u8]) -> Option<usize> {
        let mut reversed_end = TextBuffer::new();
        reversed_end.extend(text.iter().rev().take(self.longest_suffix).copied());
        let mut best = NO_POSITION;
        for prefix in self.groups.starts_of(text) {
            if best <= prefix.lowest_position {
                break;
            }
            for suffix in prefix.item.starts_of(&reversed_end) {
                if best <= suffix.lowest_position {
                    break;
                }
                let (start, end) = (prefix.bytes.len(), text.len() - suffix.bytes.len());
                // `get` is `None` if prefix and suffix overlap.
                if let Some(inner_text) = text.get(start..end) {
                    best = suffix.item.first(inner_text, best);
                }
            }
        }
        (best != NO_POSITION).then_some(best)
    }
}

fn group_by_suffix(patterns: Vec<Unsorted>, max_scanned: usize) -> PrefixIndex<PatternGroup> {
    let mut by_suffix = Vec::with_capacity(patterns.len());
    for Unsorted { reversed_suffix, inner } in patterns {
        by_suffix.push((reversed_suffix, inner));
    }
    PrefixIndex::new(by_suffix, |same_suffix| {
        let group = PatternGroup::new(same_suffix, max_scanned);
        let lowest = group.lowest_position();
        (group, lowest)
    })
}

#[cfg(test)]
mod tests;
