//! Operations on single counters, in every deployment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use tollgate::{
    limit::{Algorithm, Unit},
    store::{CallTime, ChangeError, CounterChange, Counters},
};

use testkit::wait::eventually_async;

use super::*;
use crate::deployments::{Deployment, Servers, ServiceStore, service_store};

const PENALTY: Duration = Duration::from_secs(600);

/// One hit on each of many counters with a limit of seven: of all algorithms, per second
/// and per hour, with and without a penalty.
fn charges() -> Vec<Charge> {
    let algorithms = [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 7 },
        Algorithm::LeakyBucket { burst: 7 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(3_600) },
    ];
    let mut charges = Vec::new();
    for algorithm in algorithms {
        for unit in [Unit::Second, Unit::Hour] {
            for penalty in [Duration::ZERO, PENALTY] {
                let limit = Limit { penalty, algorithm, ..Limit::fixed(7, Window::new(unit)) };
                let name = charges.len().to_string();
                let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
                let keys = KeyFormat::default();
                let counter = keys.counter(b"shop", [part].into_iter(), &limit, NOON);
                charges.push(Charge { counter, ..charge("", limit, Hits::Add(1), NOON) });
            }
        }
    }
    charges
}

async fn hit(store: &ServiceStore, charge: &Charge, hits: u64) -> Outcome {
    let charge = Charge { hits: Hits::Add(hits), ..charge.clone() };
    outcomes(store, &[charge], NOON).await.expect("the servers answer")[0]
}

async fn peek(store: &ServiceStore, charge: &Charge) -> Outcome {
    store.peek(&charge.counter, &charge.limit, NOON).await.expect("the servers answer")
}

async fn change(store: &ServiceStore, charge: &Charge, change: CounterChange) {
    let Charge { counter, limit, .. } = charge;
    store.change(counter, limit, change, CallTime::at(NOON)).await.expect("the servers answer");
}

async fn reset(store: &ServiceStore, charge: &Charge) {
    change(store, charge, CounterChange::Reset).await;
}

async fn set(store: &ServiceStore, charge: &Charge, used: u64) {
    change(store, charge, CounterChange::Set(used)).await;
}

async fn check_operations(deployment: Deployment) {
    let servers = Servers::start(deployment);
    let store = service_store(servers.store(PATIENT).await, 1 << 20);
    for charge in charges() {
        let context = format!("{deployment:?}, {:?}", charge.limit);
        reset(&store, &charge).await;
        assert_eq!(peek(&store, &charge).await.used, 0, "{context}");
        assert_eq!(hit(&store, &charge, 7).await.used, 7, "{context}");
        assert_eq!(peek(&store, &charge).await.remaining, 0, "{context}");
        assert!(hit(&store, &charge, 1).await.over, "{context}");
        let banned = peek(&store, &charge).await.banned;
        assert_eq!(banned, charge.limit.penalty, "{context}");
        // A reset also ends the ban and removes the cached refusal.
        reset(&store, &charge).await;
        assert_eq!(peek(&store, &charge).await.used, 0, "{context}");
        assert!(!hit(&store, &charge, 1).await.over, "{context}");
        set(&store, &charge, 6).await;
        assert_eq!(peek(&store, &charge).await.used, 6, "{context}");
        let last = [hit(&store, &charge, 1).await.over, hit(&store, &charge, 1).await.over];
        assert_eq!(last, [false, true], "{context}");
        set(&store, &charge, 2).await;
        let used = hit(&store, &charge, 1).await;
        assert_eq!((used.over, used.used, used.banned), (false, 3, Duration::ZERO), "{context}");
    }
}

#[tokio::test]
async fn counters_on_one_server_are_read_reset_and_set() {
    check_operations(Deployment::One).await;
}

#[tokio::test]
async fn counters_on_two_servers_are_read_reset_and_set() {
    check_operations(Deployment::PerSecond).await;
}

#[tokio::test]
async fn counters_in_a_cluster_are_read_reset_and_set() {
    check_operations(Deployment::Cluster).await;
}

#[tokio::test]
async fn counters_behind_sentinels_are_read_reset_and_set() {
    check_operations(Deployment::Sentinels).await;
}

/// Callers that hit one counter until they are stopped.
async fn hit_until(stop: Arc<AtomicBool>, store: Arc<ServiceStore>, charge: Charge) -> usize {
    let mut passed = 0;
    while !stop.load(Relaxed) {
        passed += usize::from(!hit(&store, &charge, 1).await.over);
        tokio::task::yield_now().await;
    }
    passed
}

/// Each reset in the midst of calls makes room for as many calls as the limit, no more, and at
/// once: nothing else ends the refusals at noon.
async fn check_concurrent_resets(deployment: Deployment) {
    const RESETS: usize = 10;
    let servers = Servers::start(deployment);
    let store = Arc::new(service_store(servers.store(PATIENT).await, 1 << 20));
    for charge in charges() {
        if charge.limit.window == Window::new(Unit::Second) {
            // The server forgets these by its own clock.
            continue;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            callers.spawn(hit_until(Arc::clone(&stop), Arc::clone(&store), charge.clone()));
        }
        for resets in 0..=RESETS {
            eventually_async("the limit to be used up", async || {
                let look = peek(&store, &charge).await;
                look.remaining == 0
            })
            .await;
            if resets < RESETS {
                reset(&store, &charge).await;
            }
        }
        stop.store(true, Relaxed);
        let passed: usize = callers.join_all().await.into_iter().sum();
        assert_eq!(passed, 7 * (RESETS + 1), "{deployment:?}, {:?}", charge.limit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reset_makes_room_for_exactly_the_limit_while_others_call_one_server() {
    check_concurrent_resets(Deployment::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reset_makes_room_for_exactly_the_limit_while_others_call_a_cluster() {
    check_concurrent_resets(Deployment::Cluster).await;
}

/// A change that the server never sees says so, and one that it may see says that.
#[tokio::test]
async fn a_change_without_a_reply_tells_whether_the_counter_may_have_changed() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let server = Servers::start(Deployment::One);
    let Servers::One(redis) = &server else { unreachable!("it is one server") };
    let store = service_store(server.store(TIMEOUT).await, 0);
    let charge = &charges()[0];
    hit(&store, charge, 7).await;
    redis.suspend();
    let Charge { counter, limit, .. } = charge;
    let change = async |deadline: Option<Instant>| {
        let time = CallTime { now: NOON, deadline };
        let result = store.change(counter, limit, CounterChange::Reset, time).await;
        result.expect_err("the server is suspended")
    };
    // Its deadline has passed, so it is not sent.
    let error = change(Some(Instant::now())).await;
    assert!(matches!(error, ChangeError::Unchanged(StoreError::Timeout(_))), "{error}");
    // It is sent, and never answered.
    let error = change(None).await;
    assert!(matches!(error, ChangeError::Unknown(StoreError::Timeout(TIMEOUT))), "{error}");
    // By now the server is known not to answer.
    eventually_async("calls to fail at once", async || match change(None).await {
        ChangeError::Unchanged(error) => Ok(error),
        ChangeError::Unknown(error) => Err(error.to_string()),
    })
    .await;
    assert!(store.peek(counter, limit, NOON).await.is_err(), "no policy decides a look");
    redis.resume();
}
