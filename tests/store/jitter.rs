//! For how long counters are kept if that is left to chance.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use ::redis::cmd;

use super::*;
use testkit::redis::RedisServer;

const BOUND: u32 = 50;
/// How many counters of each kind there are.
const MANY: usize = 40;

/// Limits of every kind, and one with a penalty.
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

/// When each key expires, in milliseconds since the epoch.
fn expiries(server: &RedisServer) -> HashMap<Vec<u8>, u64> {
    let mut client = server.client();
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut client).expect("the server runs");
    let expiry = |key: Vec<u8>| {
        let ends = cmd("PEXPIRETIME").arg(&key).query(&mut client).expect("the server runs");
        (key, ends)
    };
    keys.into_iter().map(expiry).collect()
}

/// Charges every counter, alone if `alone`, else all in one call.
async fn charge_all(store: &Redis, limit: &Limit, alone: bool) {
    let name = |it: usize| format!("{}{}{it}", limit.algorithm.name(), limit.penalty.as_secs());
    let charges: Vec<_> =
        (0..MANY).map(|it| charge(&name(it), limit.clone(), Hits::Add(1), NOON)).collect();
    for call in charges.chunks(if alone { 1 } else { MANY }) {
        outcomes(store, call, NOON).await.expect("the server runs");
    }
}

#[tokio::test]
async fn each_counter_is_kept_for_another_number_of_seconds_below_the_bound_longer() {
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
                // The second of the two is as much later as the calls took.
                assert!(longer % 1_000 <= elapsed, "{limit}: {longer} ms longer");
                assert!(longer < u64::from(BOUND) * 1_000 + elapsed, "{limit}: {longer} ms longer");
                seen.insert(longer / 1_000);
            }
            assert!(seen.len() > 10, "{limit}: {seen:?}");
        }
    }
}

/// Else all counters that are charged often would be kept for as long as chance
/// ever said.
#[tokio::test]
async fn the_expiry_of_a_window_is_chosen_once() {
    for limit in &limits()[..2] {
        let server = RedisServer::start();
        let store = jittering(&server.url(), BOUND);
        charge_all(&store, limit, false).await;
        let first = expiries(&server);
        // Those for which chance chose nothing may be lengthened: they would
        // end with their window.
        let sure = |it: &u64| first.values().min().is_some_and(|least| least + 1_000 <= *it);
        for _ in 0..3 {
            charge_all(&store, limit, true).await;
        }
        let last = expiries(&server);
        let kept: Vec<_> = first.iter().filter(|(_, until)| sure(until)).collect();
        assert!(kept.len() > MANY / 2);
        // What is written anew is given the rest of its time, to the millisecond.
        let moved = kept.iter().map(|(key, until)| last[*key].abs_diff(**until));
        assert!(moved.max() < Some(500), "{limit}");
    }
}

#[tokio::test]
async fn a_lifetime_that_is_too_short_is_healed() {
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
