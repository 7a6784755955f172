//! A hash table that is never much larger than what it holds.
//!
//! Names are in the order of their hashes, each as near to its place as those before it
//! allow (Robin Hood hashing), and close up when one goes: nothing is left behind by what
//! has gone, so a table that is replaced all the time does not grow.

use super::slot::{COUNTER, Key, Slot};

/// The least places that there are if there are any.
const LEAST: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Option<Slot>>,
    length: usize,
}

impl Table {
    /// How many places there are, free ones included.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// What all that is there counts as.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.places.iter().flatten().map(|it| it.counter.bytes()).sum()
    }

    /// How far a counter is from its place at most.
    #[cfg(test)]
    pub(super) fn farthest(&self) -> usize {
        let distance = |(at, it): (usize, &Option<Slot>)| Some(self.distance(it.as_ref()?, at));
        self.places.iter().enumerate().filter_map(distance).max().unwrap_or(0)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Slot> {
        self.places.get(at)?.as_ref()
    }

    pub(super) fn find(&self, key: Key) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(key.hash);
        let mut distance = 0;
        loop {
            let slot = self.places[at].as_ref()?;
            if slot.key() == key {
                return Some(at);
            }
            if self.distance(slot, at) < distance {
                return None;
            }
            at = self.next(at);
            distance += 1;
        }
    }

    pub(super) fn find_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let at = self.find(key)?;
        self.places[at].as_mut()
    }

    /// Keeps `slot`, whose name is not there.
    pub(super) fn insert(&mut self, slot: Slot) {
        // Seven of eight places may be taken.
        if self.places.len() * 7 < (self.length + 1) * 8 {
            self.resize(self.places.len() + self.places.len() / 4);
        }
        self.length += 1;
        self.place(slot);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Slot> {
        let removed = self.places.get_mut(at)?.take()?;
        self.length -= 1;
        let mut hole = at;
        loop {
            let next = self.next(hole);
            match self.places[next].take() {
                Some(slot) if self.distance(&slot, next) > 0 => self.places[hole] = Some(slot),
                other => {
                    self.places[next] = other;
                    break;
                }
            }
            hole = next;
        }
        // With 9 of 10 places left there is room for a while.
        if self.length * COUNTER < self.places.len() * size_of::<Option<Slot>>() {
            self.resize(self.places.len() - self.places.len() / 10);
        }
        Some(removed)
    }

    fn resize(&mut self, places: usize) {
        let places = places.max(LEAST);
        if places == self.places.len() {
            return;
        }
        let mut resized = Vec::with_capacity(places);
        resized.resize_with(places, || None);
        for slot in std::mem::replace(&mut self.places, resized).into_iter().flatten() {
            self.place(slot);
        }
    }

    /// Puts `slot` where it belongs. There is a free place.
    fn place(&mut self, mut slot: Slot) {
        let mut at = self.home(slot.key().hash);
        let mut distance = 0;
        loop {
            let theirs = self.places[at].as_ref().map(|it| self.distance(it, at));
            if theirs.is_none_or(|it| it < distance) {
                let Some(poorer) = self.places[at].replace(slot) else { return };
                slot = poorer;
                distance = theirs.unwrap_or_default();
            }
            at = self.next(at);
            distance += 1;
        }
    }

    /// Where a name is looked for first.
    pub(super) fn home(&self, hash: u64) -> usize {
        let scaled = (u128::from(hash) * self.places.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// How far from its home `slot` is at `at`.
    fn distance(&self, slot: &Slot, at: usize) -> usize {
        let home = self.home(slot.key().hash);
        if home <= at { at - home } else { at + self.places.len() - home }
    }

    pub(super) fn next(&self, at: usize) -> usize {
        if at + 1 < self.places.len() { at + 1 } else { 0 }
    }
}
