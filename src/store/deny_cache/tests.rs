use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicUsize},
};

use futures_util::FutureExt;

use super::*;
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Hits, Limit, Unit, Window},
    store::{Consume, Enforced, OnTimeout, memory::Memory},
};

mod games;
mod mixed;

const NOON: Timestamp = Timestamp::from_secs(43_200);
const MILLI: Duration = Duration::from_millis(1);

/// A store in memory that others use, too, and that counts the calls.
#[derive(Debug, Clone)]
struct Shared {
    memory: Arc<Memory>,
    calls: Arc<AtomicUsize>,
}

impl Shared {
    fn new() -> Self {
        Self { memory: Arc::new(Memory::new(10_000)), calls: Arc::default() }
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

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        self.memory.reset(counter).await
    }

    async fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.memory.set(counter, limit, used, now).await
    }
}

fn results(store: &impl Store, charges: &[Charge], now: Timestamp) -> Results {
    store.charge(charges, now, None).now_or_never().expect("memory waits for nobody")
}

fn make(store: &impl Store, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
    results(store, charges, now).into_iter().map(Result::unwrap).collect()
}

fn window(seconds: u32) -> Window {
    Window::times(Unit::Second, NonZeroU32::new(seconds).unwrap()).unwrap()
}

fn charge(name: &str, limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
    let counter = KeyFormat::default().key(b"domain", [part].into_iter(), limit, now);
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
    fn of(limit: Limit) -> Self {
        let store = Shared::new();
        let cache = DenyCache::new(store.clone(), 1 << 20);
        Self { store, cache, limit, now: NOON }
    }

    /// What becomes of `hits`, and whether the store was asked.
    fn ask(&self, hits: Hits) -> (Outcome, bool) {
        let before = self.store.calls();
        let charges = [charge("a", &self.limit, hits, self.now)];
        let outcome = make(&self.cache, &charges, self.now)[0];
        let asked = before < self.store.calls();
        assert_eq!(asked, !outcome.cached);
        (outcome, asked)
    }

    /// Whether `hits` are refused, and whether the store was asked.
    fn add(&self, hits: u64) -> (bool, bool) {
        let (outcome, asked) = self.ask(Hits::Add(hits));
        (outcome.over, asked)
    }
}

const PASSED: (bool, bool) = (false, true);
const REFUSED: (bool, bool) = (true, true);
const KNOWN: (bool, bool) = (true, false);

fn fixed(requests: u32, count_denied: bool) -> Limit {
    let algorithm = Algorithm::FixedWindow { count_denied };
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) }
}

#[test]
fn a_refusal_is_repeated_without_asking_and_asked_about_again_after_a_second() {
    let mut play = Play::of(fixed(1, true));
    assert_eq!(
        [play.add(1), play.add(1), play.add(1), play.add(7)],
        [PASSED, REFUSED, KNOWN, KNOWN]
    );
    play.now = NOON.plus(MAX_TTL - Duration::from_micros(1));
    let (outcome, asked) = play.ask(Hits::Add(1));
    assert!(!asked);
    assert_eq!(outcome.retry_after, Some(Duration::from_micros(59_000_001)));
    play.now = NOON.plus(MAX_TTL);
    assert_eq!([play.add(1), play.add(1)], [REFUSED, KNOWN]);
}

#[test]
fn whoever_comes_back_at_the_moment_told_passes_and_a_microsecond_before_is_refused_here() {
    let algorithm = Algorithm::TokenBucket { burst: 1 };
    let limit = Limit { algorithm, ..Limit::fixed(5, window(1)) };
    let mut play = Play::of(limit);
    assert_eq!([play.add(1), play.add(1)], [PASSED, REFUSED]);
    play.now = NOON.plus(Duration::from_micros(199_999));
    assert_eq!(play.add(1), KNOWN);
    play.now = NOON.plus(Duration::from_millis(200));
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn fewer_hits_than_were_refused_ask() {
    let play = Play::of(fixed(5, false));
    assert_eq!(play.add(3), PASSED);
    assert_eq!([play.add(4), play.add(4), play.add(3)], [REFUSED, KNOWN, KNOWN]);
    assert_eq!([play.add(2), play.add(1)], [PASSED, REFUSED]);
}

#[test]
fn looks_are_refused_where_a_window_is_over_its_limit_and_teach_that() {
    for count_denied in [true, false] {
        let mut play = Play::of(fixed(5, count_denied));
        play.add(4);
        play.limit.requests = 3;
        assert_eq!([play.add(0), play.add(0), play.add(1)], [REFUSED, KNOWN, KNOWN]);
    }
    let play = Play::of(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
    assert_eq!(play.add(0), PASSED, "a look at a window that is just full passes");
    let play = Play::of(Limit { penalty: MILLI, ..fixed(1, true) });
    assert_eq!([play.add(2), play.add(0), play.add(0)], [REFUSED; 3]);
}

#[test]
fn slots_of_calls_at_once_are_never_answered_from_memory() {
    let algorithm = Algorithm::Concurrency { lease: Duration::from_secs(9) };
    for penalty in [Duration::ZERO, Duration::from_secs(9)] {
        let play = Play::of(Limit { algorithm, penalty, ..fixed(1, true) });
        assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, REFUSED]);
    }
}

#[test]
fn a_refund_lifts_what_this_process_has_refused_at_once() {
    let play = Play::of(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
    play.ask(Hits::Refund(1));
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn a_refund_that_nobody_waits_for_lifts_it_too() {
    let play = Play::of(fixed(1, false));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
    let charges = [charge("a", &play.limit, Hits::Refund(1), NOON)];
    drop(Refunds { cache: &play.cache.refusals, charges: &charges });
    assert_eq!(play.add(1), REFUSED);
}

#[test]
fn what_was_refused_before_a_refund_is_not_learned_after_it() {
    let play = Play::of(fixed(1, false));
    let refused = [charge("a", &play.limit, Hits::Add(1), NOON)];
    let turn = play.cache.refusals.turn();
    make(&play.store, &refused, NOON);
    let results = results(&play.store, &refused, NOON);
    assert!(results[0].as_ref().unwrap().over);
    play.ask(Hits::Refund(1));
    play.cache.refusals.learn(&refused, &results, turn, NOON);
    assert_eq!(play.add(1), PASSED);
}

/// What differs from a store that is always asked, and nothing else does: see
/// the games.
#[test]
fn hits_that_are_refused_here_are_not_there_to_be_given_back() {
    let limit = fixed(1, true);
    let (play, store) = (Play::of(limit.clone()), Shared::new());
    let direct = |hits| make(&store, &[charge("a", &limit, hits, NOON)], NOON)[0];
    for _ in 0..9 {
        assert_eq!(play.ask(Hits::Add(1)).0.over, direct(Hits::Add(1)).over);
    }
    // The one that passed and the one that was refused there.
    assert_eq!(play.ask(Hits::Refund(2)).0.used, 0);
    assert_eq!(direct(Hits::Refund(2)).used, 7);
    assert_eq!((play.add(1), direct(Hits::Add(1)).over), (PASSED, true));
}

#[test]
fn a_refund_of_another_instance_is_felt_within_a_second() {
    let mut play = Play::of(fixed(1, false));
    assert_eq!([play.add(1), play.add(1)], [PASSED, REFUSED]);
    make(&play.store, &[charge("a", &play.limit, Hits::Refund(1), NOON)], NOON);
    assert_eq!(play.add(1), KNOWN);
    play.now = NOON.plus(MAX_TTL);
    assert_eq!(play.add(1), PASSED);
}

#[test]
fn a_limit_that_was_changed_is_not_refused_for_the_old_one() {
    for count_denied in [true, false] {
        let mut play = Play::of(fixed(1, count_denied));
        assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
        play.limit.requests = 3;
        assert_eq!(play.add(1), PASSED);
        play.limit.penalty = MILLI;
        assert!(play.add(9).1);
    }
}

#[test]
fn a_clock_that_steps_back_asks() {
    let mut play = Play::of(fixed(1, true));
    play.now = NOON.plus(Duration::from_secs(1));
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
    play.now = NOON;
    assert_eq!(play.add(1), REFUSED);
}

#[test]
fn a_penalty_is_known_until_it_ends_and_no_longer() {
    // The window is longer: what comes after the penalty begins a new one.
    let mut play = Play::of(Limit { penalty: 10 * MILLI, ..fixed(1, true) });
    assert_eq!([play.add(1), play.add(1), play.add(1)], [PASSED, REFUSED, KNOWN]);
    play.now = NOON.plus(10 * MILLI);
    let (outcome, asked) = play.ask(Hits::Add(1));
    assert!(asked);
    assert_eq!(outcome.banned, 10 * MILLI);
}

/// A penalty outlasts its window, and a clock may step back over the edge.
#[test]
fn a_penalty_that_began_in_the_next_window_is_no_other_than_the_last_one() {
    let mut play = Play::of(Limit { penalty: Duration::from_secs(1), ..fixed(1, true) });
    let end = NOON.plus(Duration::from_secs(60));
    let mut at = |micros: i64| {
        play.now = Timestamp::from_micros(end.as_micros().saturating_add_signed(micros));
        play.ask(Hits::Add(2)).0.banned
    };
    let second = Duration::from_secs(1);
    assert_eq!([at(-900_000), at(-800_000)], [second, second - 100 * MILLI]);
    assert_eq!(at(50_000), second - 950 * MILLI);
    assert_eq!(at(200_000), second);
    // No ban lasts longer than a penalty, however far back the clock steps.
    assert_eq!(at(-100), second);
}

#[test]
fn of_a_call_only_what_is_not_known_to_be_refused_is_sent() {
    let (store, limit) = (Shared::new(), fixed(1, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let hit = |name: &str| charge(name, &limit, Hits::Add(1), NOON);
    let states = |names: &[&str]| -> Vec<_> {
        let charges: Vec<_> = names.iter().map(|it| hit(it)).collect();
        let outcomes = make(&cache, &charges, NOON);
        outcomes.iter().map(|it| (it.over, it.cached, it.used)).collect()
    };
    states(&["a", "a"]);
    assert_eq!(states(&["a", "b"]), [(true, true, 2), (false, false, 1)]);
    assert_eq!(states(&["b", "a", "c"])[0], (true, false, 2));
    let before = store.calls();
    assert!(states(&["a", "b"]).iter().all(|it| it.0 && it.1));
    assert_eq!(store.calls(), before);
    // What the counters of a call are without a cache: two refusals were known.
    let looks = ["a", "b", "c"].map(|it| charge(it, &limit, Hits::Add(0), NOON));
    let used: Vec<_> = make(&store, &looks, NOON).iter().map(|it| it.used).collect();
    assert_eq!(used, [2, 2, 1]);
}

#[test]
fn what_others_of_a_call_are_to_consume_if_it_is_refused_they_do_if_that_is_known() {
    use Enforced::{No, Quota, Yes};
    let (store, one, ten) = (Shared::new(), fixed(1, true), fixed(10, true));
    let cache = DenyCache::new(store.clone(), 1 << 20);
    let full = |enforced| Charge { enforced, ..charge("full", &one, Hits::Add(1), NOON) };
    make(&cache, &[full(Yes), full(Yes)], NOON);
    let other = |consume, hits, enforced| {
        let other = Charge { consume, ..charge("other", &ten, Hits::Add(hits), NOON) };
        let calls = store.calls();
        let outcomes = make(&cache, &[full(enforced), other], NOON);
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
    // What refuses no call stops nobody.
    assert_eq!(other(Consume::AllOrNothing, 1, No), (false, 2));
    assert_eq!(other(Consume::IfRefused, 1, No), (false, 3));
    assert_eq!(other(Consume::AllOrNothing, 8, Yes), (true, 3));
    assert_eq!(other(Consume::IfRefused, 8, Yes), (true, 11));
    // It is the only quota, and used up.
    assert_eq!(make(&cache, &[full(Quota(0)), spare(Yes)], NOON)[1].used, 0);
    // Another quota has room, and so the call passes.
    assert_eq!(make(&cache, &[full(Quota(0)), spare(Quota(1))], NOON)[1].used, 1);
    assert_eq!(make(&cache, &[full(Quota(0)), spare(Quota(0))], NOON)[1].used, 1);
}

#[test]
fn charges_of_a_call_to_one_counter_stay_together() {
    let play = Play::of(fixed(5, false));
    let call = |amounts: &[i64]| {
        let hits = |it: &i64| match it {
            0.. => Hits::Add(it.unsigned_abs()),
            _ => Hits::Refund(it.unsigned_abs()),
        };
        let charges: Vec<_> =
            amounts.iter().map(|it| charge("a", &play.limit, hits(it), NOON)).collect();
        let outcomes = make(&play.cache, &charges, NOON);
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
fn a_charge_that_was_refused_for_one_that_was_not_made_is_not_remembered() {
    let mut play = Play::of(fixed(1, false));
    let twice = [1, 1].map(|it| Charge {
        consume: Consume::AllOrNothing,
        ..charge("a", &play.limit, Hits::Add(it), NOON)
    });
    assert!(make(&play.cache, &twice, NOON)[1].over);
    assert_eq!(play.add(1), PASSED);
    play.now = NOON.plus(MILLI);
    assert_eq!(play.add(1), REFUSED);
}

#[test]
fn a_window_that_is_not_over_its_limit_still_counts_what_it_refuses() {
    let play = Play::of(fixed(2, true));
    let whole = |hits| {
        let charge = charge("a", &play.limit, hits, NOON);
        make(&play.cache, &[Charge { consume: Consume::AllOrNothing, ..charge }], NOON)[0]
    };
    // Refused, and not counted.
    assert!(whole(Hits::Add(3)).over);
    assert_eq!([play.add(3), play.add(1), play.add(1)], [REFUSED, KNOWN, KNOWN]);
}

#[test]
fn a_flood_of_refusals_stays_within_the_bound_and_what_has_ended_goes() {
    let (store, limit) = (Shared::new(), Limit::fixed(0, window(1)));
    let cache = DenyCache::new(store, 1_000_000);
    let shards = &cache.refusals.shards;
    let kept = || shards.iter().map(|it| it.lock().refusals.len()).sum::<usize>();
    let flood = |now: Timestamp, names: usize| {
        for name in 0..names {
            let name = format!("{}-{name}", now.as_micros());
            make(&cache, &[charge(&name, &limit, Hits::Add(1), now)], now);
        }
    };
    flood(NOON, 20_000);
    assert!(kept() * EACH <= 1_000_000 && kept() * EACH > 900_000, "{} of {EACH}", kept());
    let later = NOON.plus(Duration::from_secs(2));
    // Half as many as fit, so that no shard is given many more than it keeps.
    flood(later, 500);
    let live =
        shards.iter().map(|it| it.lock().refusals.values().filter(|it| it.holds(later)).count());
    assert!(live.sum::<usize>() > 490);
}

#[test]
fn no_bytes_are_no_cache() {
    let store = Shared::new();
    let readings = StoreStats::default();
    let cache = DenyCache::new(store.clone(), 0).publish_usage(&readings);
    let limit = fixed(0, true);
    for _ in 0..3 {
        make(&cache, &[charge("a", &limit, Hits::Add(1), NOON)], NOON);
    }
    assert_eq!((store.calls(), readings.deny_cache()), (3, None));
}

#[test]
fn every_counter_asked_about_is_one_hit_or_one_miss() {
    let readings = StoreStats::default();
    let cache = DenyCache::new(Shared::new(), 1 << 20).publish_usage(&readings);
    let (twenty, ten) = (fixed(20, true), fixed(10, true));
    let one = |name, limit| charge(name, limit, Hits::Add(1), NOON);
    let counts = || {
        let usage = readings.deny_cache().unwrap();
        (usage.hits, usage.misses, usage.entries)
    };
    for call in 0..25_u64 {
        make(&cache, &[one("a", &twenty)], NOON);
        let refused = u64::from(call >= 20);
        assert_eq!(counts(), (call.saturating_sub(20), call.min(20) + 1, refused), "{call}");
    }
    // What is known is not sent along with the rest.
    for call in 0..15_u64 {
        make(&cache, &[one("b", &twenty), one("c", &ten)], NOON);
        let known = call.saturating_sub(10);
        let asked = 21 + 2 * (call + 1) - known;
        assert_eq!(counts(), (4 + known, asked, 1 + u64::from(call >= 10)), "{call}");
    }
    assert_eq!(counts(), (8, 47, 2));
    // Whoever looks is told, too, and what is given back is not looked up.
    for (name, limit) in [("c", &ten), ("b", &twenty)] {
        make(&cache, &[charge(name, limit, Hits::Add(0), NOON)], NOON);
    }
    make(&cache, &[charge("b", &twenty, Hits::Refund(1), NOON)], NOON);
    assert_eq!(counts(), (9, 48, 2));
}
