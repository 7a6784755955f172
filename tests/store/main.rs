//! The stores, against each other and against a real Redis.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

use std::time::Duration;

use tollgate::{
    counter::{KeyFormat, KeyPart, KeyStyle},
    limit::{Algorithm, Hits, Limit, Outcome, Unit, Window},
    store::{
        Charge, Consume, EXPIRY_SLACK, Enforced, OnTimeout, Store, StoreError,
        redis::{Jitter, Redis, RedisSettings},
    },
    time::Timestamp,
};

mod batches;
mod clocks;
mod cluster;
mod concurrency;
mod concurrent_requests;
mod counter_operations;
mod counters;
mod cross_server_refusals;
mod deployments;
mod differential;
mod faults;
mod jitter;
mod lifetimes;
mod load;
mod load_cost;
mod model_store;
mod prefetch;
mod random_calls;
mod random_operations;
mod random_tests;
mod redis_cost;
mod resharding;
mod sentinels;
mod slow_servers;
mod split;
mod states;
mod tls;
mod versions;

const NOON: Timestamp = Timestamp::from_secs(43_200);

/// Only calls to a server that does not answer take this long.
const PATIENT: Duration = Duration::from_secs(10);

fn store(url: &str, timeout: Duration) -> Redis {
    let settings = RedisSettings::parse(url, None, timeout).expect("the URL is valid");
    Redis::new(&settings)
}

fn minutely(requests: u32) -> Limit {
    Limit::fixed(requests, Window::new(Unit::Minute))
}

/// A store that extends each expiry by a random number of seconds below `bound`.
fn jittering(url: &str, bound: u32) -> Redis {
    let settings = RedisSettings::parse(url, None, PATIENT).expect("the URL is valid");
    Redis::new(&RedisSettings { jitter: Jitter::below(bound), ..settings })
}

/// A charge to the counter `name`, with the keys of Envoy's reference service.
fn charge(name: &str, limit: Limit, hits: Hits, now: Timestamp) -> Charge {
    let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
    let format = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let counter = format.counter(b"domain", [part].into_iter(), &limit, now);
    let consume = Consume::Independent;
    Charge {
        counter,
        limit,
        hits,
        consume,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

/// The outcomes of `charges`, or the first error.
async fn outcomes(
    store: &impl Store,
    charges: &[Charge],
    now: Timestamp,
) -> Result<Vec<Outcome>, StoreError> {
    store.charge(charges, now, None).await.into_iter().collect()
}

/// The values of the counters after `charges`.
async fn after(store: &Redis, charges: &[Charge], now: Timestamp) -> Result<Vec<u64>, StoreError> {
    let mut values = Vec::new();
    for outcome in outcomes(store, charges, now).await? {
        values.push(outcome.used);
    }
    Ok(values)
}

/// Hits the counter `name` once, at noon.
async fn hit(store: &Redis, name: &str) -> Result<u64, StoreError> {
    let charge = charge(name, minutely(10), Hits::Add(1), NOON);
    Ok(after(store, &[charge], NOON).await?[0])
}
