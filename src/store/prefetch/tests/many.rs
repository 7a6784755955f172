//! Many counters: what is kept of them, what is forgotten, and what a call costs.

use super::*;
use crate::time::thread_cpu_time;

/// A charge of one hit to the counter called `name`.
fn named(name: usize, limit: &Limit, now: Timestamp) -> Charge {
    let counter = KeyFormat::default().key(name.to_string().as_bytes(), [].into_iter(), limit, now);
    Charge { counter, ..charge(limit, Hits::Add(1), now) }
}

/// A store that forgets none of the counters of these tests.
fn roomy() -> Shared {
    Shared(Arc::new((Memory::new(1_000_000), AtomicU64::new(0))))
}

fn asked(shared: &Shared) -> u64 {
    shared.0.1.load(Relaxed)
}

/// An instance that keeps leases of at most `capacity` counters in each shard.
fn small(shared: &Shared, capacity: usize) -> PrefetchStore<Shared> {
    PrefetchStore { store: shared.clone(), leases: Arc::new(QuotaLeases::new(capacity)) }
}

/// `calls` calls to one counter, a tenth of a millisecond apart.
fn hurry(store: &impl Store, name: usize, limit: &Limit, from: Timestamp, calls: u64) {
    for hit in 0..calls {
        let now = from.plus(Duration::from_micros(hit * 100));
        assert!(!call(store, named(name, limit, now), now).over);
    }
}

#[test]
fn of_windows_that_are_over_nothing_is_kept_for_long() {
    let shared = roomy();
    let ahead = PrefetchStore::new(shared);
    let limit = hourly(1_000, 100);
    let start = Timestamp::from_secs(3_600);
    (0..5_000).for_each(|it| hurry(&ahead, it, &limit, start, 2));
    assert_eq!(ahead.leases.len(), 5_000);
    // Calls to others, so many that each shard sees some.
    for second in 0..8 {
        let now = Timestamp::from_secs(7_200 + second);
        (5_000..11_000).for_each(|it| hurry(&ahead, it, &limit, now, 1));
    }
    assert_eq!(ahead.leases.len(), 6_000);
}

#[test]
fn a_full_instance_makes_room_for_busy_counters_in_place_of_idle_ones() {
    let shared = roomy();
    let ahead = small(&shared, 4);
    let limit = hourly(1_000, 100);
    let start = Timestamp::from_secs(3_600);
    // So many, called once, that all shards are full.
    (0..10_000).for_each(|it| hurry(&ahead, it, &limit, start, 1));
    assert_eq!(ahead.leases.len(), 4 * 256);
    // They make room for busy ones.
    let later = start.plus(Duration::from_secs(1));
    (10_000..20_000).for_each(|it| hurry(&ahead, it, &limit, later, 10));
    // Most others find no room, and each of their calls is counted at once.
    let later = later.plus(Duration::from_secs(1));
    let asks_always = |it: &usize| {
        let before = asked(&shared);
        hurry(&ahead, *it, &limit, later, 5);
        asked(&shared) == before + 5
    };
    let refused = (20_000..20_100).filter(asks_always).count();
    assert!(50 < refused, "{refused}");
    let spends = |it: &usize| {
        let before = asked(&shared);
        hurry(&ahead, *it, &limit, later.plus(Duration::from_secs(1)), 1);
        asked(&shared) == before
    };
    let held = (10_000..20_000).filter(spends).count();
    // The others have just spent all that they held.
    assert!((256..=4 * 256).contains(&held), "{held}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Bursts at many counters, by 2 instances that have room for few.
    #[test]
    fn however_many_counters_there_are_no_hit_is_lost_or_let_pass_twice(
        capacity in 1..4_usize,
        bursts in vec((0..2_usize, 0..2_000_usize, 1..40_u64, 0..50_000_u64), 300..900),
    ) {
        let shared = roomy();
        let instances = [(); 2].map(|()| small(&shared, capacity));
        let limit = hourly(60, 6);
        let mut now = Timestamp::from_secs(3_600);
        let (mut passed, mut wanted) = ([0; 2_000], [0; 2_000]);
        for (instance, name, calls, pause) in bursts {
            // Half of all bursts are at few counters, which reach their limit.
            let name = if name % 2 == 0 { name % 60 } else { name };
            now = now.plus(Duration::from_micros(pause));
            for _ in 0..calls {
                let over = call(&instances[instance], named(name, &limit, now), now).over;
                passed[name] += u64::from(!over);
                wanted[name] += 1;
                prop_assert!(passed[name] <= 60, "{name}");
            }
            prop_assert!(instances.iter().all(|it| it.leases.len() <= 256 * capacity));
        }
        instances.iter().for_each(|it| end(it, now));
        for (name, wanted) in wanted.into_iter().enumerate() {
            let look = Charge { hits: Hits::Add(0), ..named(name, &limit, now) };
            prop_assert_eq!(call(&shared, look, now).used, wanted, "{}", name);
        }
    }
}

/// A store that answers at once, however many counters there are.
struct Generous;

impl Store for Generous {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        let used = |it: &Charge| it.hits.capped().requested();
        let told =
            |it: &Charge| Snapshot::Count(State { start: Timestamp::default(), count: used(it) });
        let answer = |it| StepResult {
            passes: true,
            banned_until: Timestamp::default(),
            snapshot: told(it),
        };
        charges.iter().map(|it| Ok(it.outcome(answer(it), true, now))).collect()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What a call to one of `names` counters costs on average, in nanoseconds. They are
/// `pause` microseconds apart.
fn cost(store: &impl Store, names: u32, limit: &Limit, pause: u64) -> f64 {
    const CALLS: u32 = 1_000_000;
    let charges: Vec<_> =
        (0..names).map(|it| named(it as usize, limit, Timestamp::default())).collect();
    let mut now = Timestamp::default();
    let mut pass = |calls: u32| {
        let begun = thread_cpu_time();
        for it in 0..calls {
            now = now.plus(Duration::from_micros(pause));
            // In an order that a cache does not like.
            let charge = &charges[(it.wrapping_mul(0x9e37_79b9) % names) as usize];
            let results = store.charge(std::slice::from_ref(charge), now, None).now_or_never();
            assert!(results.is_some());
        }
        (thread_cpu_time() - begun).as_secs_f64() * 1e9 / f64::from(calls)
    };
    pass(CALLS.max(5 * names));
    pass(CALLS)
}

/// Any table of many names costs more than one that fits into the processor's caches, so
/// the counters in memory are there to compare.
///
/// `cargo test --release --lib costs_a_call -- --ignored --nocapture`
#[test]
#[ignore = "it measures, and asserts nothing"]
fn what_looking_for_hits_taken_ahead_costs_a_call() {
    let bucket = size_of::<(usize, crate::counter::CounterKey, lease::QuotaLease)>();
    println!("{bucket} bytes a counter, and 8 to 16 in the table, and its name");
    let limit = Limit { max_prefetch: 10_000, ..Limit::fixed(1_000_000, Window::new(Unit::Year)) };
    let none = Limit { max_prefetch: 0, ..limit.clone() };
    for (kind, pause) in [("all call at once", 0), ("nobody calls often", 200_000)] {
        let mut least = None;
        for names in [100, 1_000, 10_000, 100_000, 1_000_000] {
            let ahead = PrefetchStore::new(Generous);
            let bare = cost(&ahead, names, &none, pause);
            let own = cost(&ahead, names, &limit, pause) - bare;
            let memory = cost(&Memory::new(2_000_000), names, &none, pause) - bare;
            let least = *least.get_or_insert(own);
            println!(
                "{kind}, {names} names: {own:.0} ns a call, {:.2} times that of 100, {:.2} times \
                 that of a counter in memory ({memory:.0} ns)",
                own / least,
                own / memory,
            );
        }
    }
}
