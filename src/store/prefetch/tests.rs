use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    counter::{KeyFormat, KeyStyle},
    limit::{Outcome, Unit, Window},
    store::{Consume, Enforced, OnTimeout, memory::Memory},
};

mod many;

/// A store shared by several instances, and the number of its calls.
#[derive(Clone)]
struct Shared(Arc<SharedStore>);

struct SharedStore {
    memory: Memory,
    calls: AtomicU64,
}

impl Shared {
    fn new(memory: Memory) -> Self {
        Self(Arc::new(SharedStore { memory, calls: AtomicU64::new(0) }))
    }

    fn calls(&self) -> u64 {
        self.0.calls.load(Relaxed)
    }
}

impl Store for Shared {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        self.0.calls.fetch_add(1, Relaxed);
        self.0.memory.charge(charges, now, None).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Counters for Shared {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        self.0.memory.peek(counter, limit, now).await
    }

    /// Makes the change, and does not report it.
    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> Result<(), ChangeError> {
        self.0.memory.change(counter, limit, change, time).await?;
        std::future::pending().await
    }
}

fn shared() -> Shared {
    Shared::new(Memory::new(256))
}

fn charge(limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    let counter = KeyFormat::default().counter(b"a", [].into_iter(), limit, now);
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

fn call(store: &impl Store, charge: Charge, now: Timestamp) -> Outcome {
    let outcomes = store.charge(&[charge], now, None).now_or_never();
    let mut results = outcomes.expect("memory replies at once");
    results.pop().expect("one result").expect("an outcome")
}

fn hourly(requests: u32, max_prefetch: u32) -> Limit {
    Limit { max_prefetch, ..Limit::fixed(requests, Window::new(Unit::Hour)) }
}

#[test]
fn a_busy_counter_needs_few_store_calls_and_a_quiet_one_is_exact() {
    let shared = shared();
    let instance = PrefetchStore::new(shared.clone());
    let limit = hourly(100_000, 1_000);
    for hit in 1..=50_000_u64 {
        let now = Timestamp::from_micros(hit * 100);
        let outcome = call(&instance, charge(&limit, Hits::Add(1), now), now);
        assert_eq!((outcome.over, outcome.used), (false, hit));
    }
    assert!(shared.calls() < 100, "{}", shared.calls());
    let look = charge(&limit, Hits::Add(0), Timestamp::from_secs(5));
    assert!(call(&shared, look, Timestamp::from_secs(5)).used <= 51_000);
    for second in 100..130 {
        let now = Timestamp::from_secs(second);
        call(&instance, charge(&limit, Hits::Add(900), now), now);
    }
    let now = Timestamp::from_secs(200);
    let before = call(&shared, charge(&limit, Hits::Add(0), now), now).used;
    call(&instance, charge(&limit, Hits::Add(1_000), now), now);
    assert_eq!(call(&shared, charge(&limit, Hits::Add(0), now), now).used, before + 1_000);
}

#[test]
fn a_cancelled_prefetch_does_not_block_the_next() {
    let shared = shared();
    let instance = PrefetchStore::new(shared.clone());
    let limit = hourly(1_000, 10);
    let now = Timestamp::from_secs(1);
    let charge = charge(&limit, Hits::Add(1), now);
    let prefetch = instance.leases.start_prefetch(&charge, now);
    assert_eq!(instance.leases.start_prefetch(&charge, now).size, 0);
    drop(prefetch);
    assert_eq!(instance.leases.start_prefetch(&charge, now).size, 1);
}

/// Makes `calls` calls of one hit, 0.1 ms apart, and returns how many pass.
fn burst(store: &impl Store, limit: &Limit, from: Timestamp, calls: u64) -> u64 {
    let mut passed = 0;
    for hit in 0..calls {
        let now = from.plus(Duration::from_micros(hit * 100));
        passed += u64::from(!call(store, charge(limit, Hits::Add(1), now), now).over);
    }
    passed
}

#[test]
fn a_lowered_limit_applies_to_prefetched_hits() {
    let instance = PrefetchStore::new(shared());
    let limit = hourly(1_000_000, 10_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&instance, &limit, start, 16_221), 16_221);
    let later = start.plus(Duration::from_secs(2));
    assert_eq!(burst(&instance, &hourly(100, 1), later, 1_000), 0);
    assert_eq!(burst(&instance, &hourly(16_000, 160), later, 1_000), 0);
    // A raised limit admits the unspent hits.
    assert_eq!(burst(&instance, &limit, later, 1_000), 1_000);
}

#[test]
fn a_lowered_limit_applies_to_hits_prefetched_before_those_of_other_instances() {
    let shared = shared();
    let [early, late] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(1_000_000, 10_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&early, &limit, start, 400), 400);
    assert_eq!(burst(&late, &limit, start, 10_000), 10_000);
    // The first instance prefetched within the lowered limit, but more hits have passed.
    let lowered = hourly(1_000, 10);
    assert_eq!(burst(&early, &lowered, start.plus(Duration::from_secs(2)), 1_000), 0);
    assert_eq!(burst(&late, &lowered, start.plus(Duration::from_secs(2)), 1_000), 0);
}

#[test]
fn prefetched_hits_are_not_spent_in_another_window_with_the_same_name() {
    let keys = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let shared = shared();
    let instance = PrefetchStore::new(shared.clone());
    let (start, limit) = (Timestamp::from_secs(3_600), hourly(100_000, 1_000));
    let counter = keys.counter(b"a", [].into_iter(), &limit, start);
    for hit in 0..1_200 {
        let now = start.plus(Duration::from_micros(hit * 100));
        let counter = counter.clone();
        call(&instance, Charge { counter, ..charge(&limit, Hits::Add(1), now) }, now);
    }
    let minute = Limit { max_prefetch: 1_000, ..Limit::fixed(100_000, Window::new(Unit::Minute)) };
    let before = shared.calls();
    for (limit, calls) in [(hourly(100_000, 1_000), 0), (minute, 1)] {
        let now = start.plus(Duration::from_secs(1));
        let counter = keys.counter(b"a", [].into_iter(), &limit, now);
        call(&instance, Charge { counter, ..charge(&limit, Hits::Add(1), now) }, now);
        assert_eq!(shared.calls() - before, calls, "{limit}");
    }
}

#[test]
fn large_leases_save_calls_until_the_limit_is_reached() {
    for (max_prefetch, max_calls) in [(10_000, 250), (5_000, 250), (1_000, 300)] {
        let shared = shared();
        let instance = PrefetchStore::new(shared.clone());
        let start = Timestamp::from_secs(3_600);
        assert_eq!(burst(&instance, &hourly(100_000, max_prefetch), start, 101_000), 100_000);
        // Beyond the limit every call goes to the store.
        let calls = shared.calls() - 1_000;
        assert!(calls < max_calls, "{calls} store calls with max_prefetch {max_prefetch}");
    }
}

#[test]
fn an_instance_holds_at_most_a_tenth_of_the_hits_left() {
    let shared = shared();
    let [busy, other] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(1_000, 100);
    let mut used = 0;
    for round in 0..9 {
        let start = Timestamp::from_secs(3_600 + round);
        used += burst(&busy, &limit, start, 100);
        let look = charge(&limit, Hits::Add(0), start);
        let held = call(&shared, look, start).used - used;
        assert!(held * 10 <= 1_000 - used + held, "{held} held, {used} used");
    }
    let passed = burst(&other, &limit, Timestamp::from_secs(3_700), 1_000);
    assert!(1_000 - used - passed <= 20, "{passed} of {}", 1_000 - used);
}

/// Refunds unused hits, as an instance does on shutdown.
fn shut_down(instance: &PrefetchStore<Shared>, now: Timestamp) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(instance.leases.refund_unused(&instance.store, now));
}

fn used(store: &impl Store, limit: &Limit, now: Timestamp) -> u64 {
    call(store, charge(limit, Hits::Add(0), now), now).used
}

#[test]
fn unspent_hits_refunded_on_shutdown_pass_elsewhere() {
    let shared = shared();
    let [first, second] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(10_000, 1_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&first, &limit, start, 1_200), 1_200);
    let now = start.plus(Duration::from_secs(1));
    assert!(1_200 < used(&shared, &limit, now));
    shut_down(&first, now);
    assert_eq!(used(&shared, &limit, now), 1_200);
    // Calls after the shutdown do not prefetch.
    burst(&first, &limit, now, 100);
    assert_eq!(used(&shared, &limit, now), 1_300);
    assert_eq!(burst(&second, &limit, now, 10_000), 8_700);
}

/// Leases of a busy counter, all spent, the value of the counter, and the next moment.
fn busy(limit: &Limit) -> (QuotaLeases, u64, Timestamp) {
    let (leases, mut count, mut now) = (QuotaLeases::default(), 0, Timestamp::from_secs(3_600));
    for _ in 0..6 {
        let charge = charge(limit, Hits::Add(1), now);
        let mut prefetch = leases.start_prefetch(&charge, now);
        prefetch.finish(count, count + 1);
        count += 1 + prefetch.size;
        for _ in 0..prefetch.size {
            assert!(leases.spend(&charge, 1, now).is_some());
        }
        now = now.plus(Duration::from_millis(1));
    }
    (leases, count, now)
}

#[test]
fn hits_prefetched_within_the_limit_are_all_spent() {
    let limit = hourly(1_000, 100);
    let (leases, _, now) = busy(&limit);
    let charge = charge(&limit, Hits::Add(1), now);
    let mut prefetch = leases.start_prefetch(&charge, now);
    assert!(3 < prefetch.size);
    // Other instances have used the rest of the limit.
    prefetch.finish(996, 997);
    let spent: Vec<_> = (0..4).map(|_| leases.spend(&charge, 1, now)).collect();
    assert_eq!(spent, [Some(998), Some(999), Some(1_000), None]);
}

#[test]
fn hits_that_the_store_has_lost_are_not_spent() {
    let limit = hourly(1_000, 100);
    let (leases, count, now) = busy(&limit);
    let charge = charge(&limit, Hits::Add(1), now);
    let mut prefetch = leases.start_prefetch(&charge, now);
    prefetch.finish(count, count + 1);
    let held = prefetch.size;
    drop(prefetch);
    assert!(10 < held);
    let later = now.plus(Duration::from_secs(10));
    leases.start_prefetch(&charge, later).finish(3, 4);
    let spent = (0..held).filter(|_| leases.spend(&charge, 1, later).is_some()).count();
    assert_eq!(spent, 3);
}

#[test]
fn a_lease_of_an_ended_window_is_not_refunded() {
    let shared = shared();
    let instance = PrefetchStore::new(shared.clone());
    let limit = hourly(10_000, 1_000);
    burst(&instance, &limit, Timestamp::from_secs(3_600), 1_200);
    let asked = shared.calls();
    shut_down(&instance, Timestamp::from_secs(7_200));
    assert_eq!(shared.calls(), asked);
}

#[test]
fn the_lease_of_a_counter_that_was_set_is_neither_spent_nor_refunded() {
    let shared = shared();
    let instance = PrefetchStore::new(shared.clone());
    let limit = hourly(10_000, 1_000);
    let start = Timestamp::from_secs(3_600);
    burst(&instance, &limit, start, 1_200);
    let now = start.plus(Duration::from_millis(130));
    let charge = charge(&limit, Hits::Add(1), now);
    let mut late = instance.leases.start_prefetch(&charge, now);
    assert!(0 < late.size);
    // The caller leaves before it learns that the counter was set.
    let set = CounterChange::Set(1_200);
    assert!(
        instance.change(&charge.counter, &limit, set, CallTime::at(now)).now_or_never().is_none()
    );
    // The reply to an earlier prefetch is ignored.
    let again = instance.leases.start_prefetch(&charge, now);
    late.finish(1_200, 1_201);
    drop(late);
    assert_eq!(instance.leases.spend(&charge, 1, now), None);
    assert_eq!(instance.leases.start_prefetch(&charge, now).size, 0, "a prefetch is in flight");
    drop(again);
    let before = used(&shared, &limit, now);
    shut_down(&instance, now);
    assert_eq!(used(&shared, &limit, now), before);
}

/// A store that never replies.
struct Unresponsive;

impl Store for Unresponsive {
    async fn charge(&self, _: &[Charge], _: Timestamp, _: Deadline) -> Results {
        std::future::pending().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_two_seconds_for_an_unresponsive_store() {
    let instance = PrefetchStore::new(shared());
    let start = Timestamp::from_secs(3_600);
    let limit = hourly(10_000, 1_000);
    for hit in 0..1_200 {
        let now = start.plus(Duration::from_micros(hit * 100));
        call(&instance, charge(&limit, Hits::Add(1), now), now);
    }
    let begun = tokio::time::Instant::now();
    instance.leases.refund_unused(&Unresponsive, start).await;
    assert_eq!(begun.elapsed().as_secs(), 2);
}

proptest! {
    /// Hits of 3 instances in one window. The limit is lowered at some moment, and in the
    /// end all instances refund their unused hits.
    #[test]
    fn instances_together_never_exceed_the_limit_and_lose_few_hits(
        max_prefetch in 0..40_u32,
        lowered in (prop_oneof![Just(400), 0..400_u32], 0..900_usize),
        calls in vec((0..3_usize, 1..4_u64, 0..30_000_u64), 300..900),
    ) {
        let shared = shared();
        let instances = [(); 3].map(|()| PrefetchStore::new(shared.clone()));
        let (mut passed, mut requested, mut refused) = (0, 0, false);
        let mut now = Timestamp::from_secs(3_600);
        for (at, (instance, hits, pause)) in calls.into_iter().enumerate() {
            now = now.plus(Duration::from_micros(pause));
            let requests = if lowered.1 <= at { lowered.0 } else { 400 };
            let limit = hourly(requests, max_prefetch);
            let outcome = call(&instances[instance], charge(&limit, Hits::Add(hits), now), now);
            requested += hits;
            if outcome.over {
                refused = true;
            } else {
                passed += hits;
                prop_assert!(passed <= u64::from(requests), "{passed} of {requests}");
            }
            prop_assert!(outcome.remaining <= requests);
        }
        // Hits refused just below the limit count as well.
        let lost = 3 * u64::from(max_prefetch) + 3;
        prop_assert!(!refused || u64::from(lowered.0) <= passed + lost, "{passed}");
        instances.iter().for_each(|instance| shut_down(instance, now));
        prop_assert_eq!(used(&shared, &hourly(400, 0), now), requested);
    }
}
