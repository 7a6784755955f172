//! Concurrent callers.

use std::{collections::HashMap, sync::Arc};

use tokio::task::JoinSet;

use super::*;
use testkit::{redis::RedisServer, redis_node::command_calls};

/// The value that a counter had after a call.
struct Reading {
    counter: String,
    value: u64,
}

/// Two stores, as two instances have.
fn two_stores(server: &RedisServer) -> Vec<Arc<Redis>> {
    vec![Arc::new(store(&server.url(), PATIENT)), Arc::new(store(&server.url(), PATIENT))]
}

/// The values that 64 callers get in 100 calls each, by counter. The callers are
/// distributed over `stores`.
async fn values_by_counter(stores: &[Arc<Redis>]) -> HashMap<String, Vec<u64>> {
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        callers.spawn(charge_in_several_windows(Arc::clone(&stores[caller % stores.len()])));
    }
    let mut by_counter: HashMap<_, Vec<_>> = HashMap::new();
    for readings in callers.join_all().await {
        for Reading { counter, value } in readings {
            by_counter.entry(counter).or_default().push(value);
        }
    }
    by_counter
}

/// Makes 100 calls that each charge five counters in one of five windows.
async fn charge_in_several_windows(store: Arc<Redis>) -> Vec<Reading> {
    let mut readings = Vec::new();
    for call in 0..100 {
        let now = NOON.plus(Duration::from_secs(60 * (call % 5)));
        let mut charges = Vec::new();
        for name in ["0", "1", "2", "3", "4"] {
            charges.push(charge(name, minutely(10), Hits::Add(1), now));
        }
        let values = after(&store, &charges, now).await.expect("the server runs");
        for (charge, value) in charges.iter().zip(values) {
            let counter = charge.counter.key.as_bytes().escape_ascii().to_string();
            readings.push(Reading { counter, value });
        }
    }
    readings
}

#[track_caller]
fn assert_each_once(by_counter: HashMap<String, Vec<u64>>, counters: usize, values: u64) {
    assert_eq!(by_counter.len(), counters);
    for (name, mut found) in by_counter {
        found.sort_unstable();
        assert!(found.into_iter().eq(1..=values), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_return_every_value_once() {
    let server = RedisServer::start();
    assert_each_once(values_by_counter(&two_stores(&server)).await, 25, 64 * 20);
    let scripts = command_calls(&mut server.client(), "evalsha");
    assert!(scripts < 64 * 100 / 2, "{scripts} scripts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_fails_or_is_repeated_when_scripts_are_flushed() {
    let server = RedisServer::start();
    let stores = [Arc::new(store(&server.url(), PATIENT))];
    let flushing = tokio::task::spawn_blocking({
        let mut client = server.client();
        move || {
            let mut flushed = 0;
            // Repeats until the server is killed.
            while redis::cmd("SCRIPT").arg("FLUSH").exec(&mut client).is_ok() {
                flushed += 1;
            }
            flushed
        }
    });
    assert_each_once(values_by_counter(&stores).await, 25, 64 * 20);
    drop(server);
    assert!(flushing.await.unwrap() > 10);
}

#[tokio::test]
async fn cancelled_calls_leave_the_connection_usable() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    for _ in 0..2_000 {
        // Polled once: the call is queued, and its reply has not arrived.
        tokio::select! {
            biased;
            answer = hit(&store, "b") => assert!(answer.is_ok()),
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(hit(&store, "a").await.unwrap(), 2);
    assert!(hit(&store, "b").await.unwrap() <= 2_001);
}

/// Limits of `requests` per hour, or in flight.
fn hourly(requests: u32) -> Vec<Limit> {
    let mut limits = Vec::new();
    for algorithm in [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: requests },
        Algorithm::Concurrency { lifetime: Duration::from_secs(3_600) },
    ] {
        limits.push(Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Hour)) });
    }
    limits
}

/// The number of calls that pass, of ten calls of each of 64 callers through two stores.
/// Every other caller makes its charges in reverse order.
async fn count_admitted(server: &RedisServer, charges: &[Charge]) -> usize {
    let stores = two_stores(server);
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let store = Arc::clone(&stores[caller % 2]);
        let mut charges = charges.to_vec();
        if caller % 4 < 2 {
            charges.reverse();
        }
        callers.spawn(async move {
            let mut admitted = 0;
            for _ in 0..10 {
                let outcomes = outcomes(&store, &charges, NOON).await.expect("the server runs");
                let over = outcomes.iter().any(|outcome| outcome.over);
                admitted += usize::from(!over);
            }
            admitted
        });
    }
    let mut admitted = 0;
    for calls in callers.join_all().await {
        admitted += calls;
    }
    admitted
}

/// One hit on the counters `wide` and `tight`, which depend on each other.
fn dependent_charges(consume: Consume, wide: &Limit, tight: &Limit, hits: u64) -> [Charge; 2] {
    [
        Charge { consume, ..charge("wide", wide.clone(), Hits::Add(hits), NOON) },
        Charge { consume, ..charge("tight", tight.clone(), Hits::Add(hits), NOON) },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_admit_exactly_the_limit() {
    let server = RedisServer::start();
    for limit in hourly(200) {
        let charges = [charge("a", limit.clone(), Hits::Add(1), NOON)];
        assert_eq!(count_admitted(&server, &charges).await, 200, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_if_refused_a_refused_call_counts_only_where_it_is_over_the_limit() {
    let server = RedisServer::start();
    let (consume, wide, tight) = (Consume::IfRefused, minutely(300), minutely(200));
    let charges = dependent_charges(consume, &wide, &tight, 1);
    assert_eq!(count_admitted(&server, &charges).await, 200);
    let peeks = dependent_charges(consume, &wide, &tight, 0);
    let store = store(&server.url(), PATIENT);
    assert_eq!(after(&store, &peeks, NOON).await.unwrap(), [200, 640]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_all_or_nothing_call_changes_no_counter() {
    let server = RedisServer::start();
    let consume = Consume::AllOrNothing;
    for (wide, tight) in hourly(300).iter().zip(&hourly(200)) {
        let charges = dependent_charges(consume, wide, tight, 1);
        assert_eq!(count_admitted(&server, &charges).await, 200, "{wide}");
        let peeks = dependent_charges(consume, wide, tight, 0);
        let store = store(&server.url(), PATIENT);
        assert_eq!(after(&store, &peeks, NOON).await.unwrap(), [200, 200], "{wide}");
    }
}
