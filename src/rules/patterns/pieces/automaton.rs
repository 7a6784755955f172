//! Finds all occurrences of many pieces in one pass over a text, by the
//! algorithm of Aho and Corasick.

use std::{
    collections::{HashMap, hash_map},
    iter,
};

use foldhash::fast::RandomState;

/// A trie of all pieces. The path from the root to a node spells a text, the
/// start of at least one piece.
#[derive(Debug)]
pub(super) struct Automaton {
    nodes: Vec<TrieNode>,
    /// The child of a node for each next byte.
    children: HashMap<(u32, u8), u32, RandomState>,
}

#[derive(Debug)]
struct TrieNode {
    /// The piece that the path spells, or [`NO_PIECE`].
    piece: u32,
    /// The node with the longest text that is a proper suffix of this one's.
    suffix: u32,
    /// The node with the longest text that is a piece and a suffix of this
    /// one's, which may be this node; [`ROOT`] if there is none.
    longest_piece: u32,
}

/// The answer of a visitor of [`Automaton::scan`].
pub(super) enum ShorterPieces {
    /// Visit the shorter pieces that end at the same position.
    Visit,
    /// Continue with the next position.
    Skip,
}

const ROOT: u32 = 0;
const NO_PIECE: u32 = u32::MAX;

impl TrieNode {
    const NEW: Self = Self { piece: NO_PIECE, suffix: ROOT, longest_piece: ROOT };
}

impl Default for Automaton {
    fn default() -> Self {
        Self { nodes: vec![TrieNode::NEW], children: HashMap::default() }
    }
}

/// Converts an index. More than `u32::MAX` pieces do not fit into memory.
pub(super) fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NO_PIECE)
}

impl Automaton {
    /// Adds a piece, which must not be empty. Returns its number: `new_number`,
    /// or the number of the same piece if that was added before.
    pub(super) fn insert(&mut self, piece: &[u8], new_number: u32) -> u32 {
        let mut current = ROOT;
        for &byte in piece {
            current = match self.children.entry((current, byte)) {
                hash_map::Entry::Occupied(child) => *child.get(),
                hash_map::Entry::Vacant(slot) => {
                    let node = to_u32(self.nodes.len());
                    self.nodes.push(TrieNode::NEW);
                    *slot.insert(node)
                }
            };
        }
        let node = &mut self.nodes[current as usize];
        if node.piece == NO_PIECE {
            node.piece = new_number;
        }
        node.piece
    }

    /// Links the nodes. Must be called once, after the last piece was added.
    pub(super) fn link(&mut self) {
        let mut edges = vec![Vec::new(); self.nodes.len()];
        for (&(from, byte), &to) in &self.children {
            edges[from as usize].push((byte, to));
        }
        // Breadth first, since a link leads to a node with a shorter text.
        let mut queue = vec![ROOT];
        let mut visited = 0;
        while let Some(&from) = queue.get(visited) {
            for &(byte, to) in &edges[from as usize] {
                let suffix = match from {
                    ROOT => ROOT,
                    _ => self.step(self.nodes[from as usize].suffix, byte),
                };
                let longest_piece = self.nodes[suffix as usize].longest_piece;
                let node = &mut self.nodes[to as usize];
                node.suffix = suffix;
                node.longest_piece = if node.piece == NO_PIECE { longest_piece } else { to };
                queue.push(to);
            }
            visited += 1;
        }
    }

    /// The node with the longest text that is a suffix of the text of `current`
    /// followed by `byte`.
    fn step(&self, mut current: u32, byte: u8) -> u32 {
        loop {
            match self.children.get(&(current, byte)) {
                Some(&child) => return child,
                None if current == ROOT => return ROOT,
                None => current = self.nodes[current as usize].suffix,
            }
        }
    }

    /// Calls `visit` with the number and the end of each occurrence of a piece
    /// in `text`, in the order of the ends, and the longest piece first.
    pub(super) fn scan(&self, text: &[u8], mut visit: impl FnMut(u32, usize) -> ShorterPieces) {
        let mut current = ROOT;
        for (end, &byte) in iter::zip(1.., text) {
            current = self.step(current, byte);
            let mut occurrence = self.nodes[current as usize].longest_piece;
            while occurrence != ROOT {
                let node = &self.nodes[occurrence as usize];
                if matches!(visit(node.piece, end), ShorterPieces::Skip) {
                    break;
                }
                occurrence = self.nodes[node.suffix as usize].longest_piece;
            }
        }
    }
}
