//! Counters in Redis, shared by every instance that uses the same server.
//!
//! Calls that come at the same time share a round trip, and one call is in one
//! script, so nobody else is served between two of its charges. There are two
//! scripts: one for calls that only count in fixed windows, and one for all
//! others. What is kept is never without an expiry, which may be put off at
//! [random](Jitter):
//!
//! | what              | as                        | until, and a [second](GRACE) more    |
//! |-------------------|---------------------------|--------------------------------------|
//! | fixed window      | an integer, as of INCRBY  | its end                              |
//! | sliding window    | `start:before:current`    | the end of the last that it counts in |
//! | bucket            | `tick:level:cost`         | it is empty                          |
//! | log, calls at once | `end:hits,` for each end | the last end                         |
//! | ban               | its end                   | its end                              |
//!
//! A call is sent once. The only exception is a server that does not know the
//! script, after a restart for example: it has counted nothing, and is sent the
//! script along with the call.

use std::fmt;

use redis::{RedisError, Script, Value};

use self::{
    cluster::Cluster,
    node::{Node, NodeError},
    target::Target,
    traffic::Traffic,
};
use crate::{
    limit::Hits,
    store::{Charge, GRACE, Outcomes, PoolUsage, Pools, Store, StoreError},
    time::Timestamp,
};

mod apart;
mod batch;
mod breaker;
mod charge;
mod cluster;
mod complaints;
mod connection;
mod fixed_window;
mod jitter;
mod node;
mod per_second;
mod probe;
mod pulse;
mod sentinels;
mod settings;
mod slots;
mod sums;
mod target;
mod tls;
mod traffic;
mod views;

pub use self::jitter::Jitter;
pub use self::per_second::Split;
pub use self::settings::{Login, RedisAddress, RedisServers, RedisSettings, RedisType};
pub use self::tls::RedisTls;

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    servers: Servers,
    traffic: Traffic,
    /// What shows that a server can decide.
    probe: String,
}

#[derive(Debug)]
enum Servers {
    One(Node),
    Cluster(Cluster),
}

impl Redis {
    /// A store on the servers that `settings` describe. They need not be running:
    /// tasks connect to them, now and whenever a connection is lost, until the
    /// store is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(settings: &RedisSettings) -> Self {
        let traffic = Traffic::new();
        let probe = probe::key(&settings.key_prefix, 0);
        let target = match &settings.servers {
            RedisServers::Cluster(seeds) => {
                let servers = Servers::Cluster(Cluster::new(seeds, settings, traffic.clone()));
                return Self { servers, traffic, probe };
            }
            RedisServers::Single(address) => Target::fixed(address.clone(), settings),
            RedisServers::Sentinel { master, sentinels } => {
                Target::guarded_by(master.clone(), sentinels, settings)
            }
        };
        let servers = Servers::One(Node::new(target, settings, false, &traffic));
        Self { servers, traffic, probe }
    }

    /// How the connections are doing.
    fn usage(&self) -> PoolUsage {
        let (waiting, silent) = match &self.servers {
            Servers::One(node) => (node.waiting(), node.is_silent().into()),
            Servers::Cluster(cluster) => cluster.waiting_and_silent(),
        };
        PoolUsage { waiting, silent, ..self.traffic.usage() }
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        match &self.servers {
            Servers::One(node) => Ok(node.charge(charges, now, false).await?),
            Servers::Cluster(cluster) => cluster.charge(charges, now).await,
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        match &self.servers {
            Servers::One(node) => Ok(node.decides(&self.probe).await?),
            Servers::Cluster(cluster) => cluster.ping().await,
        }
    }

    async fn died(&self) {
        match &self.servers {
            Servers::One(node) => node.died().await,
            Servers::Cluster(cluster) => cluster.died().await,
        }
    }

    fn pools(&self) -> Pools {
        Pools { main: Some(self.usage()), per_second: None }
    }
}

/// A script.
struct Twin {
    source: &'static str,
    script: Script,
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Twin").field(&self.script.get_hash()).finish()
    }
}

impl Twin {
    fn new(source: &'static str) -> Self {
        Self { source, script: Script::new(source) }
    }

    /// How a command begins that runs it on a server that knows it.
    fn by_name(&self) -> [&str; 2] {
        ["EVALSHA", self.script.get_hash()]
    }

    /// How a command begins that runs it on any server.
    fn whole(&self) -> [&str; 2] {
        ["EVAL", self.source]
    }
}

/// The list that `answer` is: one element for each of so many charges.
fn elements(answer: Value, expected: usize) -> Result<Vec<Value>, NodeError> {
    let elements = match answer {
        Value::Array(elements) => elements,
        Value::ServerError(error) => return Err(NodeError::from(&RedisError::from(error))),
        _ => return Err(StoreError::Failed("the answer is not a list of counters".into()).into()),
    };
    if elements.len() != expected {
        let found = elements.len();
        let error = format!("the answer has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error).into());
    }
    Ok(elements)
}

/// `hits` as the scripts take them: those given back below 0.
fn change(charge: &Charge) -> i64 {
    match charge.hits.capped() {
        Hits::Add(hits) => hits.cast_signed(),
        Hits::Refund(hits) => -hits.cast_signed(),
    }
}

/// How many milliseconds a counter of a fixed window is kept from now on.
fn kept(charge: &Charge, now: Timestamp) -> u64 {
    let micros = (charge.counter.span.end.since(now) + GRACE).as_micros();
    u64::try_from(micros.div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The number that `value` is, if a script may have meant it.
fn number(value: &Value) -> Option<u64> {
    match *value {
        Value::Int(it) => u64::try_from(it).ok().filter(|it| *it <= Hits::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
