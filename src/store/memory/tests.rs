use std::{collections::HashMap, thread, time::Duration};

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

fn named(name: &[u8], requests: u32, unit: Unit, hits: Hits, now: Timestamp) -> Charge {
    held_to(name, &Limit::fixed(requests, Window::new(unit)), hits, now)
}

fn held_to(name: &[u8], limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    of_domain("domain", name, limit, (hits, now))
}

fn of_domain(domain: &str, name: &[u8], limit: &Limit, (hits, now): (Hits, Timestamp)) -> Charge {
    let part = KeyPart { key: b"name", value: name, shared: false };
    let format = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let counter = format.key(domain.as_bytes(), [part].into_iter(), limit, now);
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
    named(name.as_bytes(), requests, Unit::Minute, Hits::Add(1), now)
}

const NOON: Timestamp = Timestamp::from_secs(43_200);

#[test]
fn what_has_ended_goes_away_without_a_task() {
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
fn a_counter_that_two_windows_share_lasts_as_long_as_the_longer() {
    let memory = Memory::new(1_000);
    let charge = |unit, hits, now| memory.charge_one(&named(b"a", 9, unit, hits, now), now).used;
    charge(Unit::Minute, Hits::Add(1), NOON);
    charge(Unit::Second, Hits::Add(1), NOON);
    let later = NOON.plus(Duration::from_secs(50));
    assert_eq!(charge(Unit::Minute, Hits::Add(0), later), 2);
}

#[test]
fn a_look_and_a_refund_of_nothing_keep_nothing() {
    let memory = Memory::new(1_000);
    for hits in [Hits::Add(0), Hits::Refund(5)] {
        let charge = named(b"a", 1, Unit::Hour, hits, NOON);
        assert_eq!(memory.charge_one(&charge, NOON).used, 0);
    }
    assert!(memory.is_empty());
}

#[test]
fn long_names_are_told_apart_and_take_little_memory() {
    let memory = Memory::new(1_000);
    let name = |last| [vec![b'x'; 1 << 20], vec![last]].concat();
    for last in 0..10 {
        let charge = named(&name(last), 1, Unit::Hour, Hits::Add(1), NOON);
        assert_eq!(memory.charge_one(&charge, NOON).used, 1);
    }
    assert_eq!(memory.usage().bytes, 10 * Bounds::COUNTER);
}

#[test]
fn threads_are_handed_every_value_once() {
    let memory = Memory::new(1_000);
    let charges: Vec<_> = (0..3).map(|it| add(&it.to_string(), 1, NOON)).collect();
    let handed_out: Vec<Vec<u64>> = thread::scope(|scope| {
        let thread = || {
            let rounds = (0..1_000).flat_map(|_| &charges);
            rounds.map(|it| memory.charge_one(it, NOON).used).collect()
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(thread)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for key in 0..charges.len() {
        let of_key = |it: &Vec<u64>| it.iter().skip(key).step_by(3).copied().collect::<Vec<_>>();
        let mut values: Vec<_> = handed_out.iter().flat_map(of_key).collect();
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
    /// The model remembers every window for ever.
    #[test]
    fn with_room_enough_nothing_is_forgotten_or_mixed_up(
        moves in vec((0..5_u8, hits(), 0..2_500_000_u64, prop::bool::weighted(0.2)), 0..200),
    ) {
        let memory = Memory::new(100_000);
        let mut model: HashMap<_, u64> = HashMap::new();
        let mut latest = NOON;
        for (name, hits, pause, back) in moves {
            latest = latest.plus(Duration::from_micros(if back { 0 } else { pause }));
            let back = if back { pause.min(1_000_000) } else { 0 };
            let now = Timestamp::from_micros(latest.as_micros() - back);
            let charge = named(&[name], 3, Unit::Second, hits, now);
            let counter = model.entry(charge.counter.key.clone()).or_default();
            (*counter, _) = fixed_window::step(*counter, hits, 3, true);
            prop_assert_eq!(memory.charge_one(&charge, now).used, *counter);
        }
        prop_assert_eq!(memory.usage().evicted, 0);
    }
}
