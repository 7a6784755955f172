//! Limits on calls in flight.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use tollgate::limit::{Algorithm, Hits, Limit, Unit, Window};

use crate::{counter::Counter, random_calls::START};

fn limit(requests: u32, lifetime: u64) -> Limit {
    let algorithm = Algorithm::Concurrency { lifetime: Duration::from_micros(lifetime) };
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Second)) }
}

/// The permits of one caller.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct HeldPermits {
    end: u64,
    permits: u64,
    are_released: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Each caller holds its permits for less than their lifetime and releases them, or dies.
    #[test]
    fn calls_in_flight_never_exceed_the_limit_and_permits_of_dead_callers_end(
        requests in 1..20_u32, lifetime in 1..100_u64,
        callers in vec((0..30_u64, 1..4_u64, 0..100_u64, any::<bool>()), 1..60),
    ) {
        let limit = limit(requests, lifetime);
        let mut counter = Counter::new(&limit);
        let mut now = START;
        let mut held: Vec<HeldPermits> = Vec::new();
        for (pause, permits, duration, dies) in callers {
            now += pause;
            held.sort_unstable();
            while held.first().is_some_and(|first| first.end <= now) {
                let first = held.remove(0);
                if first.are_released {
                    counter.charge(Hits::Refund(first.permits), first.end);
                }
            }
            let mut in_flight = 0;
            for holder in &held {
                in_flight += holder.permits;
            }
            let outcome = counter.charge(Hits::Add(permits), now);
            if !outcome.over {
                prop_assert!(in_flight + permits <= u64::from(requests));
                let end =
                    if dies { now + lifetime } else { now + (duration % lifetime).max(1).min(lifetime) };
                held.push(HeldPermits { end, permits, are_released: !dies && end < now + lifetime });
            }
        }
        prop_assert!(counter.would_pass(requests.into(), now + lifetime), "a permit is lost");
    }
}

#[test]
fn a_released_slot_is_free_at_once() {
    let mut counter = Counter::new(&limit(2, 30_000_000));
    assert!(!counter.charge(Hits::Add(2), START).over);
    assert!(counter.charge(Hits::Add(1), START).over);
    counter.charge(Hits::Refund(1), START);
    assert!(!counter.charge(Hits::Add(1), START).over);
}

#[test]
fn the_slot_of_a_dead_holder_is_free_after_its_lifetime() {
    let counter = &mut Counter::new(&limit(1, 30_000_000));
    assert!(!counter.charge(Hits::Add(1), START).over);
    assert!(counter.would(Hits::Add(1), START + 29_999_999).over);
    assert!(!counter.would(Hits::Add(1), START + 30_000_000).over);
}
