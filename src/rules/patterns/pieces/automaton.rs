//! Finds all places of many pieces in one pass, by the algorithm of Aho and Corasick.

use std::{
    collections::{HashMap, hash_map},
    iter,
};

use foldhash::fast::RandomState;

/// The tree of all pieces, letter by letter. There are fewer nodes than letters.
#[derive(Debug)]
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The node behind a letter.
    next: HashMap<(u32, u8), u32, RandomState>,
}

#[derive(Debug)]
struct Node {
    /// The piece that ends here, or [`NONE`].
    piece: u32,
    /// The longest other node with whose letters those of this one end.
    shorter: u32,
    /// The longest node at which a piece ends, this one or one with whose letters
    /// those of this one end; or [`ROOT`].
    ends: u32,
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

impl Node {
    const NEW: Self = Self { piece: NONE, shorter: ROOT, ends: ROOT };
}

impl Default for Automaton {
    fn default() -> Self {
        Self { nodes: vec![Node::NEW], next: HashMap::default() }
    }
}

/// What there are too many of would not fit into memory either.
pub(super) fn number(it: usize) -> u32 {
    u32::try_from(it).unwrap_or(NONE)
}

impl Automaton {
    /// The number of this piece, which is not empty: `new` if it is that.
    pub(super) fn insert(&mut self, piece: &[u8], new: u32) -> u32 {
        let mut at = ROOT;
        for &letter in piece {
            at = match self.next.entry((at, letter)) {
                hash_map::Entry::Occupied(it) => *it.get(),
                hash_map::Entry::Vacant(it) => {
                    let node = number(self.nodes.len());
                    self.nodes.push(Node::NEW);
                    *it.insert(node)
                }
            };
        }
        let node = &mut self.nodes[at as usize];
        if node.piece == NONE {
            node.piece = new;
        }
        node.piece
    }

    /// Has to be called when all pieces are there, once.
    pub(super) fn link(&mut self) {
        let mut below = vec![Vec::new(); self.nodes.len()];
        for (&(from, letter), &to) in &self.next {
            below[from as usize].push((letter, to));
        }
        let mut queue = vec![ROOT];
        let mut done = 0;
        // Shorter ones first.
        while let Some(&from) = queue.get(done) {
            for &(letter, to) in &below[from as usize] {
                let shorter = match from {
                    ROOT => ROOT,
                    _ => self.step(self.nodes[from as usize].shorter, letter),
                };
                let ends = self.nodes[shorter as usize].ends;
                let node = &mut self.nodes[to as usize];
                node.shorter = shorter;
                node.ends = if node.piece == NONE { ends } else { to };
                queue.push(to);
            }
            done += 1;
        }
    }

    /// The longest node with whose letters those of `at` and `letter` end.
    fn step(&self, mut at: u32, letter: u8) -> u32 {
        loop {
            match self.next.get(&(at, letter)) {
                Some(&next) => return next,
                None if at == ROOT => return ROOT,
                None => at = self.nodes[at as usize].shorter,
            }
        }
    }

    /// Tells `found` of all places of pieces in `text`, by their end: which piece it
    /// is, and where it ends. Of those that end at one place the longest comes first,
    /// and the others do only if `found` says so.
    pub(super) fn scan(&self, text: &[u8], mut found: impl FnMut(u32, usize) -> bool) {
        let mut at = ROOT;
        for (end, &letter) in iter::zip(1.., text) {
            at = self.step(at, letter);
            let mut ending = self.nodes[at as usize].ends;
            while ending != ROOT {
                let node = &self.nodes[ending as usize];
                if !found(node.piece, end) {
                    break;
                }
                ending = self.nodes[node.shorter as usize].ends;
            }
        }
    }
}
