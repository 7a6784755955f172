//! Clocks that jump, and stored values that no correct instance writes.

use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate::{
    limit::{
        Algorithm, Hits, Limit, Unit, Window, bucket, fixed_window, permits, sliding_window,
        step::{self, State, StepResult},
    },
    time::Timestamp,
};

use crate::{
    counter::Counter,
    random_calls::{Call, END, START, any_limit, calls, hits_of, length, limits, wait},
    rules::{PassedHits, most_within},
};

/// How far a clock steps back, in microseconds.
const BACK: u64 = 60_000_000;
const YEAR: u64 = 365 * 86_400_000_000;

/// The result of calls during which the clock stepped.
struct SteppedRun {
    /// The hits that passed, with their true times.
    passed: Vec<PassedHits>,
    counter: Counter,
    /// The time of the counter at the end.
    now: u64,
}

/// Makes calls, before one of which the clock steps back.
fn run_with_clock_step(limit: &Limit, calls: &[Call], step_before: usize, back: u64) -> SteppedRun {
    let mut counter = Counter::new(limit);
    let (mut now, mut offset, mut last) = (START, 0, None);
    let mut passed = Vec::new();
    for (index, (pause, amount)) in calls.iter().enumerate() {
        now = wait(&counter, last, now - offset, *pause) + offset;
        if END < now {
            break;
        }
        if index == step_before {
            offset = back;
        }
        let hits = hits_of(&counter, *amount, now - offset);
        let outcome = counter.charge(hits, now - offset);
        last = Some(outcome);
        if let (Hits::Add(hits), false) = (hits, outcome.over) {
            passed.push(PassedHits { at: now, hits });
        }
    }
    SteppedRun { passed, counter, now: now - offset }
}

/// The longest time, in microseconds, for which a state can keep the whole capacity from
/// passing if no hits are added. The state expires then, however far ahead the clock was
/// that wrote it.
fn recovery_time(limit: &Limit) -> Option<u64> {
    let span = limit.window.span(Timestamp::from_micros(START), 0);
    let longest = step::max_ttl(limit, span).as_micros() as u64;
    (longest < 1_000 * YEAR).then_some(longest + 2_000_000)
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        Just(Hits::MAX),
        0..100_u64,
        START - 2 * YEAR..START + 2 * YEAR,
        START - 100_000_000..START + 100_000_000,
        START / 1_000_000 - 100..START / 1_000_000 + 100,
    ]
    .boxed()
}

fn state(algorithm: Algorithm) -> BoxedStrategy<State> {
    let moment = || number().prop_map(Timestamp::from_micros);
    match algorithm {
        Algorithm::FixedWindow { .. } => (moment(), number())
            .prop_map(|(start, count)| State::Count(fixed_window::State { start, count }))
            .boxed(),
        Algorithm::SlidingWindow => (moment(), number(), number(), any::<bool>())
            .prop_map(|(start, before, current, whole)| {
                let start =
                    if whole { Timestamp::from_secs(start.as_secs() / 60 * 60) } else { start };
                State::Window(sliding_window::State { start, before, current })
            })
            .boxed(),
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            (moment(), number(), number())
                .prop_map(|(at, level, cost)| State::Bucket(bucket::State { at, level, cost }))
                .boxed()
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            let permit = (moment(), number())
                .prop_map(|(granted_at, hits)| permits::Grant { granted_at, hits });
            vec(permit, 0..10)
                .prop_map(|permits| State::Permits(permits::State(permits.into())))
                .boxed()
        }
    }
}

fn corrupted() -> impl Strategy<Value = (Limit, State, Timestamp)> {
    (any_limit(), 0..3_u64).prop_flat_map(|(limit, penalty)| {
        let penalty = Duration::from_secs(300 * penalty);
        let algorithm = limit.algorithm;
        (
            Just(Limit { penalty, ..limit }),
            state(algorithm),
            number().prop_map(Timestamp::from_micros),
        )
    })
}

#[test]
fn a_step_back_is_detected_whatever_its_size() {
    let limit = |requests, unit, multiplier: u32, algorithm| {
        let window = Window::times(unit, multiplier.try_into().unwrap()).unwrap();
        Limit { algorithm, ..Limit::fixed(requests, window) }
    };
    let burst = 372_321_398;
    for limit in [
        limit(5, Unit::Second, 7, Algorithm::SlidingWindow),
        limit(5, Unit::Second, 7, Algorithm::SlidingLog),
        limit(5, Unit::Second, 7, Algorithm::Concurrency { lifetime: Duration::from_secs(7) }),
        limit(5, Unit::Minute, 1, Algorithm::TokenBucket { burst: 5 }),
        // The ticks of this limit are longer than a second.
        limit(1, Unit::Week, 2, Algorithm::TokenBucket { burst }),
    ] {
        for now in (START..START + 14_000_000).step_by(500_000) {
            for back in [1, 60_000_000, 61_000_000, 3_600_000_000, 86_400_000_000] {
                let mut counter = Counter::new(&limit);
                counter.charge(Hits::Add(limit.capacity().into()), now);
                assert!(!counter.would_pass(1, now - back), "{limit} at {now}, {back} back");
            }
        }
    }
}

#[test]
fn a_bucket_keeps_its_level_when_the_limit_changes() {
    let algorithm = Algorithm::TokenBucket { burst: 10 };
    let minutely =
        |requests| Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) };
    let mut counter = Counter::new(&minutely(10));
    counter.charge(Hits::Add(5), START);
    let kept = counter.charge(Hits::Add(1), START + 1_000_000).used;
    counter.limit = minutely(7);
    assert_eq!(counter.would(Hits::Add(0), START + 1_000_000).used, kept);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_stored_value_is_processed_without_a_panic(
        (limit, state, ban) in corrupted(), other in any_limit(), hits in number(),
        refund in any::<bool>(), now in number(), seed in any::<u64>(),
    ) {
        let hits = if refund { Hits::Refund(hits) } else { Hits::Add(hits) };
        let now = Timestamp::from_micros(now);
        for limit in [limit, other] {
            let span = limit.window.span(now, seed);
            let banned = step::ban_end(&limit, ban, now);
            let step = step::step(&limit, span, Some(state.clone()), hits, now);
            for told in [step.before, step.after] {
                let answer = StepResult { passes: step.passes, banned_until: banned, snapshot: told };
                let outcome = step::outcome(&limit, span, hits, answer, now);
                let life = step::ttl(&limit, span, told, now);
                prop_assert!(outcome.remaining <= limit.capacity());
                prop_assert!(life <= step::max_ttl(&limit, span) + span.end.since(span.start));
            }
        }
    }

    #[test]
    fn any_stored_value_recovers((limit, state, ban) in corrupted(), calls in vec(0..1_000_u64, 0..20)) {
        let Some(bound) = recovery_time(&limit) else { return Ok(()) };
        let mut counter = Counter::holding(&limit, state, ban, START);
        let capacity = limit.capacity().into();
        let mut times = Vec::new();
        for thousandths in calls {
            times.push(START + bound / 1_000 * thousandths);
        }
        times.sort_unstable();
        // Refused calls do not prolong it.
        if limit.penalty.is_zero() {
            for now in times {
                if !counter.charge(Hits::Add(capacity), now).over {
                    return Ok(());
                }
            }
        }
        // A look removes it.
        counter.charge(Hits::Add(0), START);
        prop_assert!(counter.would_pass(capacity, START + bound), "{:?}", counter);
    }

    #[test]
    fn a_counter_recovers_from_a_clock_that_was_far_ahead(
        limit in any_limit(), ahead in 1..100 * YEAR, calls in calls(false, 10),
    ) {
        let Some(bound) = recovery_time(&limit) else { return Ok(()) };
        let mut counter = Counter::new(&limit);
        let mut now = START + ahead;
        for (pause, amount) in calls {
            now = wait(&counter, None, now, pause);
            counter.charge(hits_of(&counter, amount, now), now);
        }
        counter.charge(Hits::Add(0), START);
        // A fixed window has another key and may not have begun yet.
        let capacity = limit.capacity().into();
        let mut times = (1..=11).map(|bounds| START + bounds * bound);
        prop_assert!(times.any(|time| counter.would_pass(capacity, time)), "{counter:?}");
    }

    #[test]
    fn a_clock_that_steps_back_admits_no_more(
        limit in select(vec!["sliding_window", "sliding_log", "token_bucket", "concurrency"])
            .prop_flat_map(limits),
        calls in calls(false, 40), at in 0..40_usize,
        back in prop_oneof![Just(BACK), 1..=BACK, 1..1_000 * BACK],
    ) {
        let SteppedRun { passed, counter, now } = run_with_clock_step(&limit, &calls, at, back);
        let length = length(&limit);
        let requests = u64::from(limit.requests);
        match limit.algorithm {
            Algorithm::SlidingWindow => prop_assert!(most_within(&passed, length) <= 2 * requests),
            Algorithm::TokenBucket { burst } => {
                for (index, first) in passed.iter().enumerate() {
                    let mut sum = 0;
                    for PassedHits { at, hits } in &passed[index..] {
                        sum += u128::from(*hits);
                        let drained = u128::from(requests) * u128::from(at - first.at);
                        let length = u128::from(length);
                        prop_assert!(sum * length <= u128::from(burst) * length + drained);
                    }
                }
            }
            _ => prop_assert!(most_within(&passed, length) <= requests),
        }
        if let Some(bound) = recovery_time(&limit) {
            prop_assert!(counter.would_pass(limit.capacity().into(), now + back + bound));
        }
    }

    /// Instances whose clocks differ share a counter. Time never goes back within the
    /// counter, so no more hits pass than if each instance had the limit for itself.
    #[test]
    fn clocks_that_differ_do_not_disable_a_limit(
        limit in select(vec!["sliding_window", "sliding_log", "token_bucket", "concurrency"])
            .prop_flat_map(limits),
        offsets in vec(
            prop_oneof![0..2_000_000_u64, 0..400_000_000_u64, 0..100_000_000_000_u64, 0..2 * YEAR],
            2..5,
        ),
        calls in vec((0..200_u64, 0..5_usize, 1..4_u64), 1..120),
    ) {
        let length = length(&limit);
        let mut counter = Counter::new(&limit);
        let (mut now, mut passed) = (START, 0_u64);
        for (pause, who, hits) in calls {
            now += pause * (length / 1_000).max(1);
            let clock = now + offsets[who % offsets.len()];
            // From 2255 on, Lua cannot represent moments exactly.
            if Hits::MAX - 2 * length < clock {
                break;
            }
            if !counter.charge_by(Hits::Add(hits), clock, now).over {
                passed += hits;
            }
        }
        let (requests, length) = (u128::from(limit.requests), u128::from(length));
        let bound = |time: u64| match limit.algorithm {
            Algorithm::TokenBucket { burst } => {
                u128::from(burst) + requests * u128::from(time) / length + 1
            }
            Algorithm::SlidingWindow => (u128::from(time) / length + 2) * requests,
            _ => (u128::from(time) / length + 1) * requests,
        };
        let bound = offsets.len() as u128 * bound(now - START);
        prop_assert!(u128::from(passed) <= bound, "{passed} passed, expected at most {bound}");
    }
}
