use std::{collections::HashMap, thread, time::Duration};

use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    counter::{KeyFormat, KeyPart, KeyStyle},
    limit::{Hits, Limit, Unit, Window, fixed_window},
    store::{Consume, Enforced, OnTimeout},
};

mod algorithms;
mod counters;
mod room;

fn fixed(name: &[u8], requests: u32, unit: Unit, hits: Hits, now: Timestamp) -> Charge {
    charge(name, &Limit::fixed(requests, Window::new(unit)), hits, now)
}

fn charge(name: &[u8], limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    charge_in("domain", name, limit, (hits, now))
}

fn charge_in(domain: &str, name: &[u8], limit: &Limit, (hits, now): (Hits, Timestamp)) -> Charge {
    let part = KeyPart { key: b"name", value: name, shared: false };
    let format = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let counter = format.counter(domain.as_bytes(), [part].into_iter(), limit, now);
    Charge {
        counter,
        limit: limit.clone(),
        hits,
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn add(name: &str, requests: u32, now: Timestamp) -> Charge {
    fixed(name.as_bytes(), requests, Unit::Minute, Hits::Add(1), now)
}

impl Memory {
    fn charge_one(&self, charge: &Charge, now: Timestamp) -> Outcome {
        self.apply(charge, now, &mut Pressure::default())
    }
}

const NOON: Timestamp = Timestamp::from_secs(43_200);

#[test]
fn expired_counters_are_removed_without_a_background_task() {
    let memory = Memory::new(1_000_000);
    for it in 0..100_000 {
        memory.charge_one(&add(&it.to_string(), 1, NOON), NOON);
    }
    assert_eq!(memory.len(), 100_000);
    let later = NOON.plus(Duration::from_secs(61));
    for it in 0..300_000 {
        memory.charge_one(&add(&(it % 100_000).to_string(), 1, later), later);
    }
    assert_eq!(memory.len(), 100_000);
    assert_eq!(memory.usage().evicted, 0);
}

#[test]
fn a_clock_that_steps_back_a_second_finds_every_counter() {
    let memory = Memory::new(1_000_000);
    let before = NOON.plus(Duration::from_millis(59_900));
    let beyond = before.plus(Duration::from_millis(999));
    for it in 0..1_000 {
        memory.charge_one(&add(&it.to_string(), 1, before), before);
    }
    for it in 0..10_000 {
        memory.charge_one(&add(&it.to_string(), 1, beyond), beyond);
    }
    for it in 0..1_000 {
        assert_eq!(memory.charge_one(&add(&it.to_string(), 1, before), before).used, 2);
    }
}

#[test]
fn a_counter_shared_by_two_windows_lasts_as_long_as_the_longer() {
    let memory = Memory::new(1_000);
    let charge = |unit, hits, now| memory.charge_one(&fixed(b"a", 9, unit, hits, now), now).used;
    charge(Unit::Minute, Hits::Add(1), NOON);
    charge(Unit::Second, Hits::Add(1), NOON);
    let later = NOON.plus(Duration::from_secs(50));
    assert_eq!(charge(Unit::Minute, Hits::Add(0), later), 2);
}

#[test]
fn reads_and_refunds_of_unknown_counters_create_none() {
    let memory = Memory::new(1_000);
    for hits in [Hits::Add(0), Hits::Refund(5)] {
        let charge = fixed(b"a", 1, Unit::Hour, hits, NOON);
        assert_eq!(memory.charge_one(&charge, NOON).used, 0);
    }
    assert!(memory.is_empty());
}

#[test]
fn long_names_are_distinct_and_take_little_memory() {
    let memory = Memory::new(1_000);
    let name = |last| [vec![b'x'; 1 << 20], vec![last]].concat();
    for last in 0..10 {
        let charge = fixed(&name(last), 1, Unit::Hour, Hits::Add(1), NOON);
        assert_eq!(memory.charge_one(&charge, NOON).used, 1);
    }
    assert_eq!(memory.usage().bytes, 10 * Bounds::COUNTER);
}

#[test]
fn concurrent_charges_get_every_value_once() {
    let memory = Memory::new(1_000);
    let charges: Vec<_> = (0..3).map(|it| add(&it.to_string(), 1, NOON)).collect();
    let values_by_key: [Mutex<Vec<u64>>; 3] = Default::default();
    let charge_all = || {
        for _ in 0..1_000 {
            for (charge, values) in charges.iter().zip(&values_by_key) {
                let used = memory.charge_one(charge, NOON).used;
                values.lock().push(used);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(charge_all);
        }
    });
    for values in values_by_key {
        let mut values = values.into_inner();
        values.sort_unstable();
        assert!(values.into_iter().eq(1..=64_000));
    }
}

fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        (0..4_u64).prop_map(Hits::Add),
        (0..4_u64).prop_map(Hits::Refund),
        Just(Hits::Add(Hits::MAX)),
    ]
}

proptest! {
    /// The model never removes a window.
    #[test]
    fn with_enough_room_counters_are_exact(
        moves in vec((0..5_u8, hits(), 0..2_500_000_u64, prop::bool::weighted(0.2)), 0..200),
    ) {
        let memory = Memory::new(100_000);
        let mut model: HashMap<_, u64> = HashMap::new();
        let mut latest = NOON;
        for (name, hits, pause, back) in moves {
            latest = latest.plus(Duration::from_micros(if back { 0 } else { pause }));
            let back = if back { pause.min(1_000_000) } else { 0 };
            let now = Timestamp::from_micros(latest.as_micros() - back);
            let charge = fixed(&[name], 3, Unit::Second, hits, now);
            let counter = model.entry(charge.counter.key.clone()).or_default();
            *counter = fixed_window::step(*counter, hits, 3, true).count;
            prop_assert_eq!(memory.charge_one(&charge, now).used, *counter);
        }
        prop_assert_eq!(memory.usage().evicted, 0);
    }
}
