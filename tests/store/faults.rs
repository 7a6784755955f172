//! Servers that are down, silent or unwilling.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use futures_util::future::{join_all, poll_immediate};

use super::*;
use testkit::redis::RedisServer;

const HASTY: Duration = Duration::from_millis(100);

/// Tries again until it works, for up to 20 s.
pub(crate) async fn eventually<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(it) => return it,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_first_is_found_when_it_is_up() {
    let mut server = RedisServer::start();
    server.stop();
    let store = store(&server.url(), PATIENT);
    for _ in 0..100 {
        let error = hit(&store, "a").await.unwrap_err();
        let expected = format!("cannot connect to 127.0.0.1:{}: ", server.port());
        assert!(error.to_string().contains(&expected), "{error}");
    }
    assert!(store.ready().await.is_err());
    server.restart();
    assert_eq!(eventually(|| hit(&store, "a")).await, 1);
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_restarted_is_found_again() {
    let mut server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    for _ in 0..3 {
        assert_eq!(eventually(|| hit(&store, "a")).await, 1);
        server.stop();
        assert!(matches!(hit(&store, "a").await, Err(StoreError::Failed(_))));
        server.restart();
    }
}

#[tokio::test]
async fn a_server_that_is_restarted_while_nobody_calls_is_found_again() {
    let mut server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    server.stop();
    server.restart();
    // Longer than an idle connection goes untried.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_is_closed_is_replaced() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    let mut client = server.client();
    for expected in 1..=3 {
        assert_eq!(eventually(|| hit(&store, "a")).await, expected);
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec(&mut client).unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_fails_every_call_in_time_and_may_speak_again() {
    let server = RedisServer::start();
    let store = store(&server.url(), HASTY);
    eventually(|| hit(&store, "a")).await;
    server.suspend();
    // Long enough that the connection is given up meanwhile, and another tried.
    let begin = Instant::now();
    let (mut calls, mut timeouts) = (0, 0);
    while begin.elapsed() < Duration::from_secs(4) {
        // Far longer than it may take, for a machine that is busy.
        let answer = tokio::time::timeout(HASTY * 100, hit(&store, "b")).await;
        let error = answer.expect("it does not hang").unwrap_err();
        calls += 1;
        timeouts += u32::from(matches!(error, StoreError::Timeout(HASTY)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(timeouts > 0);
    server.resume();
    assert_eq!(eventually(|| hit(&store, "a")).await, 2);
    // Some of the calls were counted late, but none of them twice.
    let look = charge("b", minutely(10), Hits::Add(0), NOON);
    assert!(after(&store, &[look], NOON).await.unwrap()[0] <= calls);
}

#[tokio::test]
async fn a_caller_that_gave_up_does_not_shut_out_others() {
    let server = RedisServer::start();
    let store = store(&server.url(), Duration::from_secs(2));
    assert_eq!(eventually(|| hit(&store, "a")).await, 1);
    let mut given_up = Box::pin(hit(&store, "a"));
    assert!(poll_immediate(&mut given_up).await.is_none());
    drop(given_up);
    // Longer than a server may be silent.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let calls = join_all((0..50).map(|_| hit(&store, "b"))).await;
    let mut values: Vec<_> = calls.into_iter().map(|it| it.expect("the server runs")).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=50).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_reported_until_it_is_right() {
    let server = RedisServer::with_password("secret");
    let address = format!("127.0.0.1:{}", server.port());
    let mut client = server.client();
    assert_eq!(hit(&store(&server.url(), PATIENT), "a").await.unwrap(), 1);

    let error = hit(&store(&address, PATIENT), "a").await.unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("NOAUTH"), "{error}");

    let mistaken = store(&format!("redis://:guess@{address}"), PATIENT);
    let error = hit(&mistaken, "a").await.unwrap_err().to_string();
    assert!(error.contains("Password authentication failed"), "{error}");
    assert!(!error.contains("guess"), "{error}");
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "guess"]).exec(&mut client).unwrap();
    assert_eq!(eventually(|| hit(&mistaken, "a")).await, 2);
}

/// A number that the server keeps of itself.
fn info(client: &mut redis::Connection, section: &str, field: &str) -> u32 {
    let info: String = redis::cmd("INFO").arg(section).query(client).expect("the server runs");
    let (_, rest) = info.split_once(&format!("{field}:")).expect("the field exists");
    rest.lines().next().and_then(|it| it.parse().ok()).expect("it is a number")
}

async fn eventually_true(mut attempt: impl FnMut() -> bool) {
    eventually(|| {
        let answer = if attempt() { Ok(()) } else { Err(StoreError::Failed("not yet".into())) };
        std::future::ready(answer)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_until_it_is_a_primary_again() {
    a_replica_is_left(&RedisServer::start()).await;
}

/// By each of the scripts: servers say in different ways what a command in a script
/// has answered.
pub(crate) async fn a_replica_is_left(server: &RedisServer) {
    let bucket = Limit { algorithm: Algorithm::TokenBucket { burst: 9 }, ..minutely(9) };
    for (name, limit) in [("window", minutely(9)), ("bucket", bucket)] {
        let store = store(&server.url(), PATIENT);
        let hit = || async {
            let charge = charge(name, limit.clone(), Hits::Add(1), NOON);
            Ok::<_, StoreError>(after(&store, &[charge], NOON).await?[0])
        };
        let mut client = server.client();
        assert_eq!(hit().await.expect("it counts"), 1);
        let before = info(&mut client, "stats", "total_connections_received");
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut client).expect("it obeys");
        let error = hit().await.expect_err("it is a replica").to_string();
        assert!(error.contains("read only replica"), "{error}");
        eventually_true(|| before < info(&mut client, "stats", "total_connections_received")).await;
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client).expect("it obeys");
        assert_eq!(eventually(hit).await, 2, "{name}");
    }
}

#[tokio::test]
async fn nothing_connects_any_more_once_the_store_is_gone() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    hit(&store, "a").await.unwrap();
    let mut client = server.client();
    assert_eq!(info(&mut client, "clients", "connected_clients"), 2);
    drop(store);
    eventually_true(|| info(&mut client, "clients", "connected_clients") == 1).await;
}

/// What shows that all keys are on one server is gone with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_emptied_again_and_again_is_used() {
    let server = RedisServer::start();
    let mut client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let empties = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                redis::cmd("FLUSHALL").exec(&mut client).unwrap();
            }
        })
    };
    for _ in 0..50 {
        hit(&store(&server.url(), PATIENT), "a").await.unwrap();
    }
    stop.store(true, Relaxed);
    empties.join().unwrap();
}
