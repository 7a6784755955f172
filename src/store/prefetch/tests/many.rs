//! Many counters: the bound of the table of leases, and the cost of a lookup.

use super::*;
use crate::time::thread_cpu_time;

/// A charge of one hit to the counter called `name`.
fn named(name: usize, limit: &Limit, now: Timestamp) -> Charge {
    let counter =
        KeyFormat::default().counter(name.to_string().as_bytes(), [].into_iter(), limit, now);
    Charge { counter, ..charge(limit, Hits::Add(1), now) }
}

/// A store with room for all counters of these tests.
fn roomy() -> Shared {
    Shared::new(Memory::new(1_000_000))
}

/// An instance with at most `capacity` leases in each shard.
fn small(shared: &Shared, capacity: usize) -> PrefetchStore<Shared> {
    PrefetchStore { store: shared.clone(), leases: Arc::new(QuotaLeases::new(capacity)) }
}

/// Makes `calls` calls to one counter, 0.1 ms apart. All pass.
fn pass(store: &impl Store, name: usize, limit: &Limit, from: Timestamp, calls: u64) {
    for hit in 0..calls {
        let now = from.plus(Duration::from_micros(hit * 100));
        assert!(!call(store, named(name, limit, now), now).over);
    }
}

#[test]
fn leases_of_ended_windows_are_removed() {
    let shared = roomy();
    let instance = PrefetchStore::new(shared);
    let limit = hourly(1_000, 100);
    let start = Timestamp::from_secs(3_600);
    (0..5_000).for_each(|it| pass(&instance, it, &limit, start, 2));
    assert_eq!(instance.leases.len(), 5_000);
    // Enough calls to other counters for each shard to get some.
    for second in 0..8 {
        let now = Timestamp::from_secs(7_200 + second);
        (5_000..11_000).for_each(|it| pass(&instance, it, &limit, now, 1));
    }
    assert_eq!(instance.leases.len(), 6_000);
}

#[test]
fn a_full_table_replaces_idle_leases_by_busy_ones() {
    let shared = roomy();
    let instance = small(&shared, 4);
    let limit = hourly(1_000, 100);
    let start = Timestamp::from_secs(3_600);
    // Enough counters to fill all shards.
    (0..10_000).for_each(|it| pass(&instance, it, &limit, start, 1));
    assert_eq!(instance.leases.len(), 4 * 256);
    // Busy counters replace them.
    let later = start.plus(Duration::from_secs(1));
    (10_000..20_000).for_each(|it| pass(&instance, it, &limit, later, 10));
    // Most new counters find no room, and all their calls go to the store.
    let later = later.plus(Duration::from_secs(1));
    let always_calls_store = |it: &usize| {
        let before = shared.calls();
        pass(&instance, *it, &limit, later, 5);
        shared.calls() == before + 5
    };
    let without_lease = (20_000..20_100).filter(always_calls_store).count();
    assert!(50 < without_lease, "{without_lease}");
    let spends = |it: &usize| {
        let before = shared.calls();
        pass(&instance, *it, &limit, later.plus(Duration::from_secs(1)), 1);
        shared.calls() == before
    };
    let held = (10_000..20_000).filter(spends).count();
    // The other leases have no unspent hits left.
    assert!((256..=4 * 256).contains(&held), "{held}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Bursts on many counters, by 2 instances that have room for few leases.
    #[test]
    fn with_many_counters_no_hit_is_lost_or_spent_twice(
        capacity in 1..4_usize,
        bursts in vec((0..2_usize, 0..2_000_usize, 1..40_u64, 0..50_000_u64), 300..900),
    ) {
        let shared = roomy();
        let instances = [(); 2].map(|()| small(&shared, capacity));
        let limit = hourly(60, 6);
        let mut now = Timestamp::from_secs(3_600);
        let (mut passed, mut wanted) = ([0; 2_000], [0; 2_000]);
        for (instance, name, calls, pause) in bursts {
            // Half of all bursts hit the same 60 counters, which reach their limit.
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
        instances.iter().for_each(|instance| shut_down(instance, now));
        for (name, wanted) in wanted.into_iter().enumerate() {
            let look = Charge { hits: Hits::Add(0), ..named(name, &limit, now) };
            prop_assert_eq!(call(&shared, look, now).used, wanted, "{}", name);
        }
    }
}

/// A store that grants every charge at once.
struct Generous;

impl Store for Generous {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        let mut results = Results::new();
        for charge in charges {
            let count = charge.hits.capped().requested();
            results.push(Ok(outcome(charge, count, now)));
        }
        results
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The average CPU time of a call to one of `names` counters, in nanoseconds. The calls
/// are `pause` microseconds apart.
fn cost(store: &impl Store, names: u32, limit: &Limit, pause: u64) -> f64 {
    const CALLS: u32 = 1_000_000;
    let charges: Vec<_> =
        (0..names).map(|it| named(it as usize, limit, Timestamp::default())).collect();
    let mut now = Timestamp::default();
    let mut measure = |calls: u32| {
        let begun = thread_cpu_time();
        for it in 0..calls {
            now = now.plus(Duration::from_micros(pause));
            // In an order without locality.
            let charge = &charges[(it.wrapping_mul(0x9e37_79b9) % names) as usize];
            let results = store.charge(std::slice::from_ref(charge), now, None).now_or_never();
            assert!(results.is_some());
        }
        (thread_cpu_time() - begun).as_secs_f64() * 1e9 / f64::from(calls)
    };
    measure(CALLS.max(5 * names));
    measure(CALLS)
}

/// Compares a lookup with a charge in memory: any table of many names is slower than one
/// that fits into the processor's caches.
///
/// `cargo test --release --lib cost_of_a_lease -- --ignored --nocapture`
#[test]
#[ignore = "it measures, and asserts nothing"]
fn cost_of_a_lease_lookup() {
    let bucket = size_of::<(usize, crate::counter::CounterKey, lease::QuotaLease)>();
    println!("a lease takes {bucket} bytes, 8 to 16 in the table, and its name");
    let limit = Limit { max_prefetch: 10_000, ..Limit::fixed(1_000_000, Window::new(Unit::Year)) };
    let none = Limit { max_prefetch: 0, ..limit.clone() };
    for (kind, pause) in [("busy", 0), ("idle", 200_000)] {
        let mut least = None;
        for names in [100, 1_000, 10_000, 100_000, 1_000_000] {
            let instance = PrefetchStore::new(Generous);
            let bare = cost(&instance, names, &none, pause);
            let own = cost(&instance, names, &limit, pause) - bare;
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
