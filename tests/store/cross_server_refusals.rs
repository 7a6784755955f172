//! The cost of refused requests whose counters are on several servers. It is the same as
//! in memory and on one server.

use std::sync::Arc;

use tollgate::{
    descriptor::Request,
    engine::{
        Engine,
        decision::Mode,
        fallback::{Fallback, FallbackSettings},
    },
    rules::spec::OnError,
    time::ManualClock,
};

use super::*;
use crate::deployments::{
    Deployment, Servers, ServiceStore, count_passed, descriptor, engine, memory, remaining,
    request_for, request_with, service_store,
};

/// A test for each deployment.
macro_rules! test_each_deployment {
    ($($name:ident),*) => {$(
        mod $name {
            use super::Deployment;

            #[tokio::test]
            async fn one_server() {
                super::$name(Deployment::One).await;
            }

            #[tokio::test]
            async fn two_servers() {
                super::$name(Deployment::PerSecond).await;
            }

            #[tokio::test]
            async fn a_cluster() {
                super::$name(Deployment::Cluster).await;
            }
        }
    )*};
}

test_each_deployment!(
    refused_hits_beyond_the_maximum_do_not_empty_a_counter,
    refunds_of_a_refused_request_count_as_they_do_in_memory,
    refused_requests_do_not_keep_a_log_full,
    refused_requests_do_not_extend_a_permit,
    bans_are_reported_as_they_are_in_memory,
    a_request_that_another_limit_refuses_starts_no_ban,
    a_request_that_another_limit_refuses_starts_no_ban_with_stop_counting
);

/// An engine with the rules `text`, at noon.
async fn engine_at_noon(servers: &Servers, text: &str) -> (Engine<ServiceStore>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON));
    let store = service_store(servers.store(PATIENT).await, 0);
    (engine(text, store, &clock), clock)
}

fn stop_counting() -> Mode {
    Mode { stop_counting: true, ..Mode::default() }
}

/// Whether each request is refused; `None` for an error.
async fn refusals<S: Store>(
    engine: &Engine<S>,
    request: &Request,
    times: usize,
) -> Vec<Option<bool>> {
    let mut refusals = Vec::new();
    for _ in 0..times {
        let decision = engine.decide(request, None).await.ok();
        refusals.push(decision.map(|decision| decision.over_limit));
    }
    refusals
}

/// Five passed requests, and refused ones up to `times`.
fn five_pass_of(times: usize) -> Vec<Option<bool>> {
    let mut expected = vec![Some(true); times];
    expected[..5].fill(Some(false));
    expected
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_although_the_other_server_fails() {
    let servers = Servers::start(Deployment::PerSecond);
    let rules = "domain: shop\ndescriptors:\n- key: user\n  rate_limits:\n  \
               - {unit: second, requests_per_unit: 100}\n  \
               - {unit: day, requests_per_unit: 5}\n";
    let (engine, _) = engine_at_noon(&servers, rules).await;
    let engine = Engine { mode: stop_counting(), ..engine };
    assert_eq!(refusals(&engine, &request_for(&["user"]), 20).await, five_pass_of(20));
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_under_any_policy() {
    let servers = Servers::start(Deployment::PerSecond);
    let wide = "second, requests_per_unit: 100000";
    for (name, mode, hour, second) in [
        ("stop", stop_counting(), "", ""),
        (
            "both",
            Mode::default(),
            ", count_denied: false, consume: all_or_nothing",
            ", consume: all_or_nothing",
        ),
        ("first", Mode::default(), ", count_denied: false, consume: all_or_nothing", ""),
        ("second", Mode::default(), "", ", consume: all_or_nothing"),
    ] {
        for on_error in [OnError::Allow, OnError::Local] {
            let key = format!("{name}{on_error:?}");
            let text = format!(
                "domain: shop\ndescriptors:\n- key: {key}\n  rate_limit: {{unit: hour, \
                 requests_per_unit: 5{hour}}}\n- key: second\n  rate_limit: {{unit: {wide}{second}}}\n"
            );
            let (engine, _) = engine_at_noon(&servers, &text).await;
            // Longer than a healthy server takes.
            let deadline = PATIENT;
            let settings =
                FallbackSettings { on_error: Some(on_error), deadline, ..Default::default() };
            let engine = Engine { mode, fallback: Fallback::new(settings), ..engine };
            let found = refusals(&engine, &request_for(&[&key, "second"]), 100).await;
            assert_eq!(found, five_pass_of(100), "{key}");
        }
    }
}

const WITH_CLOSED: &str = "
domain: shop
descriptors:
- key: a
  rate_limit: {unit: year, requests_per_unit: 3, consume: all_or_nothing}
- key: closed
  rate_limit: {unit: hour, requests_per_unit: 0, consume: all_or_nothing}
- key: shut
  rate_limit: {unit: second, requests_per_unit: 0, consume: all_or_nothing}
- key: log
  rate_limit: {period: 10s, requests_per_unit: 10, algorithm: sliding_log, consume: all_or_nothing}
- key: job
  rate_limit: {requests_per_unit: 2, algorithm: concurrency, lease: 3s, consume: all_or_nothing}
- key: pen
  rate_limit: {unit: hour, requests_per_unit: 3, count_denied: false, penalty: 10m, consume: all_or_nothing}
- key: pens
  rate_limit: {unit: hour, requests_per_unit: 3, penalty: 10m, consume: all_or_nothing}
- key: free
  rate_limit: {unit: hour, requests_per_unit: 3, penalty: 10m}
";

/// Adds two limits that refuse every request in every deployment.
fn refused_request(others: &[(&str, Hits)]) -> Request {
    let closed = [("closed", Hits::Add(1)), ("shut", Hits::Add(1))];
    request_of_hits(&[&closed, others].concat())
}

fn request_of_hits(key_hits: &[(&str, Hits)]) -> Request {
    let mut descriptors = Vec::new();
    for (key, hits) in key_hits {
        descriptors.push(descriptor(key, "ann", *hits));
    }
    request_with(descriptors)
}

async fn refused_hits_beyond_the_maximum_do_not_empty_a_counter(deployment: Deployment) {
    let servers = Servers::start(deployment);
    let (engine, _) = engine_at_noon(&servers, WITH_CLOSED).await;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(count_passed(&engine, &request_for(&["a"]), 5).await);
        let huge = refused_request(&[("a", Hits::Add(u64::MAX))]);
        assert_eq!(count_passed(&engine, &huge, 1).await, 0);
    }
    assert_eq!(found, [3, 0, 0, 0]);
}

async fn refunds_of_a_refused_request_count_as_they_do_in_memory(deployment: Deployment) {
    let clock = Arc::new(ManualClock::new(NOON));
    let refund = refused_request(&[("a", Hits::Refund(2))]);
    let memory_engine = engine(WITH_CLOSED, memory(), &clock);
    count_passed(&memory_engine, &request_for(&["a"]), 3).await;
    count_passed(&memory_engine, &refund, 1).await;
    let expected = count_passed(&memory_engine, &request_for(&["a"]), 5).await;
    let servers = Servers::start(deployment);
    let (engine, _) = engine_at_noon(&servers, WITH_CLOSED).await;
    assert_eq!(count_passed(&engine, &request_for(&["a"]), 3).await, 3);
    assert_eq!(count_passed(&engine, &refund, 1).await, 0);
    assert_eq!(count_passed(&engine, &request_for(&["a"]), 5).await, expected);
}

async fn refused_requests_do_not_keep_a_log_full(deployment: Deployment) {
    let servers = Servers::start(deployment);
    let (engine, clock) = engine_at_noon(&servers, WITH_CLOSED).await;
    assert_eq!(count_passed(&engine, &request_for(&["log"]), 5).await, 5);
    clock.advance(Duration::from_secs(9));
    assert_eq!(count_passed(&engine, &refused_request(&[("log", Hits::Add(1))]), 5).await, 0);
    assert_eq!(remaining(&engine, "log").await, 5);
    // The first five have ended.
    clock.advance(Duration::from_millis(1_500));
    assert_eq!(count_passed(&engine, &request_for(&["log"]), 12).await, 10);
}

async fn refused_requests_do_not_extend_a_permit(deployment: Deployment) {
    let servers = Servers::start(deployment);
    let (engine, clock) = engine_at_noon(&servers, WITH_CLOSED).await;
    // The slot is never released.
    assert_eq!(count_passed(&engine, &request_for(&["job"]), 1).await, 1);
    for _ in 0..12 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(count_passed(&engine, &refused_request(&[("job", Hits::Add(1))]), 1).await, 0);
    }
    assert_eq!(remaining(&engine, "job").await, 2);
}

async fn bans_are_reported_as_they_are_in_memory(deployment: Deployment) {
    let clock = Arc::new(ManualClock::new(NOON));
    let memory_engine = engine(WITH_CLOSED, memory(), &clock);
    let servers = Servers::start(deployment);
    let (redis, _) = engine_at_noon(&servers, WITH_CLOSED).await;
    for key in ["pen", "pens", "free"] {
        for (others, hits) in [(true, 1), (true, 4), (true, 1), (false, 4), (true, 1)] {
            let hits = [(key, Hits::Add(hits))];
            let request = if others { refused_request(&hits) } else { request_of_hits(&hits) };
            let expected = last_status(&memory_engine, &request).await;
            assert_eq!(last_status(&redis, &request).await, expected, "{key}: {request:?}");
        }
    }
}

#[derive(Debug, PartialEq)]
struct Status {
    over: bool,
    remaining: u32,
    banned: Duration,
}

/// The status of the last descriptor.
async fn last_status<S: Store>(engine: &Engine<S>, request: &Request) -> Status {
    let decision = engine.decide(request, None).await.expect("the servers answer");
    let last = decision.verdicts.last().expect("there is one");
    let Outcome { over, remaining, banned, .. } = *last.status().expect("it is known").outcome;
    Status { over, remaining, banned }
}

async fn check_no_ban(deployment: Deployment, mode: Mode) {
    let servers = Servers::start(deployment);
    let (engine, _) = engine_at_noon(&servers, WITH_CLOSED).await;
    let engine = Engine { mode, ..engine };
    // Three hits fit, so the fourth would be refused.
    assert_eq!(count_passed(&engine, &refused_request(&[("pen", Hits::Add(1))]), 8).await, 0);
    assert_eq!(count_passed(&engine, &request_for(&["pen"]), 4).await, 3);
}

async fn a_request_that_another_limit_refuses_starts_no_ban(deployment: Deployment) {
    check_no_ban(deployment, Mode::default()).await;
}

async fn a_request_that_another_limit_refuses_starts_no_ban_with_stop_counting(
    deployment: Deployment,
) {
    check_no_ban(deployment, stop_counting()).await;
}
