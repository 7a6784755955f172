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
use crate::places::{
    Counters, Place, Servers, ask, asking, counters, descriptor, engine, memory, passed, remaining,
};

/// A test for each deployment.
macro_rules! everywhere {
    ($($name:ident),*) => {$(
        mod $name {
            use super::Place;

            #[tokio::test]
            async fn one_server() {
                super::$name(Place::One).await;
            }

            #[tokio::test]
            async fn two_servers() {
                super::$name(Place::PerSecond).await;
            }

            #[tokio::test]
            async fn a_cluster() {
                super::$name(Place::Cluster).await;
            }
        }
    )*};
}

everywhere!(
    more_hits_than_anybody_counts_do_not_empty_a_counter_that_they_do_not_pass,
    hits_given_back_by_a_refused_request_count_as_they_do_in_memory,
    requests_that_are_refused_keep_no_log_full,
    requests_that_are_refused_keep_no_slot_of_a_caller_that_died,
    who_is_banned_is_told_what_memory_says,
    a_request_that_another_limit_refuses_bans_nobody,
    a_request_that_another_limit_refuses_bans_nobody_told_to_stop
);

/// An engine with the rules `text`, at noon.
async fn table(servers: &Servers, text: &str) -> (Engine<Counters>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON));
    let store = counters(servers.store(PATIENT).await, 0);
    (engine(text, store, &clock), clock)
}

fn stop() -> Mode {
    Mode { stop_counting: true, ..Mode::default() }
}

/// Whether each request is refused; `None` for an error.
async fn codes<S: Store>(engine: &Engine<S>, request: &Request, times: usize) -> Vec<Option<bool>> {
    let mut codes = Vec::new();
    for _ in 0..times {
        codes.push(engine.decide(request, None).await.ok().map(|it| it.over_limit));
    }
    codes
}

/// Five passed requests, and refused ones up to `times`.
fn five_of(times: usize) -> Vec<Option<bool>> {
    (0..times).map(|it| Some(5 <= it)).collect()
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_although_the_other_server_fails() {
    let servers = Servers::start(Place::PerSecond);
    let one = "domain: game\ndescriptors:\n- key: user\n  rate_limits:\n  \
               - {unit: second, requests_per_unit: 100}\n  \
               - {unit: day, requests_per_unit: 5}\n";
    let (engine, _) = table(&servers, one).await;
    let stopping = Engine { mode: stop(), ..engine };
    assert_eq!(codes(&stopping, &ask(&["user"]), 20).await, five_of(20));
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_under_any_policy() {
    let servers = Servers::start(Place::PerSecond);
    let wide = "second, requests_per_unit: 100000";
    for (name, mode, hour, second) in [
        ("stop", stop(), "", ""),
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
                "domain: game\ndescriptors:\n- key: {key}\n  rate_limit: {{unit: hour, \
                 requests_per_unit: 5{hour}}}\n- key: second\n  rate_limit: {{unit: {wide}{second}}}\n"
            );
            let (engine, _) = table(&servers, &text).await;
            // Longer than a healthy server takes.
            let deadline = PATIENT;
            let settings =
                FallbackSettings { on_error: Some(on_error), deadline, ..Default::default() };
            let engine = Engine { mode, fallback: Fallback::new(settings), ..engine };
            let found = codes(&engine, &ask(&[&key, "second"]), 100).await;
            assert_eq!(found, five_of(100), "{key}");
        }
    }
}

const WITH_CLOSED: &str = "
domain: game
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
fn closed_with(others: &[(&str, Hits)]) -> Request {
    let mut all =
        vec![descriptor("closed", "ann", Hits::Add(1)), descriptor("shut", "ann", Hits::Add(1))];
    all.extend(others.iter().map(|(key, hits)| descriptor(key, "ann", *hits)));
    asking(all)
}

async fn more_hits_than_anybody_counts_do_not_empty_a_counter_that_they_do_not_pass(place: Place) {
    let servers = Servers::start(place);
    let (engine, _) = table(&servers, WITH_CLOSED).await;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(passed(&engine, &ask(&["a"]), 5).await);
        let huge = closed_with(&[("a", Hits::Add(u64::MAX))]);
        assert_eq!(passed(&engine, &huge, 1).await, 0);
    }
    assert_eq!(found, [3, 0, 0, 0]);
}

async fn hits_given_back_by_a_refused_request_count_as_they_do_in_memory(place: Place) {
    let clock = Arc::new(ManualClock::new(NOON));
    let back = closed_with(&[("a", Hits::Refund(2))]);
    let ours = engine(WITH_CLOSED, memory(), &clock);
    passed(&ours, &ask(&["a"]), 3).await;
    passed(&ours, &back, 1).await;
    let expected = passed(&ours, &ask(&["a"]), 5).await;
    let servers = Servers::start(place);
    let (engine, _) = table(&servers, WITH_CLOSED).await;
    assert_eq!(passed(&engine, &ask(&["a"]), 3).await, 3);
    assert_eq!(passed(&engine, &back, 1).await, 0);
    assert_eq!(passed(&engine, &ask(&["a"]), 5).await, expected);
}

async fn requests_that_are_refused_keep_no_log_full(place: Place) {
    let servers = Servers::start(place);
    let (engine, clock) = table(&servers, WITH_CLOSED).await;
    assert_eq!(passed(&engine, &ask(&["log"]), 5).await, 5);
    clock.advance(Duration::from_secs(9));
    assert_eq!(passed(&engine, &closed_with(&[("log", Hits::Add(1))]), 5).await, 0);
    assert_eq!(remaining(&engine, "log").await, 5);
    // The first five have ended.
    clock.advance(Duration::from_millis(1_500));
    assert_eq!(passed(&engine, &ask(&["log"]), 12).await, 10);
}

async fn requests_that_are_refused_keep_no_slot_of_a_caller_that_died(place: Place) {
    let servers = Servers::start(place);
    let (engine, clock) = table(&servers, WITH_CLOSED).await;
    // The slot is never released.
    assert_eq!(passed(&engine, &ask(&["job"]), 1).await, 1);
    for _ in 0..12 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(passed(&engine, &closed_with(&[("job", Hits::Add(1))]), 1).await, 0);
    }
    assert_eq!(remaining(&engine, "job").await, 2);
}

async fn who_is_banned_is_told_what_memory_says(place: Place) {
    let clock = Arc::new(ManualClock::new(NOON));
    let ours = engine(WITH_CLOSED, memory(), &clock);
    let servers = Servers::start(place);
    let (theirs, _) = table(&servers, WITH_CLOSED).await;
    for key in ["pen", "pens", "free"] {
        for (others, hits) in [(true, 1), (true, 4), (true, 1), (false, 4), (true, 1)] {
            let hits = [(key, Hits::Add(hits))];
            let request = if others { closed_with(&hits) } else { only(&hits) };
            let expected = told(&ours, &request).await;
            assert_eq!(told(&theirs, &request).await, expected, "{key}: {request:?}");
        }
    }
}

fn only(all: &[(&str, Hits)]) -> Request {
    asking(all.iter().map(|(key, hits)| descriptor(key, "ann", *hits)).collect())
}

/// The status of the last descriptor.
async fn told<S: Store>(engine: &Engine<S>, request: &Request) -> (bool, u32, Duration) {
    let decision = engine.decide(request, None).await.expect("the servers answer");
    let last = decision.verdicts.last().expect("there is one");
    let Outcome { over, remaining, banned, .. } = *last.status().expect("it is known").outcome;
    (over, remaining, banned)
}

async fn nobody_is_banned(place: Place, mode: Mode) {
    let servers = Servers::start(place);
    let (engine, _) = table(&servers, WITH_CLOSED).await;
    let engine = Engine { mode, ..engine };
    // Three hits fit, so the fourth would be refused.
    assert_eq!(passed(&engine, &closed_with(&[("pen", Hits::Add(1))]), 8).await, 0);
    assert_eq!(passed(&engine, &ask(&["pen"]), 4).await, 3);
}

async fn a_request_that_another_limit_refuses_bans_nobody(place: Place) {
    nobody_is_banned(place, Mode::default()).await;
}

async fn a_request_that_another_limit_refuses_bans_nobody_told_to_stop(place: Place) {
    nobody_is_banned(place, stop()).await;
}
