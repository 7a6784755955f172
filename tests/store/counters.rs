//! The keys and values in Redis.

use redis::Commands;

use super::*;
use testkit::redis::RedisServer;

/// The key of the counter that [`hit`] charges.
fn key(name: &str) -> String {
    format!("domain_name_{name}_43200")
}

#[tokio::test]
async fn a_look_and_a_refund_of_nothing_create_no_key() {
    let server = RedisServer::start();
    let store = store(&server.url(), PATIENT);
    let mut charges = Vec::new();
    for hits in [Hits::Add(0), Hits::Refund(0), Hits::Refund(3)] {
        charges.push(charge("a", minutely(1), hits, NOON));
    }
    assert_eq!(after(&store, &charges, NOON).await.unwrap(), [0, 0, 0]);
    assert_eq!(redis::cmd("DBSIZE").query(&mut server.client()), Ok(0));
}

#[tokio::test]
async fn a_look_changes_nothing() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    client.set::<_, _, ()>(key("a"), "7").unwrap();
    let look = charge("a", minutely(5), Hits::Add(0), NOON);
    let outcome = outcomes(&store, &[look], NOON).await.unwrap()[0];
    assert_eq!((outcome.used, outcome.over), (7, true));
    assert_eq!(client.pttl(key("a")), Ok(-1));
}

/// The server's time in milliseconds since the epoch.
fn now(client: &mut redis::Connection) -> u64 {
    let (secs, micros): (u64, u64) = redis::cmd("TIME").query(client).expect("the server runs");
    secs * 1_000 + micros / 1_000
}

#[tokio::test]
async fn a_counter_expires_a_second_after_its_window() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    let moment = NOON.plus(Duration::from_millis(20_500));
    let begin = now(&mut client);
    after(&store, &[charge("a", minutely(10), Hits::Add(1), moment)], moment).await.unwrap();
    let ends: u64 = redis::cmd("PEXPIRETIME").arg(key("a")).query(&mut client).unwrap();
    assert!((begin + 40_500..=now(&mut client) + 40_500).contains(&ends));
}

#[tokio::test]
async fn a_missing_or_too_short_expiry_is_corrected() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    for (hits, expected) in [(Hits::Add(1), 8), (Hits::Refund(1), 6)] {
        for heal in ["PERSIST", "EXPIRE"] {
            client.set::<_, _, ()>(key("a"), "7").unwrap();
            if heal == "EXPIRE" && matches!(hits, Hits::Add(_)) {
                client.expire::<_, ()>(key("a"), 50).unwrap();
            }
            let charge = charge("a", minutely(10), hits, NOON);
            assert_eq!(after(&store, &[charge], NOON).await.unwrap(), [expected]);
            let lifetime: i64 = client.pttl(key("a")).unwrap();
            assert!((51_000..=61_000).contains(&lifetime), "{lifetime}");
        }
    }
}

#[tokio::test]
async fn a_counter_shares_with_a_client_that_only_increments() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    for expected in [1, 3, 5] {
        assert_eq!(hit(&store, "a").await.unwrap(), expected);
        assert_eq!(client.incr(key("a"), 1), Ok(expected + 1));
        client.expire::<_, ()>(key("a"), 60).unwrap();
    }
}

#[tokio::test]
async fn a_counter_out_of_range_is_corrected() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    for (value, hits, expected) in [
        (i64::MAX, Hits::Add(1), Hits::MAX),
        (i64::MAX, Hits::Add(0), Hits::MAX),
        (i64::MAX, Hits::Refund(1), Hits::MAX - 1),
        (1 << 53, Hits::Add(1), Hits::MAX),
        (-5, Hits::Add(3), 3),
        (-5, Hits::Add(0), 0),
        (-5, Hits::Refund(3), 0),
        (i64::MIN, Hits::Add(Hits::MAX), Hits::MAX),
    ] {
        client.set::<_, _, ()>(key("a"), value).unwrap();
        let charge = charge("a", minutely(10), hits, NOON);
        let found = after(&store, &[charge], NOON).await.unwrap();
        assert_eq!(found, [expected], "{value} {hits:?}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_a_counter_is_ignored_and_overwritten() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    for hits in [Hits::Add(0), Hits::Refund(1), Hits::Add(3)] {
        client.set::<_, _, ()>(key("text"), "1e3").unwrap();
        client.rpush::<_, _, ()>(key("list"), "1").unwrap();
        let charges =
            [charge("text", minutely(10), hits, NOON), charge("list", minutely(10), hits, NOON)];
        let expected = hits.requested();
        assert_eq!(after(&store, &charges, NOON).await.unwrap(), [expected; 2], "{hits:?}");
    }
    // Now they are ordinary counters with an expiry.
    for name in ["text", "list"] {
        assert_eq!(hit(&store, name).await.unwrap(), 4);
        assert!(client.pttl::<_, i64>(key(name)).unwrap() > 0);
    }
}

#[tokio::test]
async fn out_of_memory_is_reported() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut client).unwrap();
    let error = hit(&store, "a").await.unwrap_err().to_string();
    assert!(error.contains("OOM"), "{error}");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut client).unwrap();
    assert_eq!(hit(&store, "a").await.unwrap(), 1);
}

#[tokio::test]
async fn a_unix_socket_and_a_database_lead_to_the_same_server() {
    let server = RedisServer::start();
    let by_socket = store(&server.unix_socket().display().to_string(), PATIENT);
    let by_port = store(&server.url(), PATIENT);
    let elsewhere = store(&format!("{}/3", server.url()), PATIENT);
    assert_eq!(hit(&by_socket, "a").await.unwrap(), 1);
    assert_eq!(hit(&by_port, "a").await.unwrap(), 2);
    assert_eq!(hit(&elsewhere, "a").await.unwrap(), 1);
}
