//! Calls of which a part is known, or that teach nothing for sure.

use super::*;
use crate::store::all_failed;

#[test]
fn what_is_known_to_be_refused_is_known_also_while_the_store_fails() {
    /// Fails all calls of more than one hit.
    #[derive(Debug)]
    struct Failing(Shared);

    impl Store for Failing {
        async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
            match charges.iter().any(|it| 1 < it.hits.requested()) {
                true => all_failed(charges.len(), &StoreError::Failed("it is down".into())),
                false => self.0.charge(charges, now, deadline).await,
            }
        }

        async fn ready(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    let cache = DenyCache::new(Failing(Shared::new()), 1 << 20);
    let limit = Limit::fixed(1, Window::new(Unit::Hour));
    let of = |name, hits| charge(name, &limit, Hits::Add(hits), NOON);
    make(&cache, &[of("a", 1)], NOON);
    make(&cache, &[of("a", 1)], NOON);
    let charges = [of("b", 2), of("a", 1), of("c", 2)];
    let told = results(&cache, &charges, NOON);
    let told = told.iter().map(|it| it.as_ref().map(|it| it.over).map_err(ToString::to_string));
    let error = Err("the counter store failed: it is down".to_owned());
    assert_eq!(told.collect::<Vec<_>>(), [error.clone(), Ok(true), error]);
}

#[test]
fn a_call_that_costs_nothing_if_it_is_refused_is_known_at_the_limit() {
    use Enforced::{No, Yes};
    let store = Shared::new();
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let limit = Limit::fixed(5, Window::new(Unit::Hour));
    let of = |hits, enforced| Charge {
        consume: Consume::AllOrNothing,
        enforced,
        ..charge("a", &limit, Hits::Add(hits), NOON)
    };
    let ask = |charge: Charge| make(&cache, &[charge], NOON)[0];
    assert_eq!([ask(of(5, Yes)).over, ask(of(1, Yes)).over], [false, true]);
    let before = store.calls();
    for _ in 0..9 {
        let outcome = ask(of(1, Yes));
        assert!(outcome.over && outcome.cached && outcome.used == 5);
    }
    assert_eq!(store.calls(), before);
    // What is only watched is counted.
    assert_eq!(ask(of(1, No)).used, 6);
}

#[test]
fn a_penalty_that_is_over_does_not_come_back_with_the_clock() {
    let store = Shared::new();
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let penalty = 700 * MILLI;
    let limit =
        Limit { algorithm: Algorithm::SlidingWindow, penalty, ..Limit::fixed(3, window(2)) };
    let of = |hits, now| charge("a", &limit, Hits::Add(hits), now);
    make(&cache, &[of(3, NOON)], NOON);
    assert_eq!(make(&cache, &[of(1, NOON)], NOON)[0].banned, penalty);
    // Of two charges to one counter nothing is learned, but there is a new penalty.
    let later = NOON.plus(penalty);
    let second = Charge { consume: Consume::AllOrNothing, ..of(1, later) };
    make(&cache, &[of(1, later), second], later);
    let before = Timestamp::from_micros(later.as_micros() - 1);
    let outcome = make(&cache, &[of(1, before)], before)[0];
    // As seen there it has just begun.
    assert_eq!(outcome.banned, penalty);
}

#[test]
fn what_an_operator_does_to_a_counter_lifts_what_was_refused_here() {
    let (store, limit) = (Shared::new(), fixed(1, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let hit = charge("a", &limit, Hits::Add(1), NOON);
    let over = || {
        let charges = std::slice::from_ref(&hit);
        [make(&cache, charges, NOON)[0].over, make(&cache, charges, NOON)[0].over]
    };
    assert_eq!((over(), over()), ([false, true], [true, true]));
    assert!(cache.reset(&hit.counter.key).now_or_never().unwrap().unwrap());
    assert_eq!(over(), [false, true]);
    cache.set(&hit.counter, &limit, 0, NOON).now_or_never().unwrap().unwrap();
    assert_eq!(over(), [false, true]);
    let look = cache.peek(&hit.counter, &limit, NOON).now_or_never().unwrap().unwrap();
    assert_eq!((look.used, look.cached), (2, false));
}
