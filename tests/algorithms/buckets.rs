//! Token buckets and leaky buckets.

use proptest::{prelude::*, sample::select};
use tollgate::limit::{Algorithm, Hits, Limit, Unit, Window, bucket::Scale};

use crate::{
    counter::Counter,
    definitions::ReferenceAlgorithm,
    random_calls::{START, calls, limits, requests, run_calls},
    rules::{PassedHits, passed},
};

/// The ticks by which a bucket may lag behind the continuous definition.
fn behind(scale: &Scale) -> u64 {
    if scale.tick == 1 { 0 } else { 3 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_bucket_admits_hits_at_most_a_few_ticks_later_than_its_definition(
        limit in limits("token_bucket"), calls in calls(false, 40),
    ) {
        let scale = Scale::new(&limit);
        let mut continuous = ReferenceAlgorithm::new(&limit);
        let length = u128::from(limit.window.seconds() * 1_000_000);
        for call in run_calls(&limit, &calls) {
            let Hits::Add(hits) = call.hits else { unreachable!() };
            let level = continuous.level(call.now) + u128::from(hits) * length;
            let full = u128::from(limit.capacity()) * length;
            if call.outcome.over {
                let late = u128::from(behind(&scale) * scale.tick) * u128::from(limit.requests);
                prop_assert!(full < level + late, "too few");
            } else {
                prop_assert!(hits == 0 || level <= full, "too many");
                continuous.passed(call.hits, call.now);
            }
        }
    }

    #[test]
    fn a_bucket_never_admits_more_than_its_burst_and_its_refill(
        limit in limits("token_bucket"), calls in calls(false, 50),
    ) {
        let passed = passed(&limit, &calls);
        let length = u128::from(limit.window.seconds() * 1_000_000);
        for (index, first) in passed.iter().enumerate() {
            let mut sum = 0;
            for PassedHits { at, hits } in &passed[index..] {
                sum += u128::from(*hits);
                let drained = u128::from(limit.requests) * u128::from(at - first.at);
                prop_assert!(sum * length <= u128::from(limit.capacity()) * length + drained);
            }
        }
    }

    #[test]
    fn leaky_and_token_buckets_are_equivalent(
        limit in limits("token_bucket"), calls in calls(true, 40),
    ) {
        let burst = limit.capacity();
        let leaky = Limit { algorithm: Algorithm::LeakyBucket { burst }, ..limit.clone() };
        for (token, leaky) in run_calls(&limit, &calls).into_iter().zip(run_calls(&leaky, &calls)) {
            prop_assert_eq!(token.outcome, leaky.outcome);
        }
    }

    #[test]
    fn a_scale_is_fine_and_exact_in_lua(
        limit in limits("token_bucket"), refund in any::<u64>(),
    ) {
        let scale = Scale::new(&limit);
        let window = limit.window.seconds() * 1_000_000;
        prop_assert!(scale.tick * 1_000_000 <= window);
        prop_assert_eq!(
            u128::from(scale.drain) * u128::from(window / scale.tick),
            u128::from(scale.cost) * u128::from(limit.requests)
        );
        prop_assert_eq!(window % scale.tick, 0);
        let most = 2 * u128::from(scale.capacity) + u128::from(scale.drain) + 1;
        prop_assert!(most <= u128::from(Hits::MAX));
        prop_assert!(scale.units(refund) <= scale.capacity + 1);
    }

    #[test]
    fn a_bucket_does_not_drift_in_a_year(
        limit in limits("token_bucket"), pauses in prop::collection::vec(1..1_000_u64, 200),
        burst in requests(u32::MAX),
    ) {
        let limit = Limit { algorithm: Algorithm::TokenBucket { burst }, ..limit };
        let scale = Scale::new(&limit);
        let mut counter = Counter::new(&limit);
        // A bucket that never runs empty uses everything that drains.
        let ticks = (scale.capacity - scale.cost) / scale.drain;
        let longest = ticks.saturating_mul(scale.tick).min(400_000_000_000);
        prop_assume!(longest > 0);
        let year = START + 365 * 86_400_000_000;
        let (mut now, mut sum) = (START, 0);
        for pause in pauses.iter().cycle().take(1_000) {
            let remaining = counter.would(Hits::Add(0), now).remaining;
            if !counter.charge(Hits::Add(remaining.into()), now).over {
                sum += u128::from(remaining);
            }
            now += (longest / 1_000 * pause).max(1);
            if year < now {
                break;
            }
        }
        sum += u128::from(counter.would(Hits::Add(0), now).remaining);
        let window = u128::from(limit.window.seconds() * 1_000_000);
        let admits = |time: u64| {
            u128::from(burst) + u128::from(limit.requests) * u128::from(time) / window
        };
        let late = behind(&scale) * scale.tick;
        prop_assert!(sum <= admits(now - START));
        prop_assert!(admits((now - START).saturating_sub(late)) <= sum + 1 - u128::from(late == 0));
    }
}

#[test]
fn hits_late_in_a_tick_do_not_drain_with_earlier_ones() {
    // Less than one hit drains in a tick, or more than one.
    for (requests, unit) in [(7, Unit::Day), (u32::MAX - 1, Unit::Month)] {
        let algorithm = Algorithm::TokenBucket { burst: u32::MAX };
        let limit = Limit { algorithm, ..Limit::fixed(requests, Window::new(unit)) };
        let tick = Scale::new(&limit).tick;
        assert!(tick > 1);
        let late = START / tick * tick + tick - 1;
        let drained = |hits: u64| hits * unit.seconds() * 1_000_000 / u64::from(requests);
        for before in [0, 1] {
            let mut counter = Counter::new(&limit);
            counter.charge(Hits::Add(before), late - tick / 2);
            counter.charge(Hits::Add(u64::from(u32::MAX) - before), late);
            for hits in [1, 100] {
                let wait = counter.would(Hits::Add(hits), late).retry_after.unwrap();
                assert!(
                    u128::from(drained(hits)) <= wait.as_micros() + u128::from(tick / 2 * before)
                );
            }
        }
    }
}

#[test]
fn a_client_that_retries_exactly_on_time_gets_the_full_rate_for_a_year() {
    for (requests, unit, burst) in
        [(7, Unit::Day, 3), (11, Unit::Year, 2), (1_000, Unit::Month, 1), (3, Unit::Hour, 3)]
    {
        let algorithm = Algorithm::TokenBucket { burst };
        let limit = Limit { algorithm, ..Limit::fixed(requests, Window::new(unit)) };
        let mut counter = Counter::new(&limit);
        let (mut now, mut sum, year) = (START, 0_u64, START + 365 * 86_400_000_000);
        while now <= year {
            let outcome = counter.charge(Hits::Add(1), now);
            match outcome.retry_after.filter(|_| outcome.over) {
                None => sum += 1,
                Some(wait) => now += wait.as_micros() as u64,
            }
        }
        let rate = u64::from(requests) * Unit::Year.seconds() / unit.seconds();
        assert_eq!(sum, u64::from(burst) + rate, "{limit}");
    }
}

proptest! {
    #[test]
    fn the_tick_is_one_microsecond_for_usual_limits(
        requests in select(vec![1_u32, 5, 60, 100, 1_000, 10_000, 100_000, 1_000_000]),
        unit in select(&Unit::ALL[..]),
    ) {
        let algorithm = Algorithm::TokenBucket { burst: requests };
        let limit = Limit { algorithm, ..Limit::fixed(requests, Window::new(unit)) };
        prop_assert_eq!(Scale::new(&limit).tick, 1);
    }
}
