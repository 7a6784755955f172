//! All algorithms, penalties, and charges that depend on others.

use futures_util::FutureExt;

use super::*;
use crate::{limit::Algorithm, time::thread_cpu_time};

const LIFETIME: Duration = Duration::from_secs(10);

pub(super) fn minutely(requests: u32, algorithm: Algorithm) -> Limit {
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) }
}

pub(super) fn algorithms() -> [Algorithm; 7] {
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 7 },
        Algorithm::LeakyBucket { burst: 7 },
        Algorithm::Concurrency { lifetime: LIFETIME },
    ]
}

fn with_burst(algorithm: Algorithm, burst: u32) -> Algorithm {
    match algorithm {
        Algorithm::TokenBucket { .. } => Algorithm::TokenBucket { burst },
        Algorithm::LeakyBucket { .. } => Algorithm::LeakyBucket { burst },
        other => other,
    }
}

pub(super) fn outcomes(memory: &Memory, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
    let results = memory.charge(charges, now, None).now_or_never();
    results.expect("memory replies at once").into_iter().map(Result::unwrap).collect()
}

fn used(memory: &Memory, charge: &Charge, now: Timestamp) -> u64 {
    outcomes(memory, &[Charge { hits: Hits::Add(0), ..charge.clone() }], now)[0].used
}

#[test]
fn concurrent_all_or_nothing_calls_admit_the_smallest_limit_exactly() {
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let charges = [("wide", 700), ("tight", 500)].map(|(name, requests)| {
            let limit = minutely(requests, with_burst(algorithm, requests));
            Charge {
                consume: Consume::AllOrNothing,
                ..charge(name.as_bytes(), &limit, Hits::Add(1), NOON)
            }
        });
        let admitted: usize = thread::scope(|scope| {
            let mut threads = Vec::new();
            for index in 0..64 {
                let (memory, mut charges) = (&memory, charges.clone());
                if index % 2 == 0 {
                    charges.reverse();
                }
                let passes = move || outcomes(memory, &charges, NOON).iter().all(|it| !it.over);
                threads.push(scope.spawn(move || (0..20).filter(|_| passes()).count()));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 500, "{algorithm:?}");
        assert_eq!(charges.map(|it| used(&memory, &it, NOON)), [500, 500], "{algorithm:?}");
    }
}

#[test]
fn an_all_or_nothing_call_over_the_limit_by_its_own_charges_counts_nothing() {
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let limit = minutely(7, algorithm);
        let charge =
            Charge { consume: Consume::AllOrNothing, ..charge(b"a", &limit, Hits::Add(4), NOON) };
        for _ in 0..3 {
            let outcomes = outcomes(&memory, &[charge.clone(), charge.clone()], NOON);
            let over: Vec<_> = outcomes.iter().map(|it| it.over).collect();
            assert_eq!(over, [false, true], "{algorithm:?}");
            assert!(!outcomes[1].counted && outcomes[1].retry_after > Some(Duration::ZERO));
        }
        assert_eq!(used(&memory, &charge, NOON), 0, "{algorithm:?}");
    }
}

#[test]
fn only_an_enforced_charge_stops_the_others_of_its_call() {
    let memory = Memory::new(1_000);
    let all = |name: &[u8], requests| {
        let limit = minutely(requests, Algorithm::SlidingWindow);
        Charge { consume: Consume::AllOrNothing, ..charge(name, &limit, Hits::Add(1), NOON) }
    };
    let (free, full) = (all(b"free", 9), all(b"full", 0));
    outcomes(&memory, &[free.clone(), full.clone()], NOON);
    assert_eq!(used(&memory, &free, NOON), 0);
    outcomes(&memory, &[free.clone(), Charge { enforced: Enforced::No, ..full.clone() }], NOON);
    assert_eq!(used(&memory, &free, NOON), 1);
    outcomes(&memory, &[Charge { consume: Consume::Independent, ..free.clone() }, full], NOON);
    assert_eq!(used(&memory, &free, NOON), 2);
}

#[test]
fn the_cost_of_a_call_grows_linearly_with_its_charges() {
    let memory = Memory::new(100_000);
    let limit = minutely(1_000_000, Algorithm::FixedWindow { count_denied: true });
    let calls = |calls, charges: u32| {
        let of = |it: u32| charge(&it.to_be_bytes(), &limit, Hits::Add(1), NOON);
        let all = |it| Charge { consume: Consume::AllOrNothing, ..of(it) };
        let charges: Vec<_> = (0..charges).map(all).collect();
        let begin = thread_cpu_time();
        for _ in 0..calls {
            outcomes(&memory, &charges, NOON);
        }
        thread_cpu_time() - begin
    };
    let (small, large) = (calls(50, 800), calls(5, 8_000));
    assert!(large < 4 * small, "{small:?} {large:?}");
}

#[test]
fn a_penalty_lasts_for_its_time_and_is_not_prolonged() {
    let penalty = Duration::from_secs(600);
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let limit = Limit { penalty, ..minutely(1, with_burst(algorithm, 1)) };
        let hit = |micros| {
            let now = Timestamp::from_micros(NOON.as_micros() + micros);
            outcomes(&memory, &[charge(b"a", &limit, Hits::Add(1), now)], now)[0]
        };
        assert!(!hit(0).over, "{algorithm:?}");
        assert_eq!(hit(0).retry_after, Some(penalty), "{algorithm:?}");
        assert_eq!(hit(1).retry_after, Some(penalty - Duration::from_micros(1)));
        assert_eq!(hit(599_999_999).retry_after, Some(Duration::from_micros(1)));
        assert!(!hit(600_000_000).over, "{algorithm:?}");
    }
}

#[test]
fn expired_states_and_bans_are_removed() {
    for algorithm in algorithms() {
        for penalty in [Duration::ZERO, Duration::from_secs(30)] {
            let memory = Memory::new(1_000_000);
            let limit = Limit { penalty, ..minutely(7, algorithm) };
            let mut now = NOON;
            for it in 0..1_000_u32 {
                // Enough to be banned.
                for hits in [7, 1] {
                    let charge = charge(&it.to_be_bytes(), &limit, Hits::Add(hits), now);
                    outcomes(&memory, &[charge], now);
                }
            }
            assert!(memory.len() >= 1_000, "{algorithm:?}");
            // Two windows and the slack.
            now = now.plus(Duration::from_secs(121));
            for it in 0..100_000_u32 {
                let look = charge(&it.to_be_bytes(), &limit, Hits::Add(0), now);
                outcomes(&memory, &[look], now);
            }
            assert_eq!(memory.len(), 0, "{algorithm:?}");
            assert_eq!(memory.usage().evicted, 0, "{algorithm:?}");
        }
    }
}
