//! Concurrent callers.

use std::{collections::HashMap, sync::Arc};

use super::*;
use crate::batches::ran;
use testkit::redis::RedisServer;

/// The values that `callers` tasks get in `rounds` calls, by counter. The tasks are
/// distributed over `stores`, and each call charges several counters in one of several
/// windows.
async fn handed_out(
    stores: &[Arc<Redis>],
    callers: usize,
    rounds: u64,
) -> HashMap<String, Vec<u64>> {
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = Arc::clone(&stores[caller % stores.len()]);
            tokio::spawn(async move {
                let mut values = Vec::new();
                for round in 0..rounds {
                    let now = NOON.plus(Duration::from_secs(60 * (round % 5)));
                    let charges: Vec<_> = (0..5)
                        .map(|it| charge(&it.to_string(), minutely(10), Hits::Add(1), now))
                        .collect();
                    let counters = after(&store, &charges, now).await.expect("the server runs");
                    let names = charges
                        .iter()
                        .map(|it| it.counter.key.as_bytes().escape_ascii().to_string());
                    values.extend(names.zip(counters));
                }
                values
            })
        })
        .collect();
    let mut by_counter: HashMap<_, Vec<_>> = HashMap::new();
    for task in tasks {
        for (name, value) in task.await.expect("no caller fails") {
            by_counter.entry(name).or_default().push(value);
        }
    }
    by_counter
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
    let stores = [(); 2].map(|()| Arc::new(store(&server.url(), PATIENT)));
    assert_each_once(handed_out(&stores, 64, 100).await, 25, 64 * 20);
    let scripts = ran(&mut server.client(), "evalsha");
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
    assert_each_once(handed_out(&stores, 64, 100).await, 25, 64 * 20);
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
fn hourly(requests: u32) -> [Limit; 5] {
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: requests },
        Algorithm::Concurrency { lease: Duration::from_secs(3_600) },
    ]
    .map(|algorithm| Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Hour)) })
}

/// The number of calls that pass, of ten calls of each of 64 callers through two stores.
/// Every other caller makes its charges in reverse order.
async fn admitted(server: &RedisServer, charges: &[Charge]) -> usize {
    let stores = [(); 2].map(|()| Arc::new(store(&server.url(), PATIENT)));
    let caller = |caller: usize| {
        let store = Arc::clone(&stores[caller % 2]);
        let mut charges = charges.to_vec();
        if caller % 4 < 2 {
            charges.reverse();
        }
        tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..10 {
                let outcomes = outcomes(&store, &charges, NOON).await.expect("the server runs");
                passed += usize::from(outcomes.iter().all(|it| !it.over));
            }
            passed
        })
    };
    let callers: Vec<_> = (0..64).map(caller).collect();
    let mut admitted = 0;
    for it in callers {
        admitted += it.await.expect("no caller fails");
    }
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_admit_exactly_the_limit() {
    let server = RedisServer::start();
    for limit in hourly(200) {
        let charges = [charge("a", limit.clone(), Hits::Add(1), NOON)];
        assert_eq!(admitted(&server, &charges).await, 200, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_if_refused_a_refused_call_counts_only_where_it_is_over_the_limit() {
    let server = RedisServer::start();
    let charges = [("wide", minutely(300)), ("tight", minutely(200))].map(|(name, limit)| {
        let charge = charge(name, limit, Hits::Add(1), NOON);
        Charge { consume: Consume::IfRefused, ..charge }
    });
    assert_eq!(admitted(&server, &charges).await, 200);
    let looks = charges.map(|it| Charge { hits: Hits::Add(0), ..it });
    let store = store(&server.url(), PATIENT);
    assert_eq!(after(&store, &looks, NOON).await.unwrap(), [200, 640]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_all_or_nothing_call_changes_no_counter() {
    let server = RedisServer::start();
    for (wide, tight) in hourly(300).into_iter().zip(hourly(200)) {
        let charges = [("wide", wide), ("tight", tight)].map(|(name, limit)| Charge {
            consume: Consume::AllOrNothing,
            ..charge(name, limit, Hits::Add(1), NOON)
        });
        assert_eq!(admitted(&server, &charges).await, 200, "{}", charges[0].limit);
        let looks = charges.map(|it| Charge { hits: Hits::Add(0), ..it });
        let store = store(&server.url(), PATIENT);
        assert_eq!(after(&store, &looks, NOON).await.unwrap(), [200, 200], "{}", looks[0].limit);
    }
}
