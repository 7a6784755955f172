//! Finds the first of many patterns whose pieces a text has, one behind the other.
//!
//! The pieces of all patterns are looked for at once, by the algorithm of Aho and
//! Corasick. A first pass over the text tells which pieces it has at all. A pattern
//! of one piece is decided by that. One of several is looked at only if the text has
//! that piece of it which the fewest others have. For all those, a second pass takes
//! each piece at the first place behind the piece before it, which leaves the most
//! for those that follow.
//!
//! So the time is that of two passes, and of the patterns whose rarest piece the text
//! has; it does not grow with the product of both. Where pieces end with one another
//! (`a`, `ba`, `cba`), each of those that end at one place takes a step.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use self::automaton::{Automaton, number};
use super::{Inner, NONE};

mod automaton;

#[derive(Debug)]
pub(super) struct Pieces {
    automaton: Automaton,
    pieces: Vec<Piece>,
    /// Of several pieces, in order.
    patterns: Vec<Pattern>,
    lowest: usize,
}

#[derive(Debug)]
struct Piece {
    length: usize,
    /// The position of the first pattern that has this piece alone.
    alone: usize,
    /// The patterns of which no piece is rarer.
    rarest_of: Vec<u32>,
}

#[derive(Debug)]
struct Pattern {
    position: usize,
    /// In order.
    pieces: Vec<u32>,
}

/// A pattern that waits for its next piece.
struct Waiting {
    pattern: u32,
    /// How many of its pieces have been found.
    found: usize,
    /// Where the last one ends.
    end: usize,
}

impl Pieces {
    /// Takes patterns in order.
    pub(super) fn new(patterns: Vec<Inner>) -> Self {
        let mut this = Self {
            lowest: patterns.first().map_or(NONE, |it| it.position),
            automaton: Automaton::default(),
            pieces: Vec::new(),
            patterns: Vec::new(),
        };
        for Inner { position, pieces } in patterns {
            let pieces: Vec<_> = pieces.iter().map(|it| this.piece(it)).collect();
            if let [only] = *pieces {
                let alone = &mut this.pieces[only as usize].alone;
                *alone = position.min(*alone);
            } else {
                this.patterns.push(Pattern { position, pieces });
            }
        }
        this.automaton.link();
        this.find_rarest();
        this
    }

    /// The number of this piece.
    fn piece(&mut self, bytes: &[u8]) -> u32 {
        let new = number(self.pieces.len());
        let piece = self.automaton.insert(bytes, new);
        if piece == new {
            self.pieces.push(Piece { length: bytes.len(), alone: NONE, rarest_of: Vec::new() });
        }
        piece
    }

    fn find_rarest(&mut self) {
        let mut uses = vec![0_usize; self.pieces.len()];
        for pattern in &self.patterns {
            pattern.pieces.iter().for_each(|&it| uses[it as usize] += 1);
        }
        for (at, pattern) in self.patterns.iter().enumerate() {
            if let Some(&rarest) = pattern.pieces.iter().min_by_key(|&&it| uses[it as usize]) {
                self.pieces[rarest as usize].rarest_of.push(number(at));
            }
        }
    }

    /// The lowest position of a pattern.
    pub(super) fn lowest(&self) -> usize {
        self.lowest
    }

    /// The position of the first pattern whose pieces `text` has, or `best` if that is
    /// lower.
    pub(super) fn first(&self, text: &[u8], mut best: usize) -> usize {
        let mut seen = HashSet::with_hasher(RandomState::default());
        let mut possible = Vec::new();
        self.automaton.scan(text, |number, _| {
            // With it, whatever it ends with was seen.
            let is_new = seen.insert(number);
            if is_new {
                let piece = &self.pieces[number as usize];
                best = best.min(piece.alone);
                possible.extend_from_slice(&piece.rarest_of);
            }
            is_new
        });
        possible.retain(|&it| self.patterns[it as usize].position < best);
        if possible.is_empty() { best } else { self.first_in_order(text, best, &possible) }
    }

    /// The same, of the patterns in `possible`.
    fn first_in_order(&self, text: &[u8], mut best: usize, possible: &[u32]) -> usize {
        let mut waiting: HashMap<u32, Vec<Waiting>, RandomState> = HashMap::default();
        for &pattern in possible {
            let first = self.patterns[pattern as usize].pieces[0];
            waiting.entry(first).or_default().push(Waiting { pattern, found: 0, end: 0 });
        }
        self.automaton.scan(text, |number, end| {
            let start = end - self.pieces[number as usize].length;
            for mut it in waiting.remove(&number).unwrap_or_default() {
                let pattern = &self.patterns[it.pattern as usize];
                if best <= pattern.position {
                    continue;
                }
                if it.end <= start {
                    it.found += 1;
                    it.end = end;
                }
                match pattern.pieces.get(it.found) {
                    Some(&next) => waiting.entry(next).or_default().push(it),
                    None => best = pattern.position,
                }
            }
            !waiting.is_empty()
        });
        best
    }
}
