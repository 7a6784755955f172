//! Calls that are answered in part from the cache, or whose denials cannot be cached.

use super::*;
use crate::store::all_failed;

#[test]
fn cached_denials_apply_while_the_store_fails() {
    /// Fails all calls of more than one hit.
    #[derive(Debug)]
    struct Failing(Shared);

    impl Store for Failing {
        async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
            if charges.iter().any(|charge| 1 < charge.hits.requested()) {
                return all_failed(charges.len(), &StoreError::Failed("it is down".into()));
            }
            self.0.charge(charges, now, deadline).await
        }

        async fn ready(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    let cache = DenyCache::new(Failing(Shared::new()), 1 << 20);
    let limit = Limit::fixed(1, Window::new(Unit::Hour));
    let of = |name, hits| charge(name, &limit, Hits::Add(hits), NOON);
    outcomes(&cache, &[of("a", 1)], NOON);
    outcomes(&cache, &[of("a", 1)], NOON);
    let charges = [of("b", 2), of("a", 1), of("c", 2)];
    let mut found = Vec::new();
    for result in results(&cache, &charges, NOON) {
        found.push(result.map(|outcome| outcome.over).map_err(|error| error.to_string()));
    }
    let error = Err("the counter store failed: it is down".to_owned());
    assert_eq!(found, [error.clone(), Ok(true), error]);
}

#[test]
fn an_all_or_nothing_charge_is_denied_from_the_cache_at_the_limit() {
    use Enforced::{No, Yes};
    let store = Shared::new();
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let limit = Limit::fixed(5, Window::new(Unit::Hour));
    let of = |hits, enforced| Charge {
        consume: Consume::AllOrNothing,
        enforced,
        ..charge("a", &limit, Hits::Add(hits), NOON)
    };
    let ask = |charge: Charge| outcomes(&cache, &[charge], NOON)[0];
    assert_eq!([ask(of(5, Yes)).over, ask(of(1, Yes)).over], [false, true]);
    let before = store.calls();
    for _ in 0..9 {
        let outcome = ask(of(1, Yes));
        assert!(outcome.over && outcome.cached && outcome.used == 5);
    }
    assert_eq!(store.calls(), before);
    // A charge that is not enforced is counted.
    assert_eq!(ask(of(1, No)).used, 6);
}

#[test]
fn an_ended_penalty_does_not_return_when_the_clock_steps_back() {
    let store = Shared::new();
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let penalty = 700 * MILLI;
    let limit =
        Limit { algorithm: Algorithm::SlidingWindow, penalty, ..Limit::fixed(3, window(2)) };
    let of = |hits, now| charge("a", &limit, Hits::Add(hits), now);
    outcomes(&cache, &[of(3, NOON)], NOON);
    assert_eq!(outcomes(&cache, &[of(1, NOON)], NOON)[0].banned, penalty);
    // Two charges to one counter are not cached, but they begin a new penalty.
    let later = NOON.plus(penalty);
    let second = Charge { consume: Consume::AllOrNothing, ..of(1, later) };
    outcomes(&cache, &[of(1, later), second], later);
    let before = Timestamp::from_micros(later.as_micros() - 1);
    let outcome = outcomes(&cache, &[of(1, before)], before)[0];
    // For the store the penalty has just begun.
    assert_eq!(outcome.banned, penalty);
}

#[test]
fn resetting_or_setting_a_counter_removes_its_denial() {
    let (store, limit) = (Shared::new(), fixed(1, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let hit = charge("a", &limit, Hits::Add(1), NOON);
    let over = || {
        let charges = std::slice::from_ref(&hit);
        [outcomes(&cache, charges, NOON)[0].over, outcomes(&cache, charges, NOON)[0].over]
    };
    assert_eq!((over(), over()), ([false, true], [true, true]));
    let change =
        |change| cache.change(&hit.counter, &limit, change, CallTime::at(NOON)).now_or_never();
    change(CounterChange::Reset).unwrap().unwrap();
    assert_eq!(over(), [false, true]);
    change(CounterChange::Set(0)).unwrap().unwrap();
    assert_eq!(over(), [false, true]);
    let look = cache.peek(&hit.counter, &limit, NOON).now_or_never().unwrap().unwrap();
    assert_eq!((look.used, look.cached), (2, false));
    // The caller leaves before it learns that the counter was reset.
    store.hangs.store(true, Ordering::Relaxed);
    assert!(change(CounterChange::Reset).is_none());
    assert_eq!(over(), [false, true]);
}
