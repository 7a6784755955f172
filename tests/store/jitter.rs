//! The random part of the expiry of counters.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use ::redis::cmd;

use super::*;
use testkit::redis::RedisServer;

const MAX_SECONDS: u32 = 50;
/// The number of counters of each kind.
const COUNTERS: usize = 40;

/// Limits of all kinds, and one with a penalty.
fn limits() -> Vec<Limit> {
    let algorithms = [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 9 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(90) },
    ];
    let mut limits = Vec::new();
    for algorithm in algorithms {
        limits.push(Limit { algorithm, ..minutely(5) });
    }
    limits.push(Limit { penalty: Duration::from_secs(100), ..minutely(0) });
    limits
}

/// The expiry of each key in milliseconds since the epoch.
fn expiries(server: &RedisServer) -> HashMap<Vec<u8>, u64> {
    let mut client = server.client();
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut client).expect("the server runs");
    let mut expiries = HashMap::new();
    for key in keys {
        let expiry = cmd("PEXPIRETIME").arg(&key).query(&mut client).expect("the server runs");
        expiries.insert(key, expiry);
    }
    expiries
}

/// Charges all counters: in a call each if `alone`, and in one call otherwise.
async fn charge_all(store: &Redis, limit: &Limit, alone: bool) {
    let prefix = format!("{}{}", limit.algorithm.name(), limit.penalty.as_secs());
    let mut charges = Vec::new();
    for number in 0..COUNTERS {
        let name = format!("{prefix}{number}");
        charges.push(charge(&name, limit.clone(), Hits::Add(1), NOON));
    }
    for call in charges.chunks(if alone { 1 } else { COUNTERS }) {
        outcomes(store, call, NOON).await.expect("the server runs");
    }
}

#[tokio::test]
async fn each_expiry_is_extended_by_random_seconds_below_the_bound() {
    for limit in limits() {
        for alone in [true, false] {
            let (exact_server, jitter_server) = (RedisServer::start(), RedisServer::start());
            let begin = Instant::now();
            charge_all(&jittering(&exact_server.url(), 0), &limit, alone).await;
            charge_all(&jittering(&jitter_server.url(), MAX_SECONDS), &limit, alone).await;
            let elapsed = u64::try_from(begin.elapsed().as_millis()).expect("it is short") + 1;
            let (exact, extended) = (expiries(&exact_server), expiries(&jitter_server));
            assert!(exact.len() >= COUNTERS && exact.len() == extended.len(), "{limit}");
            let mut seen = BTreeSet::new();
            for (key, until) in &exact {
                let longer = extended[key].checked_sub(*until).expect("it is not kept for less");
                // The calls to the second server were later.
                assert!(longer % 1_000 <= elapsed, "{limit}: {longer} ms longer");
                assert!(
                    longer < u64::from(MAX_SECONDS) * 1_000 + elapsed,
                    "{limit}: {longer} ms longer"
                );
                seen.insert(longer / 1_000);
            }
            assert!(seen.len() > 10, "{limit}: {seen:?}");
        }
    }
}

/// Otherwise each charge could lengthen the expiry, and frequent counters would reach the
/// maximum.
#[tokio::test]
async fn the_expiry_of_a_window_is_set_once() {
    for limit in &limits()[..2] {
        let server = RedisServer::start();
        let store = jittering(&server.url(), MAX_SECONDS);
        charge_all(&store, limit, false).await;
        let first = expiries(&server);
        for _ in 0..3 {
            charge_all(&store, limit, true).await;
        }
        let last = expiries(&server);
        // Counters without additional time may be lengthened: they would end with their
        // window.
        let earliest = first.values().min().expect("there are counters");
        let mut kept = 0;
        for (key, until) in &first {
            if earliest + 1_000 <= *until {
                kept += 1;
                // A rewritten value keeps its expiry, up to milliseconds.
                assert!(last[key].abs_diff(*until) < 500, "{limit}");
            }
        }
        assert!(kept > COUNTERS / 2);
    }
}

#[tokio::test]
async fn a_too_short_expiry_is_corrected() {
    let server = RedisServer::start();
    let store = jittering(&server.url(), MAX_SECONDS);
    for limit in &limits()[..2] {
        charge_all(&store, limit, false).await;
        for key in expiries(&server).into_keys() {
            cmd("EXPIRE").arg(&key).arg(5).exec(&mut server.client()).expect("the server runs");
        }
        charge_all(&store, limit, false).await;
        let longest = 61 + i64::from(MAX_SECONDS);
        for key in expiries(&server).into_keys() {
            let ttl: i64 =
                cmd("TTL").arg(&key).query(&mut server.client()).expect("the server runs");
            assert!((40..longest).contains(&ttl), "{ttl}");
        }
    }
}
