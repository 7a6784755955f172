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

/// A store that several instances share.
#[derive(Clone)]
struct Shared(Arc<(Memory, AtomicU64)>);

impl Store for Shared {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        self.0.1.fetch_add(1, Relaxed);
        self.0.0.charge(charges, now, None).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn shared() -> Shared {
    Shared(Arc::new((Memory::new(256), AtomicU64::new(0))))
}

fn charge(limit: &Limit, hits: Hits, now: Timestamp) -> Charge {
    let counter = KeyFormat::default().key(b"a", [].into_iter(), limit, now);
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
    let mut results = outcomes.expect("memory answers at once");
    results.pop().expect("there is one charge").expect("it answers")
}

fn hourly(requests: u32, ahead: u32) -> Limit {
    Limit { max_prefetch: ahead, ..Limit::fixed(requests, Window::new(Unit::Hour)) }
}

#[test]
fn a_busy_counter_costs_few_calls_and_a_quiet_one_is_exact() {
    let shared = shared();
    let ahead = PrefetchStore::new(shared.clone());
    let limit = hourly(100_000, 1_000);
    for hit in 1..=50_000_u64 {
        let now = Timestamp::from_micros(hit * 100);
        let outcome = call(&ahead, charge(&limit, Hits::Add(1), now), now);
        assert_eq!((outcome.over, outcome.used), (false, hit));
    }
    assert!(shared.0.1.load(Relaxed) < 100, "{:?}", shared.0.1);
    let look = charge(&limit, Hits::Add(0), Timestamp::from_secs(5));
    assert!(call(&shared, look, Timestamp::from_secs(5)).used <= 51_000);
    for second in 100..130 {
        let now = Timestamp::from_secs(second);
        call(&ahead, charge(&limit, Hits::Add(900), now), now);
    }
    let now = Timestamp::from_secs(200);
    let before = call(&shared, charge(&limit, Hits::Add(0), now), now).used;
    call(&ahead, charge(&limit, Hits::Add(1_000), now), now);
    assert_eq!(call(&shared, charge(&limit, Hits::Add(0), now), now).used, before + 1_000);
}

#[test]
fn what_a_caller_that_gives_up_was_taking_is_lost_and_no_more() {
    let shared = shared();
    let ahead = PrefetchStore::new(shared.clone());
    let limit = hourly(1_000, 10);
    let now = Timestamp::from_secs(1);
    let charge = charge(&limit, Hits::Add(1), now);
    let taking = ahead.leases.begin(&charge, now);
    assert_eq!(ahead.leases.begin(&charge, now).size, 0);
    drop(taking);
    assert_eq!(ahead.leases.begin(&charge, now).size, 1);
}

/// `calls` calls of one hit, a tenth of a millisecond apart; how many pass.
fn burst(store: &impl Store, limit: &Limit, from: Timestamp, calls: u64) -> u64 {
    let pass = |it: &u64| {
        let now = from.plus(Duration::from_micros(it * 100));
        !call(store, charge(limit, Hits::Add(1), now), now).over
    };
    (0..calls).filter(pass).count() as u64
}

#[test]
fn a_lowered_limit_holds_for_hits_taken_ahead() {
    let ahead = PrefetchStore::new(shared());
    let limit = hourly(1_000_000, 10_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&ahead, &limit, start, 16_221), 16_221);
    let later = start.plus(Duration::from_secs(2));
    assert_eq!(burst(&ahead, &hourly(100, 1), later, 1_000), 0);
    assert_eq!(burst(&ahead, &hourly(16_000, 160), later, 1_000), 0);
    // A raised one lets pass what is there.
    assert_eq!(burst(&ahead, &limit, later, 1_000), 1_000);
}

#[test]
fn a_lowered_limit_holds_for_hits_taken_ahead_of_those_of_others() {
    let shared = shared();
    let [early, late] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(1_000_000, 10_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&early, &limit, start, 400), 400);
    assert_eq!(burst(&late, &limit, start, 10_000), 10_000);
    // What the first has taken was counted within this limit, but more has passed.
    let lowered = hourly(1_000, 10);
    assert_eq!(burst(&early, &lowered, start.plus(Duration::from_secs(2)), 1_000), 0);
    assert_eq!(burst(&late, &lowered, start.plus(Duration::from_secs(2)), 1_000), 0);
}

#[test]
fn hits_taken_ahead_in_one_window_are_not_spent_in_another_of_the_same_name() {
    let keys = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let shared = shared();
    let ahead = PrefetchStore::new(shared.clone());
    let (start, limit) = (Timestamp::from_secs(3_600), hourly(100_000, 1_000));
    let counter = keys.key(b"a", [].into_iter(), &limit, start);
    for hit in 0..1_200 {
        let now = start.plus(Duration::from_micros(hit * 100));
        let counter = counter.clone();
        call(&ahead, Charge { counter, ..charge(&limit, Hits::Add(1), now) }, now);
    }
    let minute = Limit { max_prefetch: 1_000, ..Limit::fixed(100_000, Window::new(Unit::Minute)) };
    let before = shared.0.1.load(Relaxed);
    for (limit, asked) in [(hourly(100_000, 1_000), 0), (minute, 1)] {
        let now = start.plus(Duration::from_secs(1));
        let counter = keys.key(b"a", [].into_iter(), &limit, now);
        call(&ahead, Charge { counter, ..charge(&limit, Hits::Add(1), now) }, now);
        assert_eq!(shared.0.1.load(Relaxed) - before, asked, "{limit}");
    }
}

#[test]
fn a_lease_of_the_largest_part_saves_calls_to_the_end_of_the_limit() {
    for (ahead, most) in [(10_000, 250), (5_000, 250), (1_000, 300)] {
        let shared = shared();
        let instance = PrefetchStore::new(shared.clone());
        let start = Timestamp::from_secs(3_600);
        assert_eq!(burst(&instance, &hourly(100_000, ahead), start, 101_000), 100_000);
        // Beyond the limit every call asks.
        let asked = shared.0.1.load(Relaxed) - 1_000;
        assert!(asked < most, "{asked} of 100,000 calls asked with {ahead} ahead");
    }
}

#[test]
fn one_instance_holds_at_most_a_tenth_of_what_was_left_for_the_others() {
    let shared = shared();
    let [busy, other] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(1_000, 100);
    let mut used = 0;
    for round in 0..9 {
        let start = Timestamp::from_secs(3_600 + round);
        used += burst(&busy, &limit, start, 100);
        let look = charge(&limit, Hits::Add(0), start);
        let held = call(&shared, look, start).used - used;
        assert!(held * 10 <= 1_000 - used + held, "{held} held when {used} are used");
    }
    let passed = burst(&other, &limit, Timestamp::from_secs(3_700), 1_000);
    assert!(1_000 - used - passed <= 20, "{passed} of {}", 1_000 - used);
}

/// Ends an instance.
fn end(ahead: &PrefetchStore<Shared>, now: Timestamp) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("it can be built").block_on(ahead.leases.refund_unused(&ahead.store, now));
}

fn used(store: &impl Store, limit: &Limit, now: Timestamp) -> u64 {
    call(store, charge(limit, Hits::Add(0), now), now).used
}

#[test]
fn what_an_instance_has_left_at_its_end_passes_elsewhere() {
    let shared = shared();
    let [first, second] = [(); 2].map(|()| PrefetchStore::new(shared.clone()));
    let limit = hourly(10_000, 1_000);
    let start = Timestamp::from_secs(3_600);
    assert_eq!(burst(&first, &limit, start, 1_200), 1_200);
    let now = start.plus(Duration::from_secs(1));
    assert!(1_200 < used(&shared, &limit, now));
    end(&first, now);
    assert_eq!(used(&shared, &limit, now), 1_200);
    // A call that comes too late takes nothing that nobody would give back.
    burst(&first, &limit, now, 100);
    assert_eq!(used(&shared, &limit, now), 1_300);
    assert_eq!(burst(&second, &limit, now, 10_000), 8_700);
}

/// QuotaLeases of a busy counter, all spent, the counter, and the next moment.
fn busy(limit: &Limit) -> (QuotaLeases, u64, Timestamp) {
    let (leases, mut count, mut now) = (QuotaLeases::default(), 0, Timestamp::from_secs(3_600));
    for _ in 0..6 {
        let charge = charge(limit, Hits::Add(1), now);
        let mut taking = leases.begin(&charge, now);
        taking.taken(count, count + 1);
        count += 1 + taking.size;
        (0..taking.size).for_each(|_| assert!(leases.spend(&charge, 1, now).is_some()));
        now = now.plus(Duration::from_millis(1));
    }
    (leases, count, now)
}

#[test]
fn what_was_taken_within_the_limit_is_spent_to_the_last_hit() {
    let limit = hourly(1_000, 100);
    let (leases, _, now) = busy(&limit);
    let charge = charge(&limit, Hits::Add(1), now);
    let mut taking = leases.begin(&charge, now);
    assert!(3 < taking.size);
    // Others were faster.
    taking.taken(996, 997);
    let spent: Vec<_> = (0..4).map(|_| leases.spend(&charge, 1, now)).collect();
    assert_eq!(spent, [Some(998), Some(999), Some(1_000), None]);
}

#[test]
fn what_a_store_has_lost_is_not_spent() {
    let limit = hourly(1_000, 100);
    let (leases, count, now) = busy(&limit);
    let charge = charge(&limit, Hits::Add(1), now);
    let mut taking = leases.begin(&charge, now);
    taking.taken(count, count + 1);
    let held = taking.size;
    drop(taking);
    assert!(10 < held);
    let later = now.plus(Duration::from_secs(10));
    leases.begin(&charge, later).taken(3, 4);
    let spent = (0..held).filter(|_| leases.spend(&charge, 1, later).is_some()).count();
    assert_eq!(spent, 3);
}

#[test]
fn a_lease_of_a_window_that_is_over_is_not_given_back() {
    let shared = shared();
    let ahead = PrefetchStore::new(shared.clone());
    let limit = hourly(10_000, 1_000);
    burst(&ahead, &limit, Timestamp::from_secs(3_600), 1_200);
    let asked = shared.0.1.load(Relaxed);
    end(&ahead, Timestamp::from_secs(7_200));
    assert_eq!(shared.0.1.load(Relaxed), asked);
}

#[test]
fn of_a_counter_that_was_set_nothing_is_spent_or_given_back() {
    let shared = shared();
    let ahead = PrefetchStore::new(shared.clone());
    let limit = hourly(10_000, 1_000);
    let start = Timestamp::from_secs(3_600);
    burst(&ahead, &limit, start, 1_200);
    let now = start.plus(Duration::from_millis(130));
    let charge = charge(&limit, Hits::Add(1), now);
    let mut late = ahead.leases.begin(&charge, now);
    assert!(0 < late.size);
    ahead.leases().forget(&charge.counter.key);
    // What was on its way may be counted no more.
    let again = ahead.leases.begin(&charge, now);
    late.taken(1_200, 1_201);
    drop(late);
    assert_eq!(ahead.leases.spend(&charge, 1, now), None);
    assert_eq!(ahead.leases.begin(&charge, now).size, 0, "another takes already");
    drop(again);
    let before = used(&shared, &limit, now);
    end(&ahead, now);
    assert_eq!(used(&shared, &limit, now), before);
}

/// A store that does not answer.
struct Silent;

impl Store for Silent {
    async fn charge(&self, _: &[Charge], _: Timestamp, _: Deadline) -> Results {
        std::future::pending().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_long_for_a_store_that_is_silent() {
    let ahead = PrefetchStore::new(shared());
    let start = Timestamp::from_secs(3_600);
    let limit = hourly(10_000, 1_000);
    for hit in 0..1_200 {
        let now = start.plus(Duration::from_micros(hit * 100));
        call(&ahead, charge(&limit, Hits::Add(1), now), now);
    }
    let begun = tokio::time::Instant::now();
    ahead.leases.refund_unused(&Silent, start).await;
    assert_eq!(begun.elapsed().as_secs(), 2);
}

proptest! {
    /// Hits of 3 instances within one window. At some moment the limit is lowered,
    /// and at the end they give back what they have left.
    #[test]
    fn never_more_passes_than_the_limit_and_hardly_less(
        ahead in 0..40_u32,
        lowered in (prop_oneof![Just(400), 0..400_u32], 0..900_usize),
        calls in vec((0..3_usize, 1..4_u64, 0..30_000_u64), 300..900),
    ) {
        let shared = shared();
        let instances = [(); 3].map(|()| PrefetchStore::new(shared.clone()));
        let (mut passed, mut asked, mut refused) = (0, 0, false);
        let mut now = Timestamp::from_secs(3_600);
        for (at, (instance, hits, pause)) in calls.into_iter().enumerate() {
            now = now.plus(Duration::from_micros(pause));
            let requests = if lowered.1 <= at { lowered.0 } else { 400 };
            let limit = hourly(requests, ahead);
            let outcome = call(&instances[instance], charge(&limit, Hits::Add(hits), now), now);
            asked += hits;
            if outcome.over {
                refused = true;
            } else {
                passed += hits;
                prop_assert!(passed <= u64::from(requests), "{passed} of {requests}");
            }
            prop_assert!(outcome.remaining <= requests);
        }
        // What is refused at the edge counts as well.
        let lost = 3 * u64::from(ahead) + 3;
        prop_assert!(!refused || u64::from(lowered.0) <= passed + lost, "{passed}");
        instances.iter().for_each(|it| end(it, now));
        prop_assert_eq!(used(&shared, &hourly(400, 0), now), asked);
    }
}
