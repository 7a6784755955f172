//! Finds all texts that another one begins with.

use std::iter;

/// Different texts, in order.
#[derive(Debug)]
pub(super) struct Stems<T> {
    all: Vec<Stem<T>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stem<T> {
    pub(super) bytes: Box<[u8]>,
    /// The position of the longest other one that this begins with.
    shorter: Option<usize>,
    /// The lowest position of a pattern of this, or of any that this begins with.
    pub(super) lowest: usize,
    pub(super) item: T,
}

impl<T> Default for Stems<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<T> Stems<T> {
    /// Sorts `parts` by text, and makes one item of all that have the same. `lowest`
    /// is the lowest position of a pattern in an item. The order of parts that have
    /// the same text is kept.
    pub(super) fn group<P>(
        mut parts: Vec<(Box<[u8]>, P)>,
        item: impl Fn(Vec<P>) -> T,
        lowest: impl Fn(&T) -> usize,
    ) -> Self {
        parts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut stems = Self::default();
        let mut parts = parts.into_iter().peekable();
        while let Some((bytes, part)) = parts.next() {
            let mut same = vec![part];
            while let Some((_, part)) = parts.next_if(|(it, _)| *it == bytes) {
                same.push(part);
            }
            let item = item(same);
            stems.push(bytes, lowest(&item), item);
        }
        stems
    }

    /// Adds what comes after all others.
    fn push(&mut self, bytes: Box<[u8]>, lowest: usize, item: T) {
        let mut shorter = self.all.len().checked_sub(1);
        while let Some(at) = shorter.filter(|&it| !bytes.starts_with(&self.all[it].bytes)) {
            shorter = self.all[at].shorter;
        }
        let lowest = shorter.map_or(lowest, |it| lowest.min(self.all[it].lowest));
        self.all.push(Stem { bytes, shorter, lowest, item });
    }

    /// The lowest position of a pattern.
    pub(super) fn lowest(&self) -> Option<usize> {
        self.all.iter().map(|it| it.lowest).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that `text` begins with, the longest first.
    pub(super) fn of(&self, text: &[u8]) -> impl Iterator<Item = &Stem<T>> {
        // Whatever stands between a text and its beginning has this beginning, too.
        let mut at = self.all.partition_point(|it| *it.bytes <= *text).checked_sub(1);
        let last = at.map_or(&[][..], |it| &self.all[it].bytes);
        let common = text.iter().zip(last).take_while(|(a, b)| a == b).count();
        while let Some(longer) = at.filter(|&it| common < self.all[it].bytes.len()) {
            at = self.all[longer].shorter;
        }
        let first = at.map(|it| &self.all[it]);
        iter::successors(first, |it| it.shorter.map(|it| &self.all[it]))
    }
}
