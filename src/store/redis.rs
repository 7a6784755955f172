//! Counters in Redis, shared by every instance that uses the same server.
//!
//! One call is in one script, so it is one round trip, and nobody else is served
//! between two of its charges. There are two scripts: one for calls that only
//! count in fixed windows, which makes those that wait at the same time together,
//! and one for all others. What is kept is never without an expiry:
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

use redis::{Cmd, ErrorKind, Script, ServerErrorKind, Value};

use self::{
    connection::{Link, Target},
    node::Node,
};
use crate::{
    limit::Hits,
    store::{Charge, GRACE, Outcomes, Store, StoreError},
    time::Timestamp,
};

mod batch;
mod charge;
mod connection;
mod fixed_window;
mod node;
mod settings;

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
        Ok(Self { node: Node::new(target, settings.timeout) })
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

    /// Runs it, and says what the server answered. `call` is given what the
    /// command begins with.
    async fn run(&self, link: &Link, call: impl Fn([&str; 2]) -> Cmd) -> Result<Value, StoreError> {
        let answer = match link.send(&call(["EVALSHA", self.script.get_hash()])).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.send(&call(["EVAL", self.source])).await
            }
            answer => answer,
        };
        answer.map_err(|error| StoreError::Failed(error.to_string()))
    }
}

/// The list that `answer` is: one element for each of so many charges.
fn elements(answer: Value, expected: usize) -> Result<Vec<Value>, StoreError> {
    let Value::Array(elements) = answer else {
        return Err(StoreError::Failed("the answer is not a list of counters".into()));
    };
    if elements.len() != expected {
        let found = elements.len();
        let error = format!("the answer has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error));
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
