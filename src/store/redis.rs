//! Counters in Redis, shared by every instance that uses the same server.
//!
//! Calls that come at the same time share a round trip, and one call is in one
//! script, so nobody else is served between two of its charges. There are two
//! scripts: one for calls that only count in fixed windows, and one for all
//! others. What is kept is never without an expiry:
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
    connection::Target,
    node::{Node, NodeError},
};
use crate::{
    limit::Hits,
    store::{Charge, GRACE, Outcomes, Store, StoreError},
    time::Timestamp,
};

mod batch;
mod breaker;
mod charge;
mod connection;
mod fixed_window;
mod node;
mod settings;
mod sums;

pub use self::settings::{RedisAddress, RedisSettings};

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    node: Node,
}

impl Redis {
    /// A store on the server that `settings` describe. It need not be running:
    /// a task connects to it, now and whenever the connection is lost, until
    /// the store is dropped.
    ///
    /// # Errors
    ///
    /// If the settings cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let target = Target::new(settings)?;
        Ok(Self { node: Node::new(target, settings.timeout, false) })
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        Ok(self.node.charge(charges, now, false).await?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.node.ping().await
    }

    async fn died(&self) {
        self.node.died().await;
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
