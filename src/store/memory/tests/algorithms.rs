//! Other algorithms than the fixed window, and charges that depend on others.

use futures_util::FutureExt;

use super::*;
use crate::{limit::Algorithm, time::thread_cpu_time};

const LEASE: Duration = Duration::from_secs(10);

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
        Algorithm::Concurrency { lease: LEASE },
    ]
}

fn with_burst(algorithm: Algorithm, burst: u32) -> Algorithm {
    match algorithm {
        Algorithm::TokenBucket { .. } => Algorithm::TokenBucket { burst },
        Algorithm::LeakyBucket { .. } => Algorithm::LeakyBucket { burst },
        other => other,
    }
}

pub(super) fn make(memory: &Memory, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
    let results = memory.charge(charges, now, None).now_or_never();
    results.expect("it waits for nobody").into_iter().map(Result::unwrap).collect()
}

fn used(memory: &Memory, charge: &Charge, now: Timestamp) -> u64 {
    make(memory, &[Charge { hits: Hits::Add(0), ..charge.clone() }], now)[0].used
}

#[test]
fn all_or_nothing_under_many_threads_admits_the_least_and_leaves_no_trace() {
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let charges = [("wide", 700), ("tight", 500)].map(|(name, requests)| {
            let limit = minutely(requests, with_burst(algorithm, requests));
            Charge {
                consume: Consume::AllOrNothing,
                ..held_to(name.as_bytes(), &limit, Hits::Add(1), NOON)
            }
        });
        let admitted: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|it| {
                    let (memory, mut charges) = (&memory, charges.clone());
                    if it % 2 == 0 {
                        charges.reverse();
                    }
                    let passed =
                        move || make(memory, &charges, NOON).iter().all(|outcome| !outcome.over);
                    scope.spawn(move || (0..20).filter(|_| passed()).count())
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(admitted, 500, "{algorithm:?}");
        assert_eq!(charges.map(|it| used(&memory, &it, NOON)), [500, 500], "{algorithm:?}");
    }
}

#[test]
fn a_call_that_is_refused_by_what_it_takes_itself_takes_nothing() {
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let limit = minutely(7, algorithm);
        let charge =
            Charge { consume: Consume::AllOrNothing, ..held_to(b"a", &limit, Hits::Add(4), NOON) };
        for _ in 0..3 {
            let outcomes = make(&memory, &[charge.clone(), charge.clone()], NOON);
            let over: Vec<_> = outcomes.iter().map(|it| it.over).collect();
            assert_eq!(over, [false, true], "{algorithm:?}");
            assert!(!outcomes[1].counted && outcomes[1].retry_after > Some(Duration::ZERO));
        }
        assert_eq!(used(&memory, &charge, NOON), 0, "{algorithm:?}");
    }
}

#[test]
fn only_a_charge_that_enforces_keeps_others_from_being_made() {
    let memory = Memory::new(1_000);
    let all = |name: &[u8], requests| {
        let limit = minutely(requests, Algorithm::SlidingWindow);
        Charge { consume: Consume::AllOrNothing, ..held_to(name, &limit, Hits::Add(1), NOON) }
    };
    let (free, full) = (all(b"free", 9), all(b"full", 0));
    make(&memory, &[free.clone(), full.clone()], NOON);
    assert_eq!(used(&memory, &free, NOON), 0);
    make(&memory, &[free.clone(), Charge { enforced: Enforced::No, ..full.clone() }], NOON);
    assert_eq!(used(&memory, &free, NOON), 1);
    make(&memory, &[Charge { consume: Consume::Independent, ..free.clone() }, full], NOON);
    assert_eq!(used(&memory, &free, NOON), 2);
}

#[test]
fn a_charge_that_depends_on_others_costs_about_the_same_among_ten_times_as_many() {
    let memory = Memory::new(100_000);
    let limit = minutely(1_000_000, Algorithm::FixedWindow { count_denied: true });
    let calls = |calls, charges: u32| {
        let of = |it: u32| held_to(&it.to_be_bytes(), &limit, Hits::Add(1), NOON);
        let all = |it| Charge { consume: Consume::AllOrNothing, ..of(it) };
        let charges: Vec<_> = (0..charges).map(all).collect();
        let begin = thread_cpu_time();
        for _ in 0..calls {
            make(&memory, &charges, NOON);
        }
        thread_cpu_time() - begin
    };
    let (small, large) = (calls(50, 800), calls(5, 8_000));
    assert!(large < 4 * small, "{small:?} {large:?}");
}

#[test]
fn a_penalty_refuses_for_its_time_and_is_not_prolonged() {
    let penalty = Duration::from_secs(600);
    for algorithm in algorithms() {
        let memory = Memory::new(1_000);
        let limit = Limit { penalty, ..minutely(1, with_burst(algorithm, 1)) };
        let hit = |micros| {
            let now = Timestamp::from_micros(NOON.as_micros() + micros);
            make(&memory, &[held_to(b"a", &limit, Hits::Add(1), now)], now)[0]
        };
        assert!(!hit(0).over, "{algorithm:?}");
        assert_eq!(hit(0).retry_after, Some(penalty), "{algorithm:?}");
        assert_eq!(hit(1).retry_after, Some(penalty - Duration::from_micros(1)));
        assert_eq!(hit(599_999_999).retry_after, Some(Duration::from_micros(1)));
        assert!(!hit(600_000_000).over, "{algorithm:?}");
    }
}

#[test]
fn what_means_nothing_any_more_is_forgotten() {
    for algorithm in algorithms() {
        for penalty in [Duration::ZERO, Duration::from_secs(30)] {
            let memory = Memory::new(1_000_000);
            let limit = Limit { penalty, ..minutely(7, algorithm) };
            let mut now = NOON;
            for it in 0..1_000_u32 {
                // Enough to be banned.
                for hits in [7, 1] {
                    let charge = held_to(&it.to_be_bytes(), &limit, Hits::Add(hits), now);
                    make(&memory, &[charge], now);
                }
            }
            assert!(memory.len() >= 1_000, "{algorithm:?}");
            // Two windows and the grace.
            now = now.plus(Duration::from_secs(121));
            for it in 0..100_000_u32 {
                let look = held_to(&it.to_be_bytes(), &limit, Hits::Add(0), now);
                make(&memory, &[look], now);
            }
            assert_eq!(memory.len(), 0, "{algorithm:?}");
            assert_eq!(memory.usage().evicted, 0, "{algorithm:?}");
        }
    }
}
