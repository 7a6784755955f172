//! Limits on calls in flight.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use tollgate::limit::{Algorithm, Hits, Limit, Unit, Window};

use crate::{counter::Counter, games::START};

fn limit(requests: u32, lease: u64) -> Limit {
    let algorithm = Algorithm::Concurrency { lease: Duration::from_micros(lease) };
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Second)) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Each caller holds its slots for less than a lease and releases them, or dies.
    #[test]
    fn calls_in_flight_never_exceed_the_limit_and_leases_of_dead_callers_end(
        requests in 1..20_u32, lease in 1..100_u64,
        callers in vec((0..30_u64, 1..4_u64, 0..100_u64, any::<bool>()), 1..60),
    ) {
        let limit = limit(requests, lease);
        let mut counter = Counter::new(&limit);
        let mut now = START;
        // The end, the number of slots and whether they are released, for each holder.
        let mut flying: Vec<(u64, u64, bool)> = Vec::new();
        for (pause, hits, takes, dies) in callers {
            now += pause;
            flying.sort_unstable();
            while let Some(&(end, held, gives)) = flying.first().filter(|it| it.0 <= now) {
                if gives {
                    counter.charge(Hits::Refund(held), end);
                }
                flying.remove(0);
            }
            let aloft: u64 = flying.iter().map(|it| it.1).sum();
            let outcome = counter.charge(Hits::Add(hits), now);
            if !outcome.over {
                prop_assert!(aloft + hits <= u64::from(requests));
                let end = if dies { now + lease } else { now + (takes % lease).max(1).min(lease) };
                flying.push((end, hits, !dies && end < now + lease));
            }
        }
        prop_assert!(counter.would_pass(requests.into(), now + lease), "a slot is lost");
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
fn the_slot_of_a_dead_holder_is_free_after_its_lease() {
    let counter = &mut Counter::new(&limit(1, 30_000_000));
    assert!(!counter.charge(Hits::Add(1), START).over);
    assert!(counter.would(Hits::Add(1), START + 29_999_999).over);
    assert!(!counter.would(Hits::Add(1), START + 30_000_000).over);
}
