//! Counters in Redis, shared by every instance that uses the same server.
//!
//! One call is one script, so it is one round trip, and nobody else is served
//! between two of its charges. There are two scripts: one for calls that only
//! count in fixed windows, and one for all others. What is kept is never without
//! an expiry:
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

use std::{fmt, time::Duration};

use redis::{Cmd, ErrorKind, Script, ServerErrorKind, Value, cmd};
use tokio::time::timeout;

use self::connection::Connection;
use crate::{
    store::{Charge, GRACE, Outcomes, Store, StoreError},
    time::Timestamp,
};

mod charge;
mod connection;
mod fixed_window;
mod settings;

pub use self::settings::{RedisAddress, RedisSettings};

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    connection: Connection,
    fixed_window: Twin,
    charge: Twin,
    timeout: Duration,
}

/// A script, and how to speak with it.
struct Twin {
    source: &'static str,
    script: Script,
    /// Adds keys and arguments to a command.
    ask: fn(&mut Cmd, &[Charge], Timestamp),
    /// What an answer, which any server may have written, says of the charges.
    read: fn(&[Charge], &Value, Timestamp) -> Result<Outcomes, StoreError>,
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Twin").field(&self.script.get_hash()).finish()
    }
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
        Ok(Self {
            connection: Connection::new(settings)?,
            fixed_window: fixed_window::twin(),
            charge: charge::twin(),
            timeout: settings.timeout,
        })
    }

    /// Sends `charges`, and says what the server answered.
    async fn send(
        &self,
        twin: &Twin,
        charges: &[Charge],
        now: Timestamp,
    ) -> Result<Value, StoreError> {
        let link = self.connection.link().await?;
        let call = |begin: [&str; 2]| {
            let names = charges.iter().map(|it| it.counter.key.as_bytes().len()).sum::<usize>();
            let room = begin[1].len() + 2 * names + 160 * (1 + charges.len());
            let mut call = Cmd::with_capacity(8 + 16 * charges.len(), room);
            (twin.ask)(call.arg(&begin), charges, now);
            call
        };
        let answer = match link.send(&call(["EVALSHA", twin.script.get_hash()])).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.send(&call(["EVAL", twin.source])).await
            }
            answer => answer,
        };
        answer.map_err(|error| StoreError::Failed(error.to_string()))
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let plain = charges.iter().all(fixed_window::suffices);
        let twin = if plain { &self.fixed_window } else { &self.charge };
        let answer = timeout(self.timeout, self.send(twin, charges, now));
        let answer = answer.await.map_err(|_| StoreError::Timeout(self.timeout))??;
        (twin.read)(charges, &answer, now)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ping = async {
            let answer = self.connection.link().await?.send(&cmd("PING")).await;
            answer.map_err(|error| StoreError::Failed(error.to_string()))
        };
        timeout(self.timeout, ping).await.map_err(|_| StoreError::Timeout(self.timeout))??;
        Ok(())
    }

    async fn died(&self) {
        self.connection.abandoned().await;
    }
}

/// The list that `answer` is: one element per charge.
fn elements<'a>(answer: &'a Value, charges: &[Charge]) -> Result<&'a [Value], StoreError> {
    let Value::Array(elements) = answer else {
        return Err(StoreError::Failed("the answer is not a list of counters".into()));
    };
    if elements.len() != charges.len() {
        let (expected, found) = (charges.len(), elements.len());
        let error = format!("the answer has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error));
    }
    Ok(elements)
}

/// `hits` as the scripts take them: those given back below 0.
fn change(charge: &Charge) -> i64 {
    use crate::limit::Hits;

    match charge.hits {
        Hits::Add(hits) => hits.min(Hits::MAX).cast_signed(),
        Hits::Refund(hits) => -hits.min(Hits::MAX).cast_signed(),
    }
}

/// How many milliseconds a counter of a fixed window is kept from now on.
fn kept(charge: &Charge, now: Timestamp) -> u128 {
    (charge.counter.span.end.since(now) + GRACE).as_micros().div_ceil(1_000)
}

/// The number that `value` is, if a script may have meant it.
fn number(value: &Value) -> Option<u64> {
    match *value {
        Value::Int(it) => u64::try_from(it).ok().filter(|it| *it <= crate::limit::Hits::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
