//! A Space-Saving summary: the most frequent names of a stream, in fixed memory
//! (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k elements in
//! data streams", 2005).

use std::collections::HashMap;

use super::name::{Name, StoredName};

/// The most names that are counted.
pub(super) const CAPACITY: usize = 1_024;

/// The most frequent names.
///
/// The count of a name that is kept is at most its [`Slot::error`] too high, and never too
/// low. The count of any other name is at most [`Self::floor`], and that is at most the total
/// divided by [`CAPACITY`].
#[derive(Debug)]
pub(super) struct Sketch {
    slots: Vec<Slot>,
    /// The indexes of `slots` as a binary heap: the parent of `i` is `(i - 1) / 2`, and its
    /// count is no higher.
    heap: Vec<u16>,
    by_hash: HashMap<u64, u16, foldhash::fast::RandomState>,
    total: u64,
}

/// A name and its count.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// A hash with a random seed, which stands for the name.
    pub(super) hash: u64,
    pub(super) count: u64,
    /// The most by which `count` is too high.
    pub(super) error: u64,
    /// The index in the heap.
    position: u16,
    pub(super) name: StoredName,
}

impl Default for Sketch {
    /// An empty sketch with all its memory.
    fn default() -> Self {
        Self {
            slots: Vec::with_capacity(CAPACITY),
            heap: Vec::with_capacity(CAPACITY),
            // Twice, so that the table never grows: it removes what was deleted in place.
            by_hash: HashMap::with_capacity_and_hasher(2 * CAPACITY, Default::default()),
            total: 0,
        }
    }
}

impl Sketch {
    /// Counts `weight` for the name with this hash. Does not allocate.
    pub(super) fn add(&mut self, name: Name<'_>, hash: u64, weight: u64) {
        self.total = self.total.saturating_add(weight);
        if let Some(&index) = self.by_hash.get(&hash) {
            let slot = &mut self.slots[usize::from(index)];
            slot.count = slot.count.saturating_add(weight);
            let position = slot.position;
            self.sink(usize::from(position));
            return;
        }
        if self.slots.len() < CAPACITY {
            self.push(name, hash, weight);
            return;
        }
        let index = self.heap[0];
        let slot = &mut self.slots[usize::from(index)];
        self.by_hash.remove(&slot.hash);
        slot.error = slot.count;
        slot.count = slot.count.saturating_add(weight);
        slot.hash = hash;
        slot.name.set(name);
        self.by_hash.insert(hash, index);
        self.sink(0);
    }

    fn push(&mut self, name: Name<'_>, hash: u64, weight: u64) {
        // The capacity is below 65,536.
        let index = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
        let name = StoredName::new(name);
        self.slots.push(Slot { hash, count: weight, error: 0, position: index, name });
        self.heap.push(index);
        self.by_hash.insert(hash, index);
        self.rise(usize::from(index));
    }

    /// Removes all names and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.heap.clear();
        self.by_hash.clear();
        self.total = 0;
    }

    /// All weights.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The most that a name without a slot may have been counted.
    pub(super) fn floor(&self) -> u64 {
        if self.slots.len() < CAPACITY { 0 } else { self.count_at(0) }
    }

    /// The names, in no order.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn count_at(&self, position: usize) -> u64 {
        self.slots[usize::from(self.heap[position])].count
    }

    /// Moves the name at `position` up while its parent has a higher count.
    fn rise(&mut self, mut position: usize) {
        while 0 < position {
            let parent = (position - 1) / 2;
            if self.count_at(parent) <= self.count_at(position) {
                return;
            }
            self.swap(parent, position);
            position = parent;
        }
    }

    /// Moves the name at `position` down while a child has a lower count.
    fn sink(&mut self, mut position: usize) {
        loop {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let mut least = position;
            for child in [left, right] {
                if child < self.heap.len() && self.count_at(child) < self.count_at(least) {
                    least = child;
                }
            }
            if least == position {
                return;
            }
            self.swap(least, position);
            position = least;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for position in [one, other] {
            // The heap is as long as the capacity at most.
            let slot = &mut self.slots[usize::from(self.heap[position])];
            slot.position = u16::try_from(position).unwrap_or(u16::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::Entry;

    /// Counts `number` by itself as the hash.
    fn add(sketch: &mut Sketch, number: u64, weight: u64) {
        let value = number.to_string().into_bytes().into();
        let entries = [Entry { key: "user".into(), value }];
        sketch.add(Name { domain: b"shop", entries: &entries }, number, weight);
    }

    fn check(sketch: &Sketch, exact: &HashMap<u64, u64>) -> Result<(), TestCaseError> {
        let total: u64 = exact.values().sum();
        prop_assert_eq!(sketch.total(), total);
        prop_assert!(sketch.slots().len() <= CAPACITY);
        prop_assert!(sketch.floor() <= total / CAPACITY as u64);
        let mut kept = HashMap::new();
        for slot in sketch.slots() {
            let count = exact[&slot.hash];
            prop_assert!(count <= slot.count && slot.count - slot.error <= count);
            prop_assert!(slot.error <= sketch.floor());
            let value = slot.name.read().entries[0].value.clone();
            prop_assert_eq!(value, slot.hash.to_string().into_bytes());
            kept.insert(slot.hash, slot.count);
        }
        for (number, count) in exact {
            prop_assert!(kept.contains_key(number) || *count <= sketch.floor());
        }
        for position in 1..sketch.heap.len() {
            prop_assert!(sketch.count_at((position - 1) / 2) <= sketch.count_at(position));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn counts_are_too_high_by_the_error_at_most_and_no_frequent_name_is_missing(
            // Some names often, the others seldom.
            stream in prop::collection::vec(
                (prop_oneof![0_u64..40, 0_u64..5_000], 1_u64..20), 0..6_000
            ),
        ) {
            let mut sketch = Sketch::default();
            let mut exact = HashMap::new();
            for round in 0..2 {
                for (number, weight) in &stream {
                    add(&mut sketch, *number, *weight);
                    *exact.entry(*number).or_default() += weight;
                }
                check(&sketch, &exact)?;
                if round == 0 {
                    sketch.clear();
                    exact.clear();
                    check(&sketch, &exact)?;
                }
            }
        }
    }

    #[test]
    fn the_hundred_most_frequent_of_a_million_names_are_found() {
        let mut sums = Vec::with_capacity(1_000_000);
        let mut sum = 0.0;
        for rank in 1..=1_000_000_u32 {
            sum += f64::from(rank).powf(-1.1);
            sums.push(sum);
        }
        let mut random = fastrand::Rng::with_seed(1);
        let mut sketch = Sketch::default();
        let mut exact: HashMap<u64, u64> = HashMap::new();
        for _ in 0..1_000_000 {
            let drawn = random.f64() * sum;
            let number = sums.partition_point(|sum| *sum < drawn) as u64;
            add(&mut sketch, number, 1);
            *exact.entry(number).or_default() += 1;
        }
        let mut slots = sketch.slots().to_vec();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.count));
        let mut counts: Vec<u64> = exact.values().copied().collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = 0;
        for slot in &slots[..100] {
            // Equal counts share a rank.
            found += usize::from(counts[99] <= exact[&slot.hash]);
        }
        assert_eq!(found, 100);
    }
}
