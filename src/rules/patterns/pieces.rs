//! Finds the first of many patterns whose pieces a text contains in order.
//!
//! The algorithm of Aho and Corasick searches for the pieces of all patterns at
//! once. The first pass over the text collects the pieces that occur in it. That
//! decides the patterns with one piece. A pattern with several pieces is
//! possible only if the text contains its rarest piece, the one that the fewest
//! patterns have. The second pass searches for the possible patterns: it takes
//! each piece at its first occurrence after the piece before it, which leaves
//! the most text for the pieces that follow.
//!
//! So the time is that of two passes, plus a step for each pattern whose rarest
//! piece occurs. It does not grow with the product of text length and number of
//! patterns. If pieces end with other pieces (`a`, `ba`, `cba`), every piece
//! that ends at a position takes a step.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use self::automaton::{Automaton, ShorterPieces, to_u32};
use super::inner::{Inner, NO_POSITION};

mod automaton;

#[derive(Debug)]
pub(super) struct PieceMatcher {
    automaton: Automaton,
    pieces: Vec<PatternPiece>,
    /// The patterns with more than one piece, in the order of their positions.
    sequences: Vec<PieceSequence>,
    lowest_position: usize,
}

#[derive(Debug)]
struct PatternPiece {
    length_in_bytes: usize,
    /// The first position of a pattern that has only this piece, or
    /// [`NO_POSITION`].
    alone_position: usize,
    /// The sequences that have this as their rarest piece.
    rarest_of: Vec<u32>,
}

/// A pattern with more than one piece.
#[derive(Debug)]
struct PieceSequence {
    position: usize,
    /// Indexes into [`PieceMatcher::pieces`], in order.
    pieces: Vec<u32>,
}

/// A sequence in the course of the second pass.
struct SequenceProgress {
    sequence: u32,
    /// The number of pieces found so far.
    found: usize,
    /// The end of the last piece in the text.
    end: usize,
}

impl PieceMatcher {
    /// `patterns` must be in the order of their positions.
    pub(super) fn new(patterns: Vec<Inner>) -> Self {
        let mut matcher = Self {
            lowest_position: match patterns.first() {
                Some(first) => first.position,
                None => NO_POSITION,
            },
            automaton: Automaton::default(),
            pieces: Vec::new(),
            sequences: Vec::new(),
        };
        for Inner { position, pieces } in patterns {
            let mut numbers = Vec::with_capacity(pieces.len());
            for piece in &pieces {
                numbers.push(matcher.add_piece(piece));
            }
            if let [only] = *numbers {
                let piece = &mut matcher.pieces[only as usize];
                piece.alone_position = piece.alone_position.min(position);
            } else {
                matcher.sequences.push(PieceSequence { position, pieces: numbers });
            }
        }
        matcher.automaton.link();
        matcher.find_rarest_pieces();
        matcher
    }

    /// Returns the index of the piece, which is the same for equal pieces.
    fn add_piece(&mut self, bytes: &[u8]) -> u32 {
        let next = to_u32(self.pieces.len());
        let piece = self.automaton.insert(bytes, next);
        if piece == next {
            self.pieces.push(PatternPiece {
                length_in_bytes: bytes.len(),
                alone_position: NO_POSITION,
                rarest_of: Vec::new(),
            });
        }
        piece
    }

    fn find_rarest_pieces(&mut self) {
        let mut uses = vec![0_usize; self.pieces.len()];
        for sequence in &self.sequences {
            for &piece in &sequence.pieces {
                uses[piece as usize] += 1;
            }
        }
        for (number, sequence) in self.sequences.iter().enumerate() {
            if let Some(&rarest) = sequence.pieces.iter().min_by_key(|&&piece| uses[piece as usize])
            {
                self.pieces[rarest as usize].rarest_of.push(to_u32(number));
            }
        }
    }

    pub(super) fn lowest_position(&self) -> usize {
        self.lowest_position
    }

    /// The position of the first pattern whose pieces `text` contains in order,
    /// or `best` if that is lower.
    pub(super) fn first(&self, text: &[u8], mut best: usize) -> usize {
        let mut seen = HashSet::with_hasher(RandomState::default());
        let mut possible = Vec::new();
        self.automaton.scan(text, |number, _| {
            if !seen.insert(number) {
                // The shorter pieces were seen together with this one.
                return ShorterPieces::Skip;
            }
            let piece = &self.pieces[number as usize];
            best = best.min(piece.alone_position);
            possible.extend_from_slice(&piece.rarest_of);
            ShorterPieces::Visit
        });
        possible.retain(|&sequence| self.sequences[sequence as usize].position < best);
        if possible.is_empty() { best } else { self.first_sequence(text, best, &possible) }
    }

    /// Like [`Self::first`], but only for the sequences in `possible`.
    fn first_sequence(&self, text: &[u8], mut best: usize, possible: &[u32]) -> usize {
        // The sequences by the next piece that they need.
        let mut waiting: HashMap<u32, Vec<SequenceProgress>, RandomState> = HashMap::default();
        for &sequence in possible {
            let first_piece = self.sequences[sequence as usize].pieces[0];
            let progress = SequenceProgress { sequence, found: 0, end: 0 };
            waiting.entry(first_piece).or_default().push(progress);
        }
        self.automaton.scan(text, |number, end| {
            let start = end - self.pieces[number as usize].length_in_bytes;
            for mut progress in waiting.remove(&number).unwrap_or_default() {
                let sequence = &self.sequences[progress.sequence as usize];
                if best <= sequence.position {
                    continue;
                }
                if progress.end <= start {
                    progress.found += 1;
                    progress.end = end;
                }
                match sequence.pieces.get(progress.found) {
                    Some(&next) => waiting.entry(next).or_default().push(progress),
                    None => best = sequence.position,
                }
            }
            if waiting.is_empty() { ShorterPieces::Skip } else { ShorterPieces::Visit }
        });
        best
    }
}
