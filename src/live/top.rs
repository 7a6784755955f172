//! The most frequent names of the last hour, minute by minute.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    mem,
};

use parking_lot::Mutex;

use super::{
    name::{Name, ReadName, StoredName},
    sketch::{Sketch, Slot},
};
use crate::time::Timestamp;

/// The complete minutes that are kept.
pub const MOST_MINUTES: usize = 60;

/// The most names that are kept of a complete minute.
pub const KEPT_NAMES: usize = 100;

/// Counts names.
#[derive(Debug)]
pub(super) struct Top {
    current: Mutex<Current>,
    /// Used again for the next minute.
    spare: Mutex<Sketch>,
    /// The newest last.
    minutes: Mutex<VecDeque<Minute>>,
}

#[derive(Debug)]
struct Current {
    sketch: Sketch,
    begin: Timestamp,
}

/// What is kept of a complete minute.
#[derive(Clone, Debug)]
struct Minute {
    begin: Timestamp,
    total: u64,
    /// The most that a name may have been counted which is not in `rows`.
    floor: u64,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    hash: u64,
    count: u64,
    error: u64,
    name: StoredName,
}

/// The most frequent names of some minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopNames {
    /// The beginning of the time that was counted.
    pub from: Timestamp,
    /// All that was counted in it.
    pub total: u64,
    /// The most frequent first.
    pub rows: Vec<TopName>,
}

/// A frequent name. Its true count is from `at_least` to `at_most`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopName {
    /// The name.
    pub name: ReadName,
    /// The count that decides the order.
    pub count: u64,
    /// The lower bound of the count.
    pub at_least: u64,
    /// The upper bound of the count.
    pub at_most: u64,
}

/// The sum over several minutes.
struct Sum {
    name: StoredName,
    count: u64,
    at_least: u64,
    /// The sum of the floors of those minutes that have the name.
    floors: u64,
}

impl Top {
    /// Begins to count at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            current: Mutex::new(Current { sketch: Sketch::default(), begin: now }),
            spare: Mutex::default(),
            minutes: Mutex::default(),
        }
    }

    /// Counts a name, without an allocation.
    pub(super) fn add(&self, name: Name<'_>, hash: u64, weight: u64) {
        self.current.lock().sketch.add(name, hash, weight);
    }

    /// Ends the minute in progress at `now`, if another one has begun.
    pub(super) fn tick(&self, now: Timestamp) {
        // Held to its end, so that two calls do not end the same minute.
        let mut spare = self.spare.lock();
        let begin = {
            let mut current = self.current.lock();
            if minute(current.begin) == minute(now) {
                return;
            }
            mem::swap(&mut current.sketch, &mut spare);
            mem::replace(&mut current.begin, now)
        };
        let minute = Minute::new(&spare, begin, KEPT_NAMES);
        spare.clear();
        let mut minutes = self.minutes.lock();
        if minutes.len() == MOST_MINUTES {
            minutes.pop_front();
        }
        minutes.push_back(minute);
    }

    /// The `most` most frequent names of the minute in progress and of `minutes` before it.
    pub(super) fn read(&self, minutes: usize, most: usize) -> TopNames {
        let mut all = Vec::new();
        {
            let kept = self.minutes.lock();
            let skipped = kept.len().saturating_sub(minutes);
            all.extend(kept.iter().skip(skipped).cloned());
        }
        let current = self.current.lock();
        let (slots, floor) = (current.sketch.slots().to_vec(), current.sketch.floor());
        let (begin, total) = (current.begin, current.sketch.total());
        drop(current);
        let rows = slots.into_iter().map(Row::from).collect();
        all.push(Minute { begin, total, floor, rows });
        merge(all, most)
    }
}

fn minute(time: Timestamp) -> u64 {
    time.as_secs() / 60
}

impl From<Slot> for Row {
    fn from(Slot { hash, count, error, name, .. }: Slot) -> Self {
        Self { hash, count, error, name }
    }
}

impl Minute {
    fn new(sketch: &Sketch, begin: Timestamp, most: usize) -> Self {
        let mut order: Vec<&Slot> = sketch.slots().iter().collect();
        order.sort_unstable_by_key(|slot| Reverse(slot.count));
        let left = order.get(most).map_or(0, |slot| slot.count);
        let mut rows = Vec::with_capacity(most.min(order.len()));
        for slot in order.into_iter().take(most) {
            rows.push(Row::from(slot.clone()));
        }
        Self { begin, total: sketch.total(), floor: left.max(sketch.floor()), rows }
    }
}

/// Adds minutes up. The bounds are those of their parts (Agarwal and others: "Mergeable
/// summaries", 2012).
fn merge(minutes: Vec<Minute>, most: usize) -> TopNames {
    let mut from = None;
    let (mut total, mut floors) = (0_u64, 0_u64);
    let mut sums: HashMap<u64, Sum> = HashMap::new();
    for Minute { begin, total: hits, floor, rows } in minutes {
        from = from.or(Some(begin));
        total = total.saturating_add(hits);
        floors = floors.saturating_add(floor);
        for Row { hash, count, error, name } in rows {
            let none = || Sum { name, count: 0, at_least: 0, floors: 0 };
            let sum = sums.entry(hash).or_insert_with(none);
            sum.count = sum.count.saturating_add(count);
            sum.at_least = sum.at_least.saturating_add(count - error);
            sum.floors = sum.floors.saturating_add(floor);
        }
    }
    let mut sums: Vec<(u64, Sum)> = sums.into_iter().collect();
    // The hash keeps names of equal counts in one order.
    sums.sort_unstable_by_key(|(hash, sum)| (Reverse(sum.count), *hash));
    let mut rows = Vec::with_capacity(most.min(sums.len()));
    for (_, Sum { name, count, at_least, floors: own }) in sums.into_iter().take(most) {
        let at_most = count.saturating_add(floors - own);
        rows.push(TopName { name: name.read(), count, at_least, at_most });
    }
    TopNames { from: from.unwrap_or_default(), total, rows }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::Entry;

    fn add(top: &Top, number: u64, weight: u64) {
        let value = number.to_string().into_bytes().into();
        let entries = [Entry { key: "user".into(), value }];
        top.add(Name { domain: b"shop", entries: &entries }, number, weight);
    }

    fn number(name: &ReadName) -> u64 {
        String::from_utf8_lossy(&name.entries[0].value).parse().unwrap()
    }

    #[test]
    fn minutes_leave_after_an_hour() {
        let top = Top::new(Timestamp::from_secs(30));
        for minute in 1..=70 {
            add(&top, minute, 1);
            top.tick(Timestamp::from_secs(60 * minute));
            top.tick(Timestamp::from_secs(60 * minute + 59));
        }
        add(&top, 99, 1);
        let seen = |minutes| {
            let names = top.read(minutes, 100);
            let mut numbers: Vec<_> = names.rows.iter().map(|row| number(&row.name)).collect();
            numbers.sort_unstable();
            (names.from.as_secs(), names.total, numbers)
        };
        assert_eq!(seen(0), (60 * 70, 1, vec![99]));
        assert_eq!(seen(2), (60 * 68, 3, vec![69, 70, 99]));
        assert_eq!(seen(60).1, 61);
        assert_eq!(seen(1_000), seen(60));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_bounds_of_sums_over_minutes_hold(
            minutes in prop::collection::vec(
                prop::collection::vec((prop_oneof![0_u64..50, 0_u64..3_000], 1_u64..9), 0..2_000),
                1..5,
            ),
        ) {
            let top = Top::new(Timestamp::from_secs(0));
            let mut exact: HashMap<u64, u64> = HashMap::new();
            let mut now = 0;
            for stream in &minutes {
                for (number, weight) in stream {
                    add(&top, *number, *weight);
                    *exact.entry(*number).or_default() += weight;
                }
                now += 60;
                top.tick(Timestamp::from_secs(now));
            }
            let read = top.read(MOST_MINUTES, usize::MAX);
            prop_assert_eq!(read.total, exact.values().sum::<u64>());
            for row in &read.rows {
                let count = exact[&number(&row.name)];
                prop_assert!(row.at_least <= count && count <= row.at_most);
            }
        }
    }
}
