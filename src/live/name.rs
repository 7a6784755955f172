//! The name of what is counted: a domain and the entries of a descriptor.

use std::hash::{Hash, Hasher};

use crate::descriptor::Entry;

/// The most bytes of a name that are kept, with one more for the length of each part.
const KEPT_BYTES: usize = 128;

/// A name as a request has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) domain: &'a [u8],
    pub(super) entries: &'a [Entry],
}

impl Hash for Name<'_> {
    /// Hashes the whole name, also what is not kept.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.domain.hash(state);
        for Entry { key, value } in self.entries {
            key.hash(state);
            value.hash(state);
        }
    }
}

/// A name in memory of a fixed size. Longer names lose their end.
#[derive(Clone, Debug)]
pub(super) struct StoredName {
    length: u8,
    is_cut: bool,
    /// Each part with its length before it: the domain, then keys and values in turn.
    bytes: [u8; KEPT_BYTES],
}

/// A name that is read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadName {
    /// The domain. Not always UTF-8.
    pub domain: Vec<u8>,
    /// The entries of the descriptor.
    pub entries: Vec<Entry>,
    /// The end of the name is missing, because it has more than 128 bytes.
    pub is_cut: bool,
}

impl StoredName {
    pub(super) fn new(name: Name<'_>) -> Self {
        let mut stored = Self { length: 0, is_cut: false, bytes: [0; KEPT_BYTES] };
        stored.set(name);
        stored
    }

    /// Replaces the name, without an allocation.
    pub(super) fn set(&mut self, name: Name<'_>) {
        (self.length, self.is_cut) = (0, false);
        self.push(name.domain);
        for Entry { key, value } in name.entries {
            if self.is_cut {
                return;
            }
            self.push(key);
            self.push(value);
        }
    }

    fn push(&mut self, part: &[u8]) {
        let free = self.bytes.len() - usize::from(self.length);
        if self.is_cut || free == 0 {
            self.is_cut = true;
            return;
        }
        let kept = part.len().min(free - 1);
        self.is_cut = kept < part.len();
        let start = usize::from(self.length);
        // Neither is above 128.
        let kept_byte = u8::try_from(kept).unwrap_or(u8::MAX);
        self.bytes[start] = kept_byte;
        self.bytes[start + 1..start + 1 + kept].copy_from_slice(&part[..kept]);
        self.length = self.length.saturating_add(kept_byte).saturating_add(1);
    }

    pub(super) fn read(&self) -> ReadName {
        let mut rest = &self.bytes[..usize::from(self.length)];
        let mut parts = Vec::new();
        while let Some((&length, more)) = rest.split_first() {
            let (part, more) = more.split_at(usize::from(length).min(more.len()));
            parts.push(part);
            rest = more;
        }
        let mut parts = parts.into_iter();
        let domain = parts.next().unwrap_or_default().to_vec();
        let mut entries = Vec::new();
        while let Some(key) = parts.next() {
            let value = parts.next().unwrap_or_default();
            entries.push(Entry { key: key.to_vec().into(), value: value.to_vec().into() });
        }
        ReadName { domain, entries, is_cut: self.is_cut }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (key, value) in pairs {
            entries.push(Entry { key: key.clone().into(), value: value.clone().into() });
        }
        entries
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_or_without_its_end(
            domain: Vec<u8>,
            pairs: Vec<(Vec<u8>, Vec<u8>)>,
            earlier: Vec<u8>,
        ) {
            let entries = entries(&pairs);
            let mut stored = StoredName::new(Name { domain: &earlier, entries: &[] });
            stored.set(Name { domain: &domain, entries: &entries });
            let read = stored.read();
            let needed = domain.len() + 1
                + pairs.iter().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>();
            prop_assert_eq!(read.is_cut, KEPT_BYTES < needed);
            if !read.is_cut {
                prop_assert_eq!(&read.domain, &domain);
                prop_assert_eq!(&read.entries, &entries);
            }
            prop_assert!(domain.starts_with(&read.domain));
            for (read, entry) in read.entries.iter().zip(&entries) {
                prop_assert!(entry.key.starts_with(&read.key));
                prop_assert!(entry.value.starts_with(&read.value));
            }
        }
    }
}
