//! The expiry of keys, and the servers that have them.

use std::{num::NonZeroU32, sync::Arc};

use tollgate::{
    counter::{KeyFormat, KeyStyle},
    engine::Engine,
    time::{Clock, ManualClock, SystemClock},
};

use super::*;
use crate::places::{Place, Servers, ask, asking, counters, descriptor, engine, passed};

/// The remaining life of each key, in milliseconds.
fn lives(client: &mut ::redis::Connection) -> Vec<(String, i64)> {
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query(client).expect("it runs");
    let live = |key: String| {
        let left = ::redis::cmd("PTTL").arg(&key).query(client).expect("it runs");
        (key, left)
    };
    keys.into_iter().map(live).collect()
}

/// Whether a key of the limit `key` lives long on the server for limits per second, whose
/// data need not survive a restart.
async fn lasts_there(key: &str) -> bool {
    let text = "
domain: game
descriptors:
- key: job
  rate_limit: {requests_per_unit: 2, algorithm: concurrency, lease: 24h}
- key: pen
  rate_limit: {unit: second, requests_per_unit: 1, penalty: 10m}
- key: second
  rate_limit: {unit: second, requests_per_unit: 1}
";
    let servers = Servers::start(Place::PerSecond);
    let clock = Arc::new(ManualClock::new(NOON));
    let engine = engine(text, counters(servers.store(PATIENT).await, 0), &clock);
    passed(&engine, &ask(&[key]), 3).await;
    let mut clients = servers.clients();
    let (main, second) = (lives(&mut clients[0]), lives(&mut clients[1]));
    assert!(!main.is_empty() || !second.is_empty(), "nothing is kept of {key}");
    second.iter().any(|it| 5_000 < it.1)
}

#[tokio::test]
async fn calls_in_flight_are_not_on_the_server_for_limits_per_second() {
    assert!(!lasts_there("second").await);
    assert!(!lasts_there("job").await);
}

#[tokio::test]
async fn bans_are_not_on_the_server_for_limits_per_second() {
    assert!(!lasts_there("pen").await);
}

/// With the keys of the reference service, a window of a second and one of a minute share
/// a counter if they begin at the same moment.
#[tokio::test]
async fn a_refund_does_not_shorten_the_life_of_a_counter() {
    let text = "
domain: game
descriptors:
- key: user
  rate_limit: {unit: minute, requests_per_unit: 5}
- key: gentle
  rate_limit: {unit: minute, requests_per_unit: 5, count_denied: false}
";
    let servers = Servers::start(Place::One);
    let minute = SystemClock.now().as_secs() / 60 * 60;
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(minute)));
    let store = counters(servers.store(PATIENT).await, 0);
    let keys = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let engine = Engine { keys, ..engine(text, store, &clock) };
    for key in ["user", "gentle"] {
        assert_eq!(passed(&engine, &ask(&[key]), 6).await, 5);
        let mut back = descriptor(key, "ann", Hits::Refund(1));
        back.limit = Some(Limit::fixed(
            5,
            Window::times(Unit::Second, NonZeroU32::MIN).expect("it is short"),
        ));
        passed(&engine, &asking(vec![back]), 1).await;
        let mut client = servers.clients().remove(0);
        let lives = lives(&mut client);
        let (name, left) = lives.iter().find(|it| it.0.contains(key)).expect("it is there");
        assert!(55_000 < *left, "{name} lives {left} ms more");
    }
}
