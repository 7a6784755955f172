//! Servers that are down, do not answer, or refuse commands.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures_util::future::{join_all, poll_immediate};

use super::*;
use testkit::{redis::RedisServer, redis_node::info_field, wait::eventually_async};

const SHORT_TIMEOUT: Duration = Duration::from_millis(100);

/// Repeats a hit until it succeeds, and returns the value of the counter.
async fn hit_eventually(store: &Redis, name: &str) -> u64 {
    eventually_async("a connection", async || hit(store, name).await).await
}

#[tokio::test]
async fn a_server_that_starts_later_is_used() {
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
    assert_eq!(hit_eventually(&store, "a").await, 1);
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_server_is_used_again_after_a_restart() {
    let mut server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    for _ in 0..3 {
        assert_eq!(hit_eventually(&store, "a").await, 1);
        server.stop();
        assert!(matches!(hit(&store, "a").await, Err(StoreError::Failed(_))));
        server.restart();
    }
}

#[tokio::test]
async fn an_idle_store_reconnects_after_a_restart() {
    let mut server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
    server.stop();
    server.restart();
    let mut client = server.client();
    // The store checks idle connections: one of these is that of the test.
    eventually_async("a new connection of the store", async || {
        info(&mut client, "clients", "connected_clients") == 2
    })
    .await;
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_is_closed_is_replaced() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    let mut client = server.client();
    for expected in 1..=3 {
        assert_eq!(hit_eventually(&store, "a").await, expected);
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec(&mut client).unwrap();
    }
}

#[tokio::test]
async fn calls_to_a_silent_server_time_out_until_it_answers_again() {
    let server = RedisServer::start();
    let store = store(&server.url(), SHORT_TIMEOUT);
    hit_eventually(&store, "a").await;
    server.suspend();
    // First calls time out, and then the connection is closed and fails calls at once.
    let (mut calls, mut timeouts) = (0, 0);
    eventually_async("the connection to be closed", async || {
        let error = hit(&store, "b").await.unwrap_err();
        calls += 1;
        let is_timeout = matches!(error, StoreError::Timeout(SHORT_TIMEOUT));
        timeouts += u32::from(is_timeout);
        !is_timeout
    })
    .await;
    assert!(timeouts > 0);
    server.resume();
    assert_eq!(hit_eventually(&store, "a").await, 2);
    // Calls that timed out may have been counted, but none of them twice.
    let look = charge("b", minutely(10), Hits::Add(0), NOON);
    assert!(after(&store, &[look], NOON).await.unwrap()[0] <= calls);
}

#[tokio::test]
async fn a_cancelled_call_does_not_affect_others() {
    let server = RedisServer::start();
    let store = store(&server.url(), Duration::from_secs(2));
    assert_eq!(hit_eventually(&store, "a").await, 1);
    let mut cancelled = Box::pin(hit(&store, "a"));
    assert!(poll_immediate(&mut cancelled).await.is_none());
    drop(cancelled);
    // A connection is closed if a reply is missing for longer than this.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(hit(&store, "b"));
    }
    let mut values = Vec::new();
    for value in join_all(calls).await {
        values.push(value.expect("the server runs"));
    }
    values.sort_unstable();
    assert_eq!(values, (1..=50).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_missing_or_wrong_password_is_reported_until_it_is_right() {
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
    assert_eq!(hit_eventually(&mistaken, "a").await, 2);
}

/// A numeric field of `INFO`.
fn info(client: &mut redis::Connection, section: &str, field: &str) -> u32 {
    let info: String = redis::cmd("INFO").arg(section).query(client).expect("the server runs");
    info_field(&info, field)
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_not_used_until_it_is_a_primary_again() {
    check_replica_is_not_used(&RedisServer::start()).await;
}

/// Tests each of the scripts: servers report errors of commands inside of scripts in
/// different ways.
pub(crate) async fn check_replica_is_not_used(server: &RedisServer) {
    let bucket = Limit { algorithm: Algorithm::TokenBucket { burst: 9 }, ..minutely(9) };
    for (name, limit) in [("window", minutely(9)), ("bucket", bucket)] {
        let store = store(&server.url(), PATIENT);
        let hit = async || {
            let charge = charge(name, limit.clone(), Hits::Add(1), NOON);
            Ok::<_, StoreError>(after(&store, &[charge], NOON).await?[0])
        };
        let mut client = server.client();
        assert_eq!(hit().await.expect("it counts"), 1);
        let before = info(&mut client, "stats", "total_connections_received");
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut client).expect("it obeys");
        let error = hit().await.expect_err("it is a replica").to_string();
        assert!(error.contains("read only replica"), "{error}");
        eventually_async("a change of the connections", async || {
            before < info(&mut client, "stats", "total_connections_received")
        })
        .await;
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client).expect("it obeys");
        assert_eq!(eventually_async("a connection", hit).await, 2, "{name}");
    }
}

#[tokio::test]
async fn connections_are_closed_when_the_store_is_dropped() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    hit(&store, "a").await.unwrap();
    let mut client = server.client();
    assert_eq!(info(&mut client, "clients", "connected_clients"), 2);
    drop(store);
    eventually_async("a change of the connections", async || {
        info(&mut client, "clients", "connected_clients") == 1
    })
    .await;
}

/// The key with which the store detects proxies is removed as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_used_although_all_keys_are_removed_repeatedly() {
    let server = RedisServer::start();
    let mut client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let flushing = {
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
    flushing.join().unwrap();
}
