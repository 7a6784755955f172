use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;

use super::{table::MAX_DENIAL_BYTES, *};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Hits, Limit, Unit, Window},
    store::{Consume, Enforced, OnTimeout, memory::Memory},
};

mod games;
mod mixed;

const NOON: Timestamp = Timestamp::from_secs(43_200);
const MILLI: Duration = Duration::from_millis(1);

/// A store in memory, shared by several callers, that counts the calls.
#[derive(Debug, Clone)]
struct Shared {
    memory: Arc<Memory>,
    calls: Arc<AtomicUsize>,
    /// Set if changes are made, but never reported.
    hangs: Arc<AtomicBool>,
}

impl Shared {
    fn new() -> Self {
        let memory = Arc::new(Memory::new(10_000));
        Self { memory, calls: Arc::default(), hangs: Arc::default() }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Store for Shared {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.memory.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.memory.ready().await
    }
}

impl Counters for Shared {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        self.memory.peek(counter, limit, now).await
    }

    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> Result<(), ChangeError> {
        self.memory.change(counter, limit, change, time).await?;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

fn results(store: &impl Store, charges: &[Charge], now: Timestamp) -> Results {
    store.charge(charges, now, None).now_or_never().expect("memory replies at once")
}

fn outcomes(store: &impl Store, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
    results(store, charges, now).into_iter().map(Result::unwrap).collect()
}

fn window(seconds: u32) -> Window {
    Window::times(Unit::Second, NonZeroU32::new(seconds).unwrap()).unwrap()
}

fn charge(name: &str, limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
    let counter = KeyFormat::default().counter(b"domain", [part].into_iter(), limit, now);
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

/// A cache on a store, one counter, and a clock.
struct Play {
    store: Shared,
    cache: DenyCache<Shared>,
    limit: Limit,
    now: Timestamp,
}

impl Play {
    fn new(limit: Limit) -> Self {
        let store = Shared::new();
        let cache = DenyCache::new(store.clone(), 1 << 20);
        Self { store, cache, limit, now: NOON }
    }

    fn denials(&self) -> &DenialTable {
        self.cache.denials.as_ref().unwrap()
    }

    /// Charges `hits`, and returns true with the outcome if the store was called.
    fn charge(&self, hits: Hits) -> (Outcome, bool) {
        let before = self.store.calls();
        let charges = [charge("a", &self.limit, hits, self.now)];
        let outcome = outcomes(&self.cache, &charges, self.now)[0];
        let called = before < self.store.calls();
        assert_eq!(called, !outcome.cached);
        (outcome, called)
    }

    /// Adds `hits`. Returns true if they are denied, and true if the store was called.
    fn add(&self, hits: u64) -> (bool, bool) {
        let (outcome, called) = self.charge(Hits::Add(hits));
        (outcome.over, called)
    }
}

const PASSED: (bool, bool) = (false, true);
const DENIED: (bool, bool) = (true, true);
const CACHED: (bool, bool) = (true, false);

fn fixed(requests: u32, count_denied: bool) -> Limit {
    let algorithm = Algorithm::FixedWindow { count_denied };
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) }
}

#[test]
fn a_denial_is_cached_for_a_second() {
    let mut play = Play::new(fixed(1, true));
    assert_eq!(
        [play.add(1), play.add(1), play.add(1), play.add(7)],
        [PASSED, DENIED, CACHED, CACHED]
    );
    play.now = NOON.plus(MAX_TTL - Duration::from_micros(1));
    let (outcome, called) = play.charge(Hits::Add(1));
    assert!(!called);
    assert_eq!(outcome.retry_after, Some(Duration::from_micros(59_000_001)));
    play.now = NOON.plus(MAX_TTL);
    assert_eq!([play.add(1), play.add(1)], [DENIED, CACHED]);
}

#[test]
fn a_retry_passes_after_retry_after_and_is_denied_a_microsecond_earlier() {
    let algorithm = Algorithm::TokenBucket { burst: 1 };
    let limit = Limit { algorithm, ..Limit::fixed(5, window(1)) };
    let mut play = Play::new(limit);
    assert_eq!([play.add(1), play.add(1)], [PASSED, DENIED]);
    play.now = NOON.plus(Duration::from_micros(199_999));
    assert_eq!(play.add(1), CACHED);
    play.now = NOON.plus(Duration::from_millis(200));
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn fewer_hits_than_were_denied_call_the_store() {
    let play = Play::new(fixed(5, false));
    assert_eq!(play.add(3), PASSED);
    assert_eq!([play.add(4), play.add(4), play.add(3)], [DENIED, CACHED, CACHED]);
    assert_eq!([play.add(2), play.add(1)], [PASSED, DENIED]);
}

#[test]
fn charges_of_0_hits_are_denied_and_cached_if_a_window_is_over_its_limit() {
    for count_denied in [true, false] {
        let mut play = Play::new(fixed(5, count_denied));
        play.add(4);
        play.limit.requests = 3;
        assert_eq!([play.add(0), play.add(0), play.add(1)], [DENIED, CACHED, CACHED]);
    }
    let play = Play::new(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
    assert_eq!(play.add(0), PASSED, "0 hits fit a window that is just full");
    let play = Play::new(Limit { penalty: MILLI, ..fixed(1, true) });
    assert_eq!([play.add(2), play.add(0), play.add(0)], [DENIED; 3]);
}

#[test]
fn concurrency_is_never_cached() {
    let algorithm = Algorithm::Concurrency { lifetime: Duration::from_secs(9) };
    for penalty in [Duration::ZERO, Duration::from_secs(9)] {
        let play = Play::new(Limit { algorithm, penalty, ..fixed(1, true) });
        assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, DENIED]);
    }
}

#[test]
fn a_refund_removes_the_denial_at_once() {
    let play = Play::new(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
    play.charge(Hits::Refund(1));
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn a_cancelled_refund_removes_the_denial_too() {
    let play = Play::new(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
    let charges = [charge("a", &play.limit, Hits::Refund(1), NOON)];
    drop(RefundGuard { denials: play.denials(), charges: &charges });
    assert_eq!(play.add(1), DENIED);
}

#[test]
fn a_denial_from_before_a_refund_is_not_cached_after_it() {
    let play = Play::new(fixed(1, false));
    let denied = [charge("a", &play.limit, Hits::Add(1), NOON)];
    let turn = play.denials().next_turn();
    outcomes(&play.store, &denied, NOON);
    let results = results(&play.store, &denied, NOON);
    assert!(results[0].as_ref().unwrap().over);
    play.charge(Hits::Refund(1));
    play.denials().learn(&denied, &results, turn, NOON);
    assert_eq!(play.add(1), PASSED);
}

/// The only difference to a store without a cache: the games compare everything else.
#[test]
fn hits_denied_from_the_cache_are_not_counted_and_cannot_be_refunded() {
    let limit = fixed(1, true);
    let (play, store) = (Play::new(limit.clone()), Shared::new());
    let direct = |hits| outcomes(&store, &[charge("a", &limit, hits, NOON)], NOON)[0];
    for _ in 0..9 {
        assert_eq!(play.charge(Hits::Add(1)).0.over, direct(Hits::Add(1)).over);
    }
    // One hit passed, and one was denied by the store.
    assert_eq!(play.charge(Hits::Refund(2)).0.used, 0);
    assert_eq!(direct(Hits::Refund(2)).used, 7);
    assert_eq!((play.add(1), direct(Hits::Add(1)).over), (PASSED, true));
}

#[test]
fn a_refund_of_another_instance_takes_effect_within_a_second() {
    let mut play = Play::new(fixed(1, false));
    assert_eq!([play.add(1), play.add(1)], [PASSED, DENIED]);
    outcomes(&play.store, &[charge("a", &play.limit, Hits::Refund(1), NOON)], NOON);
    assert_eq!(play.add(1), CACHED);
    play.now = NOON.plus(MAX_TTL);
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn a_changed_limit_is_not_denied_because_of_the_old_one() {
    for count_denied in [true, false] {
        let mut play = Play::new(fixed(1, count_denied));
        assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
        play.limit.requests = 3;
        assert_eq!(play.add(1), PASSED);
        play.limit.penalty = MILLI;
        assert!(play.add(9).1);
    }
}

#[test]
fn after_a_clock_has_stepped_back_the_store_is_called() {
    let mut play = Play::new(fixed(1, true));
    play.now = NOON.plus(Duration::from_secs(1));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
    play.now = NOON;
    assert_eq!(play.add(1), DENIED);
}

#[test]
fn a_penalty_is_cached_until_it_ends() {
    // The window is longer than the penalty, so the next charge begins a new penalty.
    let mut play = Play::new(Limit { penalty: 10 * MILLI, ..fixed(1, true) });
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, DENIED, CACHED]);
    play.now = NOON.plus(10 * MILLI);
    let (outcome, called) = play.charge(Hits::Add(1));
    assert!(called);
    assert_eq!(outcome.banned, 10 * MILLI);
}

/// A penalty outlasts its window, and a clock may step back into the window before.
#[test]
fn a_penalty_in_the_next_window_is_not_mixed_up_with_the_one_before() {
    let mut play = Play::new(Limit { penalty: Duration::from_secs(1), ..fixed(1, true) });
    let end = NOON.plus(Duration::from_secs(60));
    let mut at = |micros: i64| {
        play.now = Timestamp::from_micros(end.as_micros().saturating_add_signed(micros));
        play.charge(Hits::Add(2)).0.banned
    };
    let second = Duration::from_secs(1);
    assert_eq!([at(-900_000), at(-800_000)], [second, second - 100 * MILLI]);
    assert_eq!(at(50_000), second - 950 * MILLI);
    assert_eq!(at(200_000), second);
    // A ban never lasts longer than the penalty, however far back the clock steps.
    assert_eq!(at(-100), second);
}

#[test]
fn only_charges_without_a_cached_denial_are_sent() {
    let (store, limit) = (Shared::new(), fixed(1, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let hit = |name: &str| charge(name, &limit, Hits::Add(1), NOON);
    let states = |names: &[&str]| -> Vec<_> {
        let charges: Vec<_> = names.iter().map(|it| hit(it)).collect();
        let outcomes = outcomes(&cache, &charges, NOON);
        outcomes.iter().map(|it| (it.over, it.cached, it.used)).collect()
    };
    states(&["a", "a"]);
    assert_eq!(states(&["a", "b"]), [(true, true, 2), (false, false, 1)]);
    assert_eq!(states(&["b", "a", "c"])[0], (true, false, 2));
    let before = store.calls();
    assert!(states(&["a", "b"]).iter().all(|it| it.0 && it.1));
    assert_eq!(store.calls(), before);
    // Without the cache, `a` would be at 4.
    let looks = ["a", "b", "c"].map(|it| charge(it, &limit, Hits::Add(0), NOON));
    let used: Vec<_> = outcomes(&store, &looks, NOON).iter().map(|it| it.used).collect();
    assert_eq!(used, [2, 2, 1]);
}

#[test]
fn a_cached_denial_refuses_the_call_of_the_charges_sent() {
    use Enforced::{No, Quota, Yes};
    let (store, one, ten) = (Shared::new(), fixed(1, true), fixed(10, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let full = |enforced| Charge { enforced, ..charge("full", &one, Hits::Add(1), NOON) };
    outcomes(&cache, &[full(Yes), full(Yes)], NOON);
    let other = |consume, hits, enforced| {
        let other = Charge { consume, ..charge("other", &ten, Hits::Add(hits), NOON) };
        let calls = store.calls();
        let outcomes = outcomes(&cache, &[full(enforced), other], NOON);
        assert!(outcomes[0].cached);
        assert_eq!(store.calls(), calls + 1, "one round trip");
        (outcomes[1].over, outcomes[1].used)
    };
    let spare = |enforced| Charge {
        consume: Consume::AllOrNothing,
        enforced,
        ..charge("spare", &ten, Hits::Add(1), NOON)
    };
    assert_eq!(other(Consume::Independent, 1, Yes), (false, 1));
    assert_eq!(other(Consume::AllOrNothing, 1, Yes), (false, 1));
    assert_eq!(other(Consume::IfRefused, 1, Yes), (false, 1));
    // A charge that is not enforced does not refuse the call.
    assert_eq!(other(Consume::AllOrNothing, 1, No), (false, 2));
    assert_eq!(other(Consume::IfRefused, 1, No), (false, 3));
    assert_eq!(other(Consume::AllOrNothing, 8, Yes), (true, 3));
    assert_eq!(other(Consume::IfRefused, 8, Yes), (true, 11));
    // The only quota is used up.
    assert_eq!(outcomes(&cache, &[full(Quota(0)), spare(Yes)], NOON)[1].used, 0);
    // Another quota has room, so the call passes.
    assert_eq!(outcomes(&cache, &[full(Quota(0)), spare(Quota(1))], NOON)[1].used, 1);
    assert_eq!(outcomes(&cache, &[full(Quota(0)), spare(Quota(0))], NOON)[1].used, 1);
}

#[test]
fn charges_of_a_call_to_one_counter_stay_together() {
    let play = Play::new(fixed(5, false));
    let call = |amounts: &[i64]| {
        let hits = |it: &i64| match it {
            0.. => Hits::Add(it.unsigned_abs()),
            _ => Hits::Refund(it.unsigned_abs()),
        };
        let charges: Vec<_> =
            amounts.iter().map(|it| charge("a", &play.limit, hits(it), NOON)).collect();
        let outcomes = outcomes(&play.cache, &charges, NOON);
        outcomes.iter().map(|it| (it.over, it.cached, it.used)).collect::<Vec<_>>()
    };
    call(&[3]);
    call(&[4]);
    assert_eq!(call(&[3]), [(true, true, 3)]);
    assert_eq!(call(&[1, 3]), [(false, false, 4), (true, false, 4)]);
    call(&[3]);
    assert_eq!(call(&[-2, 3]), [(false, false, 2), (false, false, 5)]);
}

#[test]
fn a_denial_due_to_another_charge_of_a_refused_call_is_not_cached() {
    let mut play = Play::new(fixed(1, false));
    let twice = [1, 1].map(|it| Charge {
        consume: Consume::AllOrNothing,
        ..charge("a", &play.limit, Hits::Add(it), NOON)
    });
    assert!(outcomes(&play.cache, &twice, NOON)[1].over);
    assert_eq!(play.add(1), PASSED);
    play.now = NOON.plus(MILLI);
    assert_eq!(play.add(1), DENIED);
}

#[test]
fn a_window_below_its_limit_still_counts_denied_hits() {
    let play = Play::new(fixed(2, true));
    let whole = |hits| {
        let charge = charge("a", &play.limit, hits, NOON);
        outcomes(&play.cache, &[Charge { consume: Consume::AllOrNothing, ..charge }], NOON)[0]
    };
    // Denied, and not counted.
    assert!(whole(Hits::Add(3)).over);
    assert_eq!([play.add(3), play.add(1), play.add(1)], [DENIED, CACHED, CACHED]);
}

#[test]
fn the_cache_stays_within_its_bound_and_removes_expired_denials() {
    let (store, limit) = (Shared::new(), Limit::fixed(0, window(1)));
    let cache = DenyCache::new(store, 1_000_000);
    let shards = &cache.denials.as_ref().unwrap().shards;
    let entries = || shards.iter().map(|shard| shard.lock().denials.len()).sum::<usize>();
    let flood = |now: Timestamp, names: usize| {
        for name in 0..names {
            let name = format!("{}-{name}", now.as_micros());
            outcomes(&cache, &[charge(&name, &limit, Hits::Add(1), now)], now);
        }
    };
    flood(NOON, 20_000);
    let bytes = entries() * MAX_DENIAL_BYTES;
    assert!(bytes <= 1_000_000 && bytes > 900_000, "{bytes}");
    let later = NOON.plus(Duration::from_secs(2));
    // Half as many as fit, so that few shards overflow.
    flood(later, 500);
    let mut valid = 0;
    for shard in shards {
        valid += shard.lock().denials.values().filter(|denial| denial.is_valid(later)).count();
    }
    assert!(valid > 490);
}

#[test]
fn zero_bytes_disable_the_cache() {
    let store = Shared::new();
    let stats = StoreStats::default();
    let cache = DenyCache::new(store.clone(), 0).publish_usage(&stats);
    let limit = fixed(0, true);
    for _ in 0..3 {
        outcomes(&cache, &[charge("a", &limit, Hits::Add(1), NOON)], NOON);
    }
    assert_eq!((store.calls(), stats.deny_cache()), (3, None));
}

#[test]
fn every_lookup_is_a_hit_or_a_miss() {
    let stats = StoreStats::default();
    let cache = DenyCache::new(Shared::new(), 1 << 20).publish_usage(&stats);
    let (twenty, ten) = (fixed(20, true), fixed(10, true));
    let one = |name, limit| charge(name, limit, Hits::Add(1), NOON);
    let counts = || {
        let usage = stats.deny_cache().unwrap();
        (usage.hits, usage.misses, usage.entries)
    };
    for call in 0..25_u64 {
        outcomes(&cache, &[one("a", &twenty)], NOON);
        let entries = u64::from(call >= 20);
        assert_eq!(counts(), (call.saturating_sub(20), call.min(20) + 1, entries), "{call}");
    }
    // A charge found in the cache is not sent with the others.
    for call in 0..15_u64 {
        outcomes(&cache, &[one("b", &twenty), one("c", &ten)], NOON);
        let hits = call.saturating_sub(10);
        let misses = 21 + 2 * (call + 1) - hits;
        assert_eq!(counts(), (4 + hits, misses, 1 + u64::from(call >= 10)), "{call}");
    }
    assert_eq!(counts(), (8, 47, 2));
    // A charge of 0 hits is looked up, a refund is not.
    for (name, limit) in [("c", &ten), ("b", &twenty)] {
        outcomes(&cache, &[charge(name, limit, Hits::Add(0), NOON)], NOON);
    }
    outcomes(&cache, &[charge("b", &twenty, Hits::Refund(1), NOON)], NOON);
    assert_eq!(counts(), (9, 48, 2));
}
