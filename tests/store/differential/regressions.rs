//! Calls that Redis once decided differently from memory.

use std::time::Duration;

use proptest::test_runner::{TestCaseError, TestCaseResult};
use tollgate::{
    descriptor::Descriptor,
    engine::decision::Mode,
    limit::{Hits, Limit, Unit, Window},
    time::Timestamp,
};

use super::comparison::{Comparison, TestDeployment};
use crate::deployments::{Deployment, descriptor, request_with};

/// A call: the milliseconds since the first one, and its descriptors.
type Call<'a> = (u64, &'a [KeyHits<'a>]);

/// A key and its hits. `a at 3` adds a limit of 3 per hour to the request.
type KeyHits<'a> = (&'a str, Hits);

const START: Timestamp = Timestamp::from_secs(1_001_000_000);

fn stop_counting() -> Mode {
    Mode { stop_counting: true, ..Mode::default() }
}

/// One of each kind of Redis deployment.
struct Deployments(Vec<TestDeployment>);

impl Deployments {
    fn start() -> Self {
        let mut all = Vec::new();
        for deployment in [Deployment::One, Deployment::PerSecond, Deployment::Cluster] {
            all.push(TestDeployment::new(deployment));
        }
        Self(all)
    }

    /// Checks that every deployment answers each call as memory does. `limits` are pairs
    /// of a key and its limits.
    #[track_caller]
    fn assert_like_memory(&self, mode: Mode, limits: &[(&str, &[&str])], calls: &[Call<'_>]) {
        let mut rules = "domain: shop\ndescriptors:\n".to_owned();
        for (key, limits) in limits {
            // `a, quota` stands for a rule with `quota_mode`.
            let key = key.replace(", quota", "\n  quota_mode: true");
            rules += &format!("- key: {key}\n  rate_limits:\n");
            for limit in *limits {
                rules += &format!("  - {{{limit}}}\n");
            }
        }
        let mut differences = Vec::new();
        for test in &self.0 {
            if let Err(why) = compare_in_time(test, &rules, mode, calls) {
                differences.push(format!("{:?}: {why}", test.kind));
            }
        }
        assert!(differences.is_empty(), "{}\n{rules}{calls:?}", differences.join("\n"));
    }
}

/// Repeats the calls if the machine is too busy to make them in time.
fn compare_in_time(
    test: &TestDeployment,
    rules: &str,
    mode: Mode,
    calls: &[Call<'_>],
) -> TestCaseResult {
    for _ in 0..20 {
        let result = compare(&Comparison::new(test, rules, mode, false), calls);
        if !matches!(result, Err(TestCaseError::Reject(_))) {
            return result;
        }
    }
    unreachable!("20 attempts took too long");
}

fn compare(comparison: &Comparison<'_>, calls: &[Call<'_>]) -> TestCaseResult {
    for (millis, all_hits) in calls {
        let mut descriptors = Vec::new();
        for (key, hits) in *all_hits {
            descriptors.push(parse_descriptor(key, *hits));
        }
        let now = START.plus(Duration::from_millis(*millis));
        comparison.decide_both(&request_with(descriptors), now)?;
    }
    Ok(())
}

fn parse_descriptor(key: &str, hits: Hits) -> Descriptor {
    let Some((key, requests)) = key.split_once(" at ") else {
        return descriptor(key, "ann", hits);
    };
    let requests = requests.parse().expect("it is a number");
    let limit = Some(Limit::fixed(requests, Window::new(Unit::Hour)));
    Descriptor { limit, ..descriptor(key, "ann", hits) }
}

const ONE: Hits = Hits::Add(1);

#[test]
fn no_refund_is_needed_on_one_of_the_servers() {
    let deployments = Deployments::start();
    let dependent = "unit: second, requests_per_unit: 0, consume: all_or_nothing";
    let free = "unit: minute, requests_per_unit: 1";
    deployments.assert_like_memory(
        Mode::default(),
        &[("a", &[dependent]), ("b", &[free])],
        &[(0, &[("a", ONE), ("b", ONE)])],
    );
    let both = ["unit: second, requests_per_unit: 100", "unit: day, requests_per_unit: 1"];
    deployments.assert_like_memory(
        stop_counting(),
        &[("a", &both)],
        &[(0, &[("a", ONE)]), (0, &[("a", ONE)])],
    );
}

#[test]
fn a_request_with_exhausted_quotas_costs_the_same_as_a_refused_one() {
    let deployments = Deployments::start();
    let one = ["unit: minute, requests_per_unit: 1"];
    let two = ["unit: second, requests_per_unit: 2"];
    let dependent = ["unit: hour, requests_per_unit: 9, consume: all_or_nothing"];
    let (all, first): (&[_], &[_]) =
        (&[("a", ONE), ("b", ONE), ("c", ONE)], &[("a", ONE), ("c", ONE)]);
    let calls = [(0, first), (0, first), (0, all), (0, all), (0, all), (1_000, all)];
    let rules: [(&str, &[&str]); 3] = [("a, quota", &one), ("b, quota", &two), ("c", &dependent)];
    deployments.assert_like_memory(Mode::default(), &rules, &calls);
    let free = ["unit: hour, requests_per_unit: 9"];
    deployments.assert_like_memory(stop_counting(), &[rules[0], rules[1], ("c", &free)], &calls);
    // A quota with one dependent limit.
    let dependent = ["unit: second, requests_per_unit: 1, consume: all_or_nothing", dependent[0]];
    let alone: [Call<'_>; 3] =
        [(0, &[("a", Hits::Add(2))]), (0, &[("a", ONE)]), (0, &[("a", ONE)])];
    deployments.assert_like_memory(Mode::default(), &[("a, quota", &dependent)], &alone);
}

#[test]
fn a_ban_is_reported_beside_other_refusals() {
    let deployments = Deployments::start();
    let limits = [
        "unit: second, requests_per_unit: 5, penalty: 1ms, consume: all_or_nothing",
        "unit: minute, requests_per_unit: 1, consume: all_or_nothing",
    ];
    deployments.assert_like_memory(
        Mode::default(),
        &[("a", &limits)],
        &[(0, &[("a", Hits::Add(6))])],
    );
}

#[test]
fn a_refused_request_with_too_many_hits_leaves_the_counter_unchanged() {
    let deployments = Deployments::start();
    let limits = ["unit: hour, requests_per_unit: 3", "unit: second, requests_per_unit: 3"];
    let huge: &[_] = &[("a", Hits::Add(u64::MAX))];
    let calls: [Call<'_>; 3] = [(0, &[("a", ONE)]), (0, huge), (1_000, &[("a", ONE)])];
    deployments.assert_like_memory(stop_counting(), &[("a", &limits)], &calls);
    let hour = format!("{}, consume: all_or_nothing", limits[0]);
    let second = format!("{}, consume: all_or_nothing", limits[1]);
    deployments.assert_like_memory(Mode::default(), &[("a", &[&hour, &second])], &calls);
}

#[test]
fn a_refused_request_leaves_a_log_unchanged() {
    let deployments = Deployments::start();
    let log = "unit: minute, requests_per_unit: 2, algorithm: sliding_log";
    let closed = "period: 2s, requests_per_unit: 0";
    let shut = "unit: second, requests_per_unit: 0";
    let calls: [Call<'_>; 3] = [
        (0, &[("a", ONE)]),
        (500, &[("a", ONE), ("closed", ONE), ("shut", ONE)]),
        (600, &[("a", Hits::Add(0))]),
    ];
    deployments.assert_like_memory(
        stop_counting(),
        &[("a", &[log]), ("closed", &[closed]), ("shut", &[shut])],
        &calls,
    );
}

#[test]
fn a_refused_request_leaves_leases_unchanged() {
    let deployments = Deployments::start();
    let slots = "requests_per_unit: 3, lease: 10s, algorithm: concurrency, consume: all_or_nothing";
    let closed = "period: 2s, requests_per_unit: 0, consume: all_or_nothing";
    let shut = "unit: second, requests_per_unit: 0";
    let calls: [Call<'_>; 3] = [
        (0, &[("a", ONE)]),
        (500, &[("a", ONE), ("closed", ONE), ("shut", ONE)]),
        (600, &[("a", Hits::Add(0))]),
    ];
    deployments.assert_like_memory(
        Mode::default(),
        &[("a", &[slots]), ("closed", &[closed]), ("shut", &[shut])],
        &calls,
    );
}

/// A window that ends while hits are reserved, and a clock that steps back meanwhile.
#[test]
fn a_refused_request_leaves_a_window_that_ends_unchanged() {
    let deployments = Deployments::start();
    let closed = "period: 2s, requests_per_unit: 0";
    let shut = "unit: second, requests_per_unit: 0";
    for algorithm in ["sliding_window", "sliding_log", "token_bucket", "fixed_window"] {
        let limit = format!("unit: second, requests_per_unit: 3, algorithm: {algorithm}");
        for refused in [400, 600, 1_000, 1_400, 1_999, 2_000, 3_000] {
            let calls: [Call<'_>; 4] = [
                (500, &[("a", ONE)]),
                (refused, &[("a", ONE), ("closed", ONE), ("shut", ONE)]),
                (refused, &[("a", Hits::Add(0))]),
                (refused + 100, &[("a", ONE)]),
            ];
            let others = [("closed", &[closed][..]), ("shut", &[shut])];
            deployments.assert_like_memory(
                stop_counting(),
                &[("a", &[&limit]), others[0], others[1]],
                &calls,
            );
            let dependent = format!("{limit}, consume: all_or_nothing");
            deployments.assert_like_memory(
                Mode::default(),
                &[("a", &[&dependent]), others[0], others[1]],
                &calls,
            );
        }
    }
}

/// More hits than the capacity are refused without a look at the other limits.
#[test]
fn a_window_ends_alike_when_too_many_hits_are_refused() {
    let deployments = Deployments::start();
    for (requests, dependent) in
        [(2, ", consume: all_or_nothing"), (3, ", consume: all_or_nothing"), (3, "")]
    {
        let window = format!(
            "unit: second, requests_per_unit: {requests}, algorithm: sliding_window{dependent}"
        );
        let bucket = "period: 19s, requests_per_unit: 141, algorithm: leaky_bucket";
        let mode = if dependent.is_empty() { stop_counting() } else { Mode::default() };
        let calls: [Call<'_>; 6] = [
            (451, &[("a", Hits::Add(2))]),
            (2_285, &[("a", ONE)]),
            (2_286, &[("a", Hits::Add(3))]),
            (2_286, &[("a", Hits::Add(2))]),
            (3_501, &[("a", Hits::Add(3))]),
            (3_501, &[("a", Hits::Add(4))]),
        ];
        deployments.assert_like_memory(mode, &[("a", &[&window, bucket])], &calls);
    }
}

#[test]
fn a_charge_a_refund_and_a_charge_in_one_request_are_decided_alike() {
    let deployments = Deployments::start();
    let all: &[_] = &[("b", ONE), ("c", ONE), ("a", ONE), ("a", Hits::Refund(1)), ("a", ONE)];
    for limit in ["unit: second, count_denied: false", "unit: minute", "unit: second"] {
        let limit = format!("{limit}, requests_per_unit: 1");
        for (mode, dependent) in
            [(stop_counting(), ""), (Mode::default(), ", consume: all_or_nothing")]
        {
            let one = format!("{limit}{dependent}");
            let calls: [Call<'_>; 2] = [(0, all), (1, all)];
            let (b, c) = (format!("unit: hour, requests_per_unit: 1{dependent}"), limit.clone());
            deployments.assert_like_memory(
                mode,
                &[("a", &[&one]), ("b", &[&b]), ("c", &[&c])],
                &calls,
            );
        }
    }
}

#[test]
fn hits_granted_on_two_servers_expire_on_time() {
    let deployments = Deployments::start();
    let bucket = "unit: second, requests_per_unit: 5, algorithm: token_bucket";
    for limit in [
        "unit: minute, requests_per_unit: 1, algorithm: sliding_log",
        "unit: second, requests_per_unit: 1, algorithm: sliding_log",
        "requests_per_unit: 1, lease: 20s, algorithm: concurrency",
    ] {
        let calls: [Call<'_>; 3] = [(0, &[("a", ONE)]), (250, &[("a", ONE)]), (500, &[("a", ONE)])];
        deployments.assert_like_memory(stop_counting(), &[("a", &[limit, bucket])], &calls);
        let dependent = format!("{limit}, consume: all_or_nothing");
        deployments.assert_like_memory(Mode::default(), &[("a", &[&dependent, bucket])], &calls);
    }
}

#[test]
fn refunds_of_a_refused_request_count_alike() {
    let deployments = Deployments::start();
    let sliding = "unit: hour, requests_per_unit: 6, algorithm: sliding_window";
    let slots = "requests_per_unit: 3, lease: 10s, algorithm: concurrency";
    let closed = "period: 2s, requests_per_unit: 0";
    let shut = "unit: second, requests_per_unit: 0";
    for (mode, dependent) in [(stop_counting(), ""), (Mode::default(), ", consume: all_or_nothing")]
    {
        for limit in [sliding, slots] {
            let limit = format!("{limit}{dependent}");
            let refund: &[_] = &[("closed", ONE), ("shut", ONE), ("a", Hits::Refund(1))];
            let calls: [Call<'_>; 3] =
                [(0, &[("a", Hits::Add(3))]), (0, refund), (0, &[("a", Hits::Add(0))])];
            deployments.assert_like_memory(
                mode,
                &[("a", &[&limit]), ("closed", &[closed]), ("shut", &[shut])],
                &calls,
            );
        }
    }
}

#[test]
fn two_charges_of_one_counter_in_a_refused_request_are_reported_alike() {
    let deployments = Deployments::start();
    let dependent = "unit: second, requests_per_unit: 1, consume: all_or_nothing";
    let closed = "unit: minute, requests_per_unit: 0";
    let shut = "unit: second, requests_per_unit: 0";
    let all: &[_] = &[("closed", ONE), ("shut", ONE), ("a", ONE), ("a", ONE)];
    deployments.assert_like_memory(
        Mode::default(),
        &[("a", &[dependent]), ("closed", &[closed]), ("shut", &[shut])],
        &[(0, all), (0, &[("a", Hits::Add(0))])],
    );
    let two = "unit: second, requests_per_unit: 2";
    let all: &[_] = &[("a", ONE), ("a", Hits::Add(2)), ("closed", ONE), ("shut", ONE)];
    deployments.assert_like_memory(
        stop_counting(),
        &[("a", &[two]), ("closed", &[closed]), ("shut", &[shut])],
        &[(0, all), (0, &[("a", Hits::Add(0))])],
    );
}

#[test]
fn charges_of_one_counter_are_made_in_order() {
    let deployments = Deployments::start();
    let gentle: &[&str] = &["unit: hour, requests_per_unit: 5, count_denied: false"];
    let mut calls: Vec<Call<'_>> = Vec::new();
    for _ in 0..10 {
        calls
            .push((0, &[("a", ONE), ("b", ONE), ("a", ONE), ("a at 0", Hits::Add(9)), ("a", ONE)]));
        calls.push((0, &[("b at 0", ONE), ("b", ONE), ("b at 9", ONE), ("b", ONE)]));
        calls.push((0, &[("a", Hits::Refund(99)), ("b", Hits::Refund(99))]));
    }
    deployments.assert_like_memory(Mode::default(), &[("a", gentle), ("b", gentle)], &calls);
}
