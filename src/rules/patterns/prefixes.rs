//! Finds all texts of a set that are the start of another text.

/// Different texts, each with an item.
#[derive(Debug)]
pub(super) struct PrefixIndex<T> {
    /// In the order of their bytes.
    prefixes: Vec<Prefix<T>>,
}

#[derive(Debug)]
pub(super) struct Prefix<T> {
    pub(super) bytes: Box<[u8]>,
    /// The index of the longest other prefix that is the start of this one.
    shorter: Option<usize>,
    /// The lowest position of a pattern in the items of this prefix and of all
    /// prefixes that are the start of it.
    pub(super) lowest_position: usize,
    pub(super) item: T,
}

impl<T> Default for PrefixIndex<T> {
    fn default() -> Self {
        Self { prefixes: Vec::new() }
    }
}

impl<T> PrefixIndex<T> {
    /// Makes one item of all values with the same text. `item` receives the
    /// values in their order, and returns the item and the lowest position of a
    /// pattern in it.
    pub(super) fn new<V>(
        mut values: Vec<(Box<[u8]>, V)>,
        item: impl Fn(Vec<V>) -> (T, usize),
    ) -> Self {
        // The sort must be stable to keep the order of values with the same text.
        values.sort_by(|(first, _), (second, _)| first.cmp(second));
        let mut index = Self::default();
        let mut values = values.into_iter().peekable();
        while let Some((bytes, value)) = values.next() {
            let mut same_text = vec![value];
            while let Some((_, value)) = values.next_if(|(other, _)| *other == bytes) {
                same_text.push(value);
            }
            let (item, lowest_position) = item(same_text);
            index.push(bytes, item, lowest_position);
        }
        index
    }

    /// Adds a text that sorts after all others.
    fn push(&mut self, bytes: Box<[u8]>, item: T, mut lowest_position: usize) {
        let mut shorter = self.prefixes.len().checked_sub(1);
        while let Some(index) = shorter {
            let candidate = &self.prefixes[index];
            if bytes.starts_with(&candidate.bytes) {
                lowest_position = lowest_position.min(candidate.lowest_position);
                break;
            }
            shorter = candidate.shorter;
        }
        self.prefixes.push(Prefix { bytes, shorter, lowest_position, item });
    }

    /// The lowest position of a pattern in all items.
    pub(super) fn lowest_position(&self) -> Option<usize> {
        self.prefixes.iter().map(|prefix| prefix.lowest_position).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The prefixes that `text` starts with, the longest first.
    pub(super) fn starts_of(&self, text: &[u8]) -> StartsOf<'_, T> {
        // The last prefix that does not sort after `text` shares its longest
        // start with `text`, so all prefixes of `text` are prefixes of it, too.
        let mut next =
            self.prefixes.partition_point(|prefix| *prefix.bytes <= *text).checked_sub(1);
        if let Some(last) = next {
            let common = common_length(text, &self.prefixes[last].bytes);
            while let Some(index) = next {
                if self.prefixes[index].bytes.len() <= common {
                    break;
                }
                next = self.prefixes[index].shorter;
            }
        }
        StartsOf { index: self, next }
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    while length < a.len() && length < b.len() && a[length] == b[length] {
        length += 1;
    }
    length
}

/// Yields prefixes from the longest to the shortest.
pub(super) struct StartsOf<'i, T> {
    index: &'i PrefixIndex<T>,
    next: Option<usize>,
}

impl<'i, T> Iterator for StartsOf<'i, T> {
    type Item = &'i Prefix<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let prefix = &self.index.prefixes[self.next?];
        self.next = prefix.shorter;
        Some(prefix)
    }
}
