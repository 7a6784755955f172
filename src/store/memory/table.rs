//! A hash table that stays small: it grows and shrinks in small steps.
//!
//! It uses Robin Hood hashing: slots are in the order of their hashes, each as near to its
//! home position as those before it allow. A removal moves the slots after it back, and
//! leaves no tombstone, so that a table whose counters are replaced all the time does not
//! grow.

use super::slot::{COUNTER_BYTES, Key, Slot};

/// The size of the smallest table that is not empty.
const MIN_SLOTS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Slot>>,
    length: usize,
}

impl Table {
    /// The number of slots, including free ones.
    pub(super) fn size(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.iter().flatten().map(|slot| slot.counter.bytes()).sum()
    }

    /// The longest distance of a slot from its home position.
    #[cfg(test)]
    pub(super) fn max_distance(&self) -> usize {
        let mut max = 0;
        for (position, slot) in self.slots.iter().enumerate() {
            if let Some(slot) = slot {
                max = max.max(self.distance(slot, position));
            }
        }
        max
    }

    pub(super) fn get(&self, position: usize) -> Option<&Slot> {
        self.slots.get(position)?.as_ref()
    }

    /// The position of `key`.
    pub(super) fn find(&self, key: Key) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut position = self.home(key.hash);
        let mut distance = 0;
        loop {
            let slot = self.slots[position].as_ref()?;
            if slot.key() == key {
                return Some(position);
            }
            if self.distance(slot, position) < distance {
                return None;
            }
            position = self.next(position);
            distance += 1;
        }
    }

    pub(super) fn find_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let position = self.find(key)?;
        self.slots[position].as_mut()
    }

    /// Inserts a slot whose key is not in the table.
    pub(super) fn insert(&mut self, slot: Slot) {
        // At most seven of eight slots are in use.
        if self.slots.len() * 7 < (self.length + 1) * 8 {
            self.resize(self.slots.len() + self.slots.len() / 4);
        }
        self.length += 1;
        self.place(slot);
    }

    pub(super) fn remove(&mut self, position: usize) -> Option<Slot> {
        let removed = self.slots.get_mut(position)?.take()?;
        self.length -= 1;
        let mut hole = position;
        loop {
            let next = self.next(hole);
            match self.slots[next].take() {
                Some(slot) if self.distance(&slot, next) > 0 => self.slots[hole] = Some(slot),
                other => {
                    self.slots[next] = other;
                    break;
                }
            }
            hole = next;
        }
        // Nine of ten slots leave room for a while.
        if self.length * COUNTER_BYTES < self.slots.len() * size_of::<Option<Slot>>() {
            self.resize(self.slots.len() - self.slots.len() / 10);
        }
        Some(removed)
    }

    fn resize(&mut self, size: usize) {
        let size = size.max(MIN_SLOTS);
        if size == self.slots.len() {
            return;
        }
        let mut resized = Vec::with_capacity(size);
        resized.resize_with(size, || None);
        for slot in std::mem::replace(&mut self.slots, resized).into_iter().flatten() {
            self.place(slot);
        }
    }

    /// Puts a slot into its position, and moves others back. The table has a free slot.
    fn place(&mut self, mut slot: Slot) {
        let mut position = self.home(slot.key().hash);
        let mut distance = 0;
        loop {
            let present = match &self.slots[position] {
                Some(present) => self.distance(present, position),
                None => {
                    self.slots[position] = Some(slot);
                    return;
                }
            };
            if present < distance {
                let Some(displaced) = self.slots[position].replace(slot) else { return };
                slot = displaced;
                distance = present;
            }
            position = self.next(position);
            distance += 1;
        }
    }

    /// The position at which the search for a hash begins.
    pub(super) fn home(&self, hash: u64) -> usize {
        let scaled = (u128::from(hash) * self.slots.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// The distance of `position` from the slot's home position.
    fn distance(&self, slot: &Slot, position: usize) -> usize {
        let home = self.home(slot.key().hash);
        if home <= position { position - home } else { position + self.slots.len() - home }
    }

    /// The position after this one, cyclically.
    pub(super) fn next(&self, position: usize) -> usize {
        if position + 1 < self.slots.len() { position + 1 } else { 0 }
    }
}
