//! The wait of a refused request: after exactly this time it passes, and a microsecond
//! before it does not, under any rules.

use std::{
    collections::HashSet,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tollgate::{
    counter::KeyFormat,
    descriptor::{Descriptor, Entry, Request},
    engine::{
        Engine,
        decision::{Decision, Mode},
        fallback::{Fallback, FallbackSettings},
    },
    limit::{Algorithm, Hits, Limit, Unit, Window},
    rules::{
        RuleTree,
        spec::{DescriptorSpec, DomainSpec, LimitSpec, RuleSpec},
    },
    store::memory::Memory,
    time::{ManualClock, Timestamp},
};

use crate::random_calls::{END, START, any_limit};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The hits of a request, and the pause before it.
#[derive(Clone, Debug)]
struct Call {
    pause: Pause,
    /// The index of the descriptor and its hits.
    hits: Vec<(usize, Hits)>,
}

#[derive(Clone, Copy, Debug)]
enum Pause {
    Micros(u64),
    /// The wait of the previous answer, plus this many microseconds.
    AfterWait(i8),
}

#[derive(Clone, Debug)]
struct Scenario {
    rules: Vec<RuleSpec>,
    quota: bool,
    stop: bool,
    calls: Vec<Call>,
}

/// An engine without any counters.
fn engine(scenario: &Scenario) -> (Engine<Memory>, Arc<ManualClock>) {
    let mut descriptors = Vec::new();
    for (key, rule) in KEYS.iter().zip(&scenario.rules) {
        let (key, rule) = ((*key).to_owned(), Some(rule.clone()));
        descriptors.push(DescriptorSpec { key, rule, ..DescriptorSpec::default() });
    }
    let tree =
        RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors, http: None }]);
    let clock = Arc::new(ManualClock::new(Timestamp::default()));
    let engine = Engine {
        rules: Arc::new(ArcSwap::from_pointee(tree)),
        store: Memory::new(10_000),
        clock: Arc::clone(&clock) as _,
        keys: KeyFormat::default(),
        mode: Mode { shadow: false, quota: scenario.quota, stop_counting: scenario.stop },
        fallback: Fallback::new(FallbackSettings::default()),
    };
    (engine, clock)
}

fn request(hits: &[(usize, Hits)]) -> Request {
    let mut descriptors = Vec::new();
    for (key, hits) in hits {
        descriptors.push(Descriptor {
            entries: vec![Entry { key: KEYS[*key].into(), value: "x".into() }],
            hits: *hits,
            has_own_hits: true,
            limit: None,
        });
    }
    Request { domain: "shop".into(), descriptors, hits_addend: 0 }
}

type Past = Vec<(u64, Request)>;

/// The decision about the last of these requests, after the others were made.
fn last(scenario: &Scenario, past: &[(u64, Request)]) -> Decision {
    let (engine, clock) = engine(scenario);
    let mut decision = None;
    for (now, request) in past {
        clock.set(Timestamp::from_micros(*now));
        decision = engine.decide(request, None).now_or_never().unwrap().ok();
    }
    decision.unwrap()
}

fn passes(scenario: &Scenario, past: &Past, request: &Request, now: u64) -> bool {
    let past = [past.as_slice(), &[(now, request.clone())]].concat();
    !last(scenario, &past).over_limit
}

/// The numbers of refused requests.
#[derive(Default)]
struct Waits {
    passed_later: u32,
    never_passed: u32,
}

/// Makes the calls, and returns the numbers of requests that were refused for a time and for
/// ever.
fn count_waits(scenario: &Scenario) -> Waits {
    let (mut now, mut last_wait) = (START, Duration::ZERO);
    let mut counts = Waits::default();
    let mut past = Past::new();
    for call in &scenario.calls {
        now = match call.pause {
            Pause::Micros(micros) => now + micros,
            Pause::AfterWait(more) => {
                (now + micros(last_wait)).saturating_add_signed(more.into()).max(now)
            }
        };
        if END < now {
            break;
        }
        let request = request(&call.hits);
        past.push((now, request.clone()));
        let decision = last(scenario, &past);
        last_wait = decision.wait.unwrap_or_default();
        if END - START <= micros(last_wait) {
            last_wait = Duration::ZERO;
        }
        match decision.wait {
            _ if !decision.over_limit => assert_eq!(decision.wait, Some(Duration::ZERO)),
            // Everything expires after 100 years.
            Some(wait) if END - now < micros(wait) => {}
            Some(wait) => {
                let then = now + micros(wait);
                let context = format!("the wait of {wait:?} in {decision:?} after {past:?}");
                assert!(passes(scenario, &past, &request, then), "refused after {context}");
                assert!(!passes(scenario, &past, &request, then - 1), "passes before {context}");
                counts.passed_later += 1;
            }
            None => {
                for seconds in [0, 1, 60, 86_400, 40_000_000, 400_000_000] {
                    let then = now + seconds * 1_000_000;
                    assert!(!passes(scenario, &past, &request, then), "never passes: {decision:?}");
                }
                counts.never_passed += 1;
            }
        }
    }
    counts
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn small_limit() -> impl Strategy<Value = Limit> {
    let window = (prop::sample::select(&[Unit::Second, Unit::Minute, Unit::Hour][..]), 1..4_u32);
    (0..7_u8, window, 2..6_u32, 2..6_u32, 1..100_u64).prop_map(
        |(kind, (unit, times), requests, burst, lifetime)| {
            let window = Window::times(unit, times.try_into().unwrap()).unwrap();
            let algorithm = match kind {
                0 => Algorithm::FixedWindow { count_denied: true },
                1 => Algorithm::FixedWindow { count_denied: false },
                2 => Algorithm::SlidingWindow,
                3 => Algorithm::SlidingLog,
                4 => Algorithm::TokenBucket { burst },
                5 => Algorithm::LeakyBucket { burst },
                _ => Algorithm::Concurrency { lifetime: Duration::from_millis(lifetime * 100) },
            };
            Limit { algorithm, ..Limit::fixed(requests, window) }
        },
    )
}

fn limit() -> impl Strategy<Value = LimitSpec> {
    let limit = prop_oneof![12 => small_limit(), 1 => any_limit()];
    let penalty = prop_oneof![4 => Just(0_u64), 1 => 1..5_000_u64, 1 => Just(7_200_000)];
    let none = prop::bool::weighted(0.01);
    (limit, penalty, prop::bool::weighted(0.2), none).prop_map(|(limit, penalty, whole, none)| {
        let may_be_none = !matches!(
            limit.algorithm,
            Algorithm::SlidingWindow
                | Algorithm::TokenBucket { .. }
                | Algorithm::LeakyBucket { .. }
        );
        let requests = if none && may_be_none { 0 } else { limit.requests };
        let limit = Limit { penalty: Duration::from_millis(penalty), requests, ..limit };
        LimitSpec { limit, name: "".into(), all_or_nothing: whole, on_error: None }
    })
}

/// Rules whose limits do not share a counter.
fn rule() -> impl Strategy<Value = RuleSpec> {
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.3));
    (vec(limit(), 1..4), flags).prop_map(|(limits, (shadow_mode, quota_mode))| {
        let limits = with_counters_of_their_own(limits);
        RuleSpec { limits, shadow_mode, quota_mode, ..RuleSpec::default() }
    })
}

/// Drops limits that would share the counter of an earlier one.
fn with_counters_of_their_own(all: Vec<LimitSpec>) -> Vec<LimitSpec> {
    let mut seen = HashSet::new();
    let mut limits = Vec::new();
    for spec in all {
        let seconds = spec.limit.window.seconds();
        let kind = match spec.limit.algorithm {
            Algorithm::Concurrency { .. } => ("concurrency", 0),
            Algorithm::LeakyBucket { .. } => ("token_bucket", seconds),
            algorithm => (algorithm.name(), seconds),
        };
        if seen.insert(kind) {
            limits.push(spec);
        }
    }
    limits
}

fn call() -> impl Strategy<Value = Call> {
    let pause = prop_oneof![
        3 => Just(Pause::Micros(0)),
        3 => (0..400_000_u64).prop_map(Pause::Micros),
        2 => (0..90_000_000_u64).prop_map(Pause::Micros),
        2 => (-1..=1_i8).prop_map(Pause::AfterWait),
    ];
    let hits = prop_oneof![
        40 => Just(Hits::Add(1)),
        10 => (0..4_u64).prop_map(Hits::Add),
        4 => (0..3_u64).prop_map(Hits::Refund),
        1 => Just(Hits::Add(u64::MAX)),
    ];
    let keys = prop::sample::subsequence((0..KEYS.len()).collect::<Vec<_>>(), 1..=5).prop_shuffle();
    (pause, keys, vec(hits, 5))
        .prop_map(|(pause, keys, hits)| Call { pause, hits: keys.into_iter().zip(hits).collect() })
}

/// The last key has no rule.
fn scenario() -> impl Strategy<Value = Scenario> {
    let mode = (prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    (vec(rule(), KEYS.len() - 1), mode, vec(call(), 1..16))
        .prop_map(|(rules, (quota, stop), calls)| Scenario { rules, quota, stop, calls })
}

#[test]
fn a_request_passes_exactly_after_its_wait() {
    let (waited, never) = (AtomicU32::new(0), AtomicU32::new(0));
    let config =
        ProptestConfig { cases: 1_000, source_file: Some(file!()), ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&scenario(), |scenario| {
        let waits = count_waits(&scenario);
        waited.fetch_add(waits.passed_later, Relaxed);
        never.fetch_add(waits.never_passed, Relaxed);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (waited, never) = (waited.into_inner(), never.into_inner());
    assert!(1_000 < waited && 100 < never, "{waited} waited, {never} never pass");
}
