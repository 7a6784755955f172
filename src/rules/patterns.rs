//! Many patterns, of which the first that matches is found without a look at each.
//!
//! Patterns are sorted by what stands before their first `*`, those that share it by
//! what stands behind their last `*`, and those that share both are one [`Group`]. So
//! a lookup is a binary search for each prefix that the text begins with, of which
//! one is usually empty and the others lie in one another, and then a look at each
//! suffix that the text ends with. In a group with many patterns that have pieces
//! between two `*`, all pieces are looked for at once, see [`Pieces`].
//!
//! So what a lookup costs grows with the logarithm of the number of patterns, and with
//! the length of the text. It is more only if many patterns nearly match the same
//! text: for each prefix of a pattern that begins with all shorter ones (`a*1`,
//! `aa*1`, `aaa*1`), and for patterns with several pieces each of which many others
//! have as well (`*a1*b1*`, `*a1*b2*`, `*a2*b1*`, ...).

use smallvec::SmallVec;

use self::{pieces::Pieces, stems::Stems};
use super::{
    INLINE,
    pattern::{Pattern, in_order},
};

mod pieces;
mod stems;

/// So many patterns of a group are tried one after the other.
const FEW: usize = 8;
/// The position of no pattern.
const NONE: usize = usize::MAX;

/// Patterns in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    /// By what stands before the first `*`, and by what stands behind the last one,
    /// backwards.
    groups: Stems<Stems<Group>>,
    longest_suffix: usize,
}

/// Patterns that differ only between their first and their last `*`.
#[derive(Debug)]
struct Group {
    /// The first one that has nothing there.
    plain: usize,
    others: Others,
}

/// Those that have pieces there.
#[derive(Debug)]
enum Others {
    /// In order.
    Few(Box<[Inner]>),
    Many(Box<Pieces>),
}

/// What stands between the first and the last `*` of a pattern.
#[derive(Debug)]
struct Inner {
    /// The position of the pattern.
    position: usize,
    /// In order. None is empty, and there is at least one.
    pieces: Vec<Box<[u8]>>,
}

impl Patterns {
    /// Sorts `patterns`, each of which has a `*`.
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self::grouped(patterns, FEW)
    }

    /// Tries no more than `few` patterns of a group one after the other.
    fn grouped(patterns: Vec<Pattern>, few: usize) -> Self {
        let mut longest_suffix = 0;
        let mut all = Vec::with_capacity(patterns.len());
        for (position, Pattern { prefix, mut middle, suffix }) in patterns.into_iter().enumerate() {
            middle.retain(|it| !it.is_empty());
            let mut suffix = suffix.unwrap_or_default();
            suffix.reverse();
            longest_suffix = longest_suffix.max(suffix.len());
            all.push((prefix, (suffix, Inner { position, pieces: middle })));
        }
        let group = |inner| Group::new(inner, few);
        let suffixes = |parts| Stems::group(parts, group, Group::lowest);
        let groups = Stems::group(all, suffixes, |it| it.lowest().unwrap_or(NONE));
        Self { groups, longest_suffix }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The position of the first pattern that matches all of `text`.
    pub(super) fn first(&self, text: &[u8]) -> Option<usize> {
        let end = text.iter().rev().take(self.longest_suffix);
        let backwards: SmallVec<[u8; INLINE]> = end.copied().collect();
        let mut best = NONE;
        for prefix in self.groups.of(text) {
            if best <= prefix.lowest {
                break;
            }
            for suffix in prefix.item.of(&backwards) {
                if best <= suffix.lowest {
                    break;
                }
                let (start, end) = (prefix.bytes.len(), text.len() - suffix.bytes.len());
                // They may not share letters.
                if let Some(inner) = text.get(start..end) {
                    best = suffix.item.first(inner, best);
                }
            }
        }
        (best != NONE).then_some(best)
    }
}

impl Group {
    fn new(patterns: Vec<Inner>, few: usize) -> Self {
        let mut plain = NONE;
        let mut others = Vec::new();
        for it in patterns {
            if it.pieces.is_empty() {
                plain = plain.min(it.position);
            } else {
                others.push(it);
            }
        }
        // Others may never be reached.
        others.retain(|it| it.position < plain);
        let others = match others.len() {
            many if few < many => Others::Many(Box::new(Pieces::new(others))),
            _ => Others::Few(others.into()),
        };
        Self { plain, others }
    }

    /// The lowest position of all.
    fn lowest(&self) -> usize {
        let others = match &self.others {
            Others::Few(list) => list.first().map_or(NONE, |it| it.position),
            Others::Many(pieces) => pieces.lowest(),
        };
        self.plain.min(others)
    }

    /// The position of the first pattern that matches with `text` between its first
    /// and its last `*`, or `best` if that is lower.
    fn first(&self, text: &[u8], best: usize) -> usize {
        let best = best.min(self.plain);
        match &self.others {
            Others::Few(list) => {
                let before = list.iter().take_while(|it| it.position < best);
                let found = before.into_iter().find(|it| in_order(&it.pieces, text));
                found.map_or(best, |it| it.position)
            }
            Others::Many(pieces) => pieces.first(text, best),
        }
    }
}

#[cfg(test)]
mod tests;
