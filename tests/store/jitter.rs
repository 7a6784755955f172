//! The random part of the expiry of counters.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use ::redis::cmd;

use super::*;
use testkit::redis::RedisServer;

const BOUND: u32 = 50;
/// The number of counters of each kind.
const MANY: usize = 40;

/// Limits of all kinds, and one with a penalty.
fn limits() -> Vec<Limit> {
    let algorithms = [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 9 },
        Algorithm::Concurrency { lease: Duration::from_secs(90) },
    ];
    let mut limits: Vec<_> = algorithms.map(|algorithm| Limit { algorithm, ..minutely(5) }).into();
    limits.push(Limit { penalty: Duration::from_secs(100), ..minutely(0) });
    limits
}

/// The expiry of each key in milliseconds since the epoch.
fn expiries(server: &RedisServer) -> HashMap<Vec<u8>, u64> {
    let mut client = server.client();
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut client).expect("the server runs");
    let expiry = |key: Vec<u8>| {
        let ends = cmd("PEXPIRETIME").arg(&key).query(&mut client).expect("the server runs");
        (key, ends)
    };
    keys.into_iter().map(expiry).collect()
}

/// Charges all counters: in a call each if `alone`, and in one call otherwise.
async fn charge_all(store: &Redis, limit: &Limit, alone: bool) {
    let name = |it: usize| format!("{}{}{it}", limit.algorithm.name(), limit.penalty.as_secs());
    let charges: Vec<_> =
        (0..MANY).map(|it| charge(&name(it), limit.clone(), Hits::Add(1), NOON)).collect();
    for call in charges.chunks(if alone { 1 } else { MANY }) {
        outcomes(store, call, NOON).await.expect("the server runs");
    }
}

#[tokio::test]
async fn each_expiry_is_extended_by_random_seconds_below_the_bound() {
    for limit in limits() {
        for alone in [true, false] {
            let servers = [(); 2].map(|()| RedisServer::start());
            let [sure, spread] =
                [(0, 0), (1, BOUND)].map(|(it, bound)| jittering(&servers[it].url(), bound));
            let begin = Instant::now();
            charge_all(&sure, &limit, alone).await;
            charge_all(&spread, &limit, alone).await;
            let elapsed = u64::try_from(begin.elapsed().as_millis()).expect("it is short") + 1;
            let [sure, spread] = servers.each_ref().map(expiries);
            assert!(sure.len() >= MANY && sure.len() == spread.len(), "{limit}");
            let mut seen = BTreeSet::new();
            for (key, until) in &sure {
                let longer = spread[key].checked_sub(*until).expect("it is not kept for less");
                // The calls to the second server were later.
                assert!(longer % 1_000 <= elapsed, "{limit}: {longer} ms longer");
                assert!(longer < u64::from(BOUND) * 1_000 + elapsed, "{limit}: {longer} ms longer");
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
        let store = jittering(&server.url(), BOUND);
        charge_all(&store, limit, false).await;
        let first = expiries(&server);
        // Counters without additional time may be lengthened: they would end with their
        // window.
        let sure = |it: &u64| first.values().min().is_some_and(|least| least + 1_000 <= *it);
        for _ in 0..3 {
            charge_all(&store, limit, true).await;
        }
        let last = expiries(&server);
        let kept: Vec<_> = first.iter().filter(|(_, until)| sure(until)).collect();
        assert!(kept.len() > MANY / 2);
        // A rewritten value keeps its expiry, up to milliseconds.
        let moved = kept.iter().map(|(key, until)| last[*key].abs_diff(**until));
        assert!(moved.max() < Some(500), "{limit}");
    }
}

#[tokio::test]
async fn a_too_short_expiry_is_corrected() {
    let server = RedisServer::start();
    let store = jittering(&server.url(), BOUND);
    for limit in &limits()[..2] {
        charge_all(&store, limit, false).await;
        for key in expiries(&server).into_keys() {
            cmd("EXPIRE").arg(&key).arg(5).exec(&mut server.client()).expect("the server runs");
        }
        charge_all(&store, limit, false).await;
        let lifetimes: Vec<i64> = expiries(&server)
            .into_keys()
            .map(|key| cmd("TTL").arg(&key).query(&mut server.client()).expect("it runs"))
            .collect();
        let longest = 61 + i64::from(BOUND);
        assert!(lifetimes.iter().all(|it| (40..longest).contains(it)), "{lifetimes:?}");
    }
}
