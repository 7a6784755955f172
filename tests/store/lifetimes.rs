//! The expiry of keys, and the servers that have them.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use tollgate::{
    counter::{KeyFormat, KeyStyle},
    engine::Engine,
    time::{Clock, ManualClock, SystemClock},
};

use super::*;
use crate::deployments::{
    Deployment, Servers, count_passed, descriptor, engine, request_for, request_with, service_store,
};

/// The remaining life of each key, in milliseconds.
fn lifetimes(client: &mut ::redis::Connection) -> HashMap<String, i64> {
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query(client).expect("it runs");
    let mut lifetimes = HashMap::new();
    for key in keys {
        let ttl = ::redis::cmd("PTTL").arg(&key).query(client).expect("the server runs");
        lifetimes.insert(key, ttl);
    }
    lifetimes
}

/// Whether a key of the limit `key` lives long on the server for limits per second, whose
/// data need not survive a restart.
async fn is_kept_on_per_second_server(key: &str) -> bool {
    let text = "
domain: shop
descriptors:
- key: job
  rate_limit: {requests_per_unit: 2, algorithm: concurrency, lease: 24h}
- key: pen
  rate_limit: {unit: second, requests_per_unit: 1, penalty: 10m}
- key: second
  rate_limit: {unit: second, requests_per_unit: 1}
";
    let servers = Servers::start(Deployment::PerSecond);
    let clock = Arc::new(ManualClock::new(NOON));
    let engine = engine(text, service_store(servers.store(PATIENT).await, 0), &clock);
    count_passed(&engine, &request_for(&[key]), 3).await;
    let mut clients = servers.clients();
    let (main, second) = (lifetimes(&mut clients[0]), lifetimes(&mut clients[1]));
    assert!(!main.is_empty() || !second.is_empty(), "nothing is kept of {key}");
    second.values().max() > Some(&5_000)
}

#[tokio::test]
async fn calls_in_flight_are_not_on_the_server_for_limits_per_second() {
    assert!(!is_kept_on_per_second_server("second").await);
    assert!(!is_kept_on_per_second_server("job").await);
}

#[tokio::test]
async fn bans_are_not_on_the_server_for_limits_per_second() {
    assert!(!is_kept_on_per_second_server("pen").await);
}

/// With the keys of the reference service, a window of a second and one of a minute share
/// a counter if they begin at the same moment.
#[tokio::test]
async fn a_refund_does_not_shorten_the_life_of_a_counter() {
    let text = "
domain: shop
descriptors:
- key: user
  rate_limit: {unit: minute, requests_per_unit: 5}
- key: gentle
  rate_limit: {unit: minute, requests_per_unit: 5, count_denied: false}
";
    let servers = Servers::start(Deployment::One);
    let minute = SystemClock.now().as_secs() / 60 * 60;
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(minute)));
    let store = service_store(servers.store(PATIENT).await, 0);
    let keys = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let engine = Engine { keys, ..engine(text, store, &clock) };
    for key in ["user", "gentle"] {
        assert_eq!(count_passed(&engine, &request_for(&[key]), 6).await, 5);
        let window = Window::times(Unit::Second, NonZeroU32::MIN).expect("it is short");
        let mut refund = descriptor(key, "ann", Hits::Refund(1));
        refund.limit = Some(Limit::fixed(5, window));
        count_passed(&engine, &request_with(vec![refund]), 1).await;
        let mut found = 0;
        for (name, ttl) in lifetimes(&mut servers.clients()[0]) {
            if name.contains(key) {
                found += 1;
                assert!(55_000 < ttl, "{name} lives {ttl} ms more");
            }
        }
        assert_eq!(found, 1, "{key}");
    }
}
