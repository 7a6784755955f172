//! Full memory: the choice of counters to evict.

use std::{io, sync::Arc};

use futures_util::FutureExt;

use super::{
    super::ledger::Resource,
    algorithms::{algorithms, minutely, outcomes},
    *,
};
use crate::limit::Algorithm;

const HOUR: Duration = Duration::from_secs(3_600);

/// A store with room for this many counters.
fn store_for(counters: usize) -> Memory {
    Memory::with_bounds(Bounds { bytes: counters * Bounds::COUNTER, keys: None })
}

fn hourly(requests: u32) -> Limit {
    Limit::fixed(requests, Window::new(Unit::Hour))
}

fn hit(memory: &Memory, domain: &str, name: &str, limit: &Limit) -> Outcome {
    let charge = charge_in(domain, name.as_bytes(), limit, (Hits::Add(1), NOON));
    outcomes(memory, &[charge], NOON)[0]
}

fn used(memory: &Memory, domain: &str, name: &str, limit: &Limit) -> u64 {
    let look = charge_in(domain, name.as_bytes(), limit, (Hits::Add(0), NOON));
    outcomes(memory, &[look], NOON)[0].used
}

fn change(memory: &Memory, charge: &Charge, change: CounterChange) -> Result<(), ChangeError> {
    let Charge { counter, limit, .. } = charge;
    memory
        .change(counter, limit, change, CallTime::at(NOON))
        .now_or_never()
        .expect("memory replies at once")
}

fn flood(memory: &Memory, domain: &str, limit: &Limit, names: u32) {
    for it in 0..names {
        hit(memory, domain, &it.to_string(), limit);
    }
}

/// Limits for floods of counters below their limit, at their limit at once, and banned.
fn floods() -> [Limit; 3] {
    [hourly(2), hourly(1), Limit { penalty: HOUR, ..hourly(0) }]
}

#[test]
fn a_flood_stays_within_the_bound_and_evicts_no_refusing_counter_of_its_domain() {
    let once = hourly(1);
    let names: Vec<_> = (0..100).map(|it| format!("refused {it}")).collect();
    for limit in floods() {
        let memory = store_for(5_000);
        for name in names.iter().chain(&names) {
            hit(&memory, "shop", name, &once);
        }
        flood(&memory, "shop", &limit, 20_000);
        let usage = memory.usage();
        // Counters at their limit at once leave an eighth of the room.
        assert!((4_375..=5_000).contains(&usage.counters), "{limit:?}: {usage:?}");
        let gone = usage.evicted + usage.uncounted;
        assert_eq!(gone + usage.counters as u64, 20_100, "{limit:?}");
        for name in &names {
            assert_eq!(used(&memory, "shop", name, &once), 2, "{limit:?}");
        }
    }
}

#[test]
fn a_flood_evicts_no_counter_of_a_domain_within_its_share() {
    let (limit, banned) = (hourly(5), Limit { penalty: HOUR, ..hourly(0) });
    let names: Vec<_> = (0..300).map(|it| it.to_string()).collect();
    for flooding in floods() {
        let memory = store_for(5_000);
        for name in &names[..100] {
            (0..4).for_each(|_| _ = hit(&memory, "before", name, &limit));
            hit(&memory, "before", name, &banned);
        }
        flood(&memory, "flooded", &flooding, 20_000);
        // A domain that comes when memory is full gets its share as well.
        for name in &names {
            (0..4).for_each(|_| _ = hit(&memory, "after", name, &limit));
            hit(&memory, "after", name, &banned);
        }
        flood(&memory, "flooded", &flooding, 20_000);
        for (domain, names) in [("before", &names[..100]), ("after", &names)] {
            for name in names {
                assert_eq!(used(&memory, domain, name, &limit), 4, "{domain} {flooding:?}");
                assert!(hit(&memory, domain, name, &banned).banned > Duration::ZERO);
            }
        }
        let usage = memory.usage();
        assert!(usage.bytes <= 500_000 && 4_300 <= usage.counters, "{usage:?}");
    }
}

#[test]
fn a_flood_of_counters_at_their_limit_leaves_room_for_others_of_the_domain() {
    let memory = store_for(5_000);
    flood(&memory, "shop", &hourly(1), 20_000);
    for name in 0..100 {
        let name = format!("user {name}");
        let over = (0..10).filter(|_| hit(&memory, "shop", &name, &hourly(3)).over);
        assert_eq!(over.count(), 7, "{name}");
    }
}

#[test]
fn a_bound_in_counters_is_shared_in_counters() {
    let log = Limit { algorithm: Algorithm::SlidingLog, ..hourly(20) };
    let memory = Memory::with_bounds(Bounds { keys: Some(256), ..Bounds::default() });
    let names: Vec<_> = (0..20).map(|it| it.to_string()).collect();
    for name in &names {
        (0..20).for_each(|_| _ = hit(&memory, "logs", name, &log));
    }
    for limit in floods() {
        flood(&memory, "flooded", &limit, 5_000);
    }
    for name in &names {
        assert!(hit(&memory, "logs", name, &log).over, "{name}");
    }
}

#[test]
fn a_ban_needs_no_extra_room() {
    let fixed = Algorithm::FixedWindow { count_denied: true };
    let bucket = Algorithm::TokenBucket { burst: 3 };
    for algorithm in [fixed, bucket, Algorithm::SlidingWindow, Algorithm::SlidingLog] {
        let memory = store_for(2_000);
        let limit = Limit { penalty: HOUR, ..minutely(3, algorithm) };
        let ask = |now| {
            let charge = charge_in("shop", b"user", &limit, (Hits::Add(1), now));
            outcomes(&memory, &[charge], now)[0].banned
        };
        (0..3).for_each(|_| _ = ask(NOON));
        flood(&memory, "shop", &hourly(1), 5_000);
        for name in 0..5_000 {
            let name = format!("more {name}");
            (0..3).for_each(|_| _ = hit(&memory, "shop", &name, &hourly(2)));
        }
        assert_eq!(ask(NOON), HOUR, "{algorithm:?}");
        let later = Duration::from_secs(120);
        assert_eq!(ask(NOON.plus(later)), HOUR - later, "{algorithm:?}");
    }
}

#[test]
fn a_flood_evicts_no_ban_of_its_own_domain() {
    let (penalty, before) = (Duration::from_secs(600), Timestamp::from_secs(43_190));
    for algorithm in algorithms() {
        let banned = Limit { penalty, ..minutely(0, algorithm) };
        let ask = |memory: &Memory, name: u32, now| {
            let charge = charge_in("shop", &name.to_be_bytes(), &banned, (Hits::Add(1), now));
            outcomes(memory, &[charge], now)[0].banned
        };
        for limit in floods() {
            let memory = store_for(2_000);
            for name in 0..100 {
                ask(&memory, name, before);
            }
            flood(&memory, "shop", &limit, 5_000);
            // Another domain gets its share of the memory that the flood uses.
            flood(&memory, "other", &hourly(5), 500);
            for name in 0..100 {
                let left = ask(&memory, name, NOON);
                assert_eq!(left, penalty - NOON.since(before), "{algorithm:?} {limit:?}");
            }
        }
    }
}

#[test]
fn two_domains_with_floods_end_with_equal_shares() {
    let memory = store_for(4_000);
    flood(&memory, "first", &hourly(2), 10_000);
    flood(&memory, "second", &hourly(2), 10_000);
    let kept = |domain| {
        let names = (0..10_000).map(|it| it.to_string());
        names.filter(|it| used(&memory, domain, it, &hourly(2)) > 0).count()
    };
    assert_eq!((kept("first"), kept("second")), (2_000, 2_000));
}

/// The counter that expires first is evicted first, among the few that are compared.
#[test]
fn long_lived_counters_survive_a_flood_of_short_lived_ones() {
    let memory = store_for(2_000);
    let (hour, minute) = (hourly(2), Limit::fixed(2, Window::new(Unit::Minute)));
    let names: Vec<_> = (0..100).map(|it| format!("lasting {it}")).collect();
    for name in &names {
        hit(&memory, "shop", name, &hour);
    }
    flood(&memory, "shop", &minute, 20_000);
    assert!(names.iter().all(|it| used(&memory, "shop", it, &hour) == 1));
}

#[test]
fn a_flood_leaves_slots_near_their_home_position() {
    let memory = store_for(2_000);
    flood(&memory, "shop", &hourly(2), 20_000);
    for shard in &memory.shards.shards {
        let distance = shard.lock().table.max_distance();
        assert!(distance < 60, "{distance}");
    }
}

#[test]
fn a_counter_can_be_evicted_once_it_refuses_no_hits() {
    // One hit passes each second, so a counter at its limit refuses hits for a second.
    for algorithm in [Algorithm::TokenBucket { burst: 1 }, Algorithm::LeakyBucket { burst: 1 }] {
        let memory = store_for(1_000);
        let limit = minutely(60, algorithm);
        // Counters at their limit at once take at most seven eighths.
        flood(&memory, "shop", &limit, 875);
        let charge = |now| charge_in("shop", b"late", &limit, (Hits::Add(1), now));
        let [soon, later] = [500, 1_500].map(|it| NOON.plus(Duration::from_millis(it)));
        outcomes(&memory, &[charge(soon)], soon);
        assert_eq!(memory.usage().uncounted, 1, "{algorithm:?}");
        outcomes(&memory, &[charge(later)], later);
        assert_eq!((memory.usage().uncounted, memory.usage().evicted), (1, 1), "{algorithm:?}");
    }
}

#[test]
fn lists_count_with_their_memory_and_leave_others_their_share() {
    for algorithm in [Algorithm::SlidingLog, Algorithm::Concurrency { lifetime: HOUR }] {
        let memory = store_for(10_000);
        let limit = minutely(1_000, algorithm);
        hit(&memory, "before", "a", &hourly(5));
        // 16 KB each, so there is room for about 60.
        for it in 0..1_000_u64 {
            for name in 0..70 {
                let now = NOON.plus(Duration::from_micros(it));
                let name = format!("{name}");
                outcomes(
                    &memory,
                    &[charge_in("lists", name.as_bytes(), &limit, (Hits::Add(1), now))],
                    now,
                );
                assert!(memory.usage().bytes <= 1_000_000, "{algorithm:?}");
            }
        }
        assert!(memory.usage().evicted > 0, "{algorithm:?}");
        assert!(memory.usage().bytes > 950_000, "{algorithm:?}");
        flood(&memory, "after", &hourly(5), 1_000);
        assert_eq!(used(&memory, "before", "a", &hourly(5)), 1, "{algorithm:?}");
        for it in 0..1_000 {
            assert_eq!(used(&memory, "after", &it.to_string(), &hourly(5)), 1, "{algorithm:?}");
        }
    }
}

#[test]
fn a_domain_without_counters_has_no_share() {
    let memory = store_for(1_000);
    for it in 0..100_u32 {
        flood(&memory, &it.to_string(), &Limit::fixed(2, Window::new(Unit::Second)), 5);
    }
    let later = NOON.plus(Duration::from_secs(3));
    for it in 0..2_000_u32 {
        let charge = charge_in("shop", &it.to_be_bytes(), &hourly(2), (Hits::Add(1), later));
        outcomes(&memory, &[charge], later);
    }
    assert_eq!(memory.shards.ledger.lock().share(false, Resource::Bytes), 100_000);
    assert_eq!(memory.usage().counters, 1_000);
}

#[test]
fn more_domains_than_numbers_stay_within_the_bound() {
    let memory = store_for(100_000);
    for it in 0..70_000_u32 {
        hit(&memory, &it.to_string(), "a", &hourly(1));
    }
    assert_eq!(memory.len(), 70_000);
    for it in 0..70_000_u32 {
        let charge = charge_in(&it.to_string(), b"a", &hourly(1), (Hits::Add(0), NOON));
        change(&memory, &charge, CounterChange::Reset).unwrap();
    }
    assert_eq!(memory.usage(), MemoryUsage::default());
}

proptest! {
    /// The first domain uses a few counters, the others any number.
    #[test]
    fn a_domain_within_its_share_gets_the_same_outcomes_as_alone(
        moves in vec(
            (0..4_usize, any::<u16>(), 0..7_usize, any::<bool>(), hits(), 0..3_000_000_u64),
            0..1_500,
        ),
    ) {
        let (shared, alone) = (store_for(150), Memory::new(1_000_000));
        let mut now = NOON;
        for (domain, name, algorithm, penalty, hits, pause) in moves {
            now = now.plus(Duration::from_micros(pause / 50));
            let penalty = if penalty { Duration::from_secs(5) } else { Duration::ZERO };
            let limit = Limit { penalty, ..minutely(3, algorithms()[algorithm]) };
            // The first domain has 14 counters of up to 300 bytes.
            let name = if domain == 0 { [0, 0] } else { name.to_be_bytes() };
            let charge = charge_in(&domain.to_string(), &name, &limit, (hits, now));
            let outcome = outcomes(&shared, std::slice::from_ref(&charge), now)[0];
            if domain == 0 {
                prop_assert_eq!(outcome, outcomes(&alone, &[charge], now)[0]);
            }
            let usage = shared.usage();
            prop_assert!(usage.bytes <= 15_000 && usage.counters <= 150, "{:?}", usage);
            let sum: usize = shared.shards.shards.iter().map(|it| it.lock().table.bytes()).sum();
            prop_assert_eq!(usage.bytes, sum);
        }
    }

    #[test]
    fn tables_keep_their_counters(
        moves in vec((any::<bool>(), 0..400_u64), 0..3_000),
    ) {
        let memory = Memory::new(1_000_000);
        let mut model = std::collections::HashSet::new();
        for (add, name) in moves {
            let charge = charge(&name.to_be_bytes(), &hourly(1), Hits::Add(1), NOON);
            if add {
                memory.charge_one(&charge, NOON);
                model.insert(name);
            } else {
                change(&memory, &charge, CounterChange::Reset).unwrap();
                model.remove(&name);
                prop_assert_eq!(memory.len(), model.len());
            }
        }
        for name in 0..400_u64 {
            let charge = charge(&name.to_be_bytes(), &hourly(1), Hits::Add(0), NOON);
            prop_assert_eq!(memory.charge_one(&charge, NOON).used > 0, model.contains(&name));
        }
    }
}

/// Checks at each log line that no lock is held.
#[derive(Clone)]
struct UnlockedLog {
    memory: Arc<Memory>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl io::Write for UnlockedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Shards { shards, ledger, .. } = &self.memory.shards;
        let locked = ledger.is_locked() || shards.iter().any(Mutex::is_locked);
        let line = String::from_utf8_lossy(bytes);
        self.lines.lock().push(format!("locked: {locked}, {line}"));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn full_memory_is_logged_while_no_lock_is_held() {
    let dependent = |name: &str| Charge {
        consume: Consume::AllOrNothing,
        ..charge_in("shop", name.as_bytes(), &hourly(1_000), (Hits::Add(1), NOON))
    };
    for together in [false, true] {
        let memory = Arc::new(store_for(100));
        let log = UnlockedLog { memory: Arc::clone(&memory), lines: Arc::default() };
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            if together {
                for it in 0..200 {
                    outcomes(&memory, &[dependent(&format!("{it}")), dependent("other")], NOON);
                }
            } else {
                flood(&memory, "shop", &hourly(2), 200);
            }
            let full = store_for(1);
            flood(&full, "shop", &hourly(1), 2);
        });
        let lines = log.lines.lock();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let evicted = "a call evicted counters, which start again at 0: memory for counters is \
                       full, with 100 counters in 10000 bytes; raise MEMORY_MAX_BYTES (10000)";
        assert!(lines[0].starts_with("locked: false") && lines[0].contains(evicted), "{lines:?}");
        assert!(lines[1].contains("a call was decided but not counted: memory"), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_evicts_several_counters_is_logged_as_one() {
    let memory = Arc::new(store_for(100));
    let log = UnlockedLog { memory: Arc::clone(&memory), lines: Arc::default() };
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    flood(&memory, "shop", &hourly(2), 100);
    for call in 0..2 {
        let new = |it| format!("{call} {it}");
        let charge =
            |it: u8| charge_in("shop", new(it).as_bytes(), &hourly(2), (Hits::Add(1), NOON));
        outcomes(&memory, &[charge(1), charge(2), charge(3)], NOON);
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    drop(guard);
    let lines = log.lines.lock();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("a call evicted counters")), "{lines:?}");
}

#[test]
fn a_counter_that_cannot_be_set_keeps_its_value() {
    let (once, list) = (hourly(1), minutely(900, Algorithm::SlidingLog));
    let memory = store_for(1_000);
    // Counters that are over their limits are not evicted.
    for name in 0..2_000 {
        hit(&memory, "shop", &(name / 2).to_string(), &once);
    }
    let new = charge_in("shop", b"new", &list, (Hits::Add(0), NOON));
    let error = change(&memory, &new, CounterChange::Set(900)).expect_err("there is no room");
    assert!(matches!(error, ChangeError::Unchanged(_)), "{error}");
    assert!(error.to_string().contains("MEMORY_MAX_BYTES"), "{error}");
    assert_eq!(used(&memory, "shop", "0", &once), 2);
    // A counter that is there needs no more room.
    let old = charge_in("shop", b"0", &once, (Hits::Add(0), NOON));
    change(&memory, &old, CounterChange::Set(5)).expect("there is room");
    assert_eq!(used(&memory, "shop", "0", &once), 5);
}
