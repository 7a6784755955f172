//! Counters in Redis, shared by every instance that uses the same server.
//!
//! One call is one script, so it is one round trip, and nobody else is served
//! between two of its charges. Each counter is a plain integer that any client
//! may INCRBY. It is never without an expiry, and gone a [second](GRACE) after
//! its window.
//!
//! A call is sent once. The only exception is a server that does not know the
//! script, after a restart for example: it has counted nothing, and is sent the
//! script along with the call.

use std::time::Duration;

use redis::{Cmd, ErrorKind, Script, ServerErrorKind, Value, cmd};
use tokio::time::timeout;

use self::connection::Connection;
use crate::{
    limit::{Hits, fixed_window},
    store::{Charge, GRACE, Outcomes, Store, StoreError},
    time::Timestamp,
};

mod connection;
mod settings;

pub use self::settings::{RedisAddress, RedisSettings};

const FIXED_WINDOW: &str = include_str!("redis/lua/fixed_window.lua");

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    connection: Connection,
    fixed_window: Script,
    timeout: Duration,
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
            fixed_window: Script::new(FIXED_WINDOW),
            timeout: settings.timeout,
        })
    }

    /// The call that makes `charges`. `begin` is the name of the command and
    /// what it knows the script by.
    fn call(begin: [&str; 2], charges: &[Charge], now: Timestamp) -> Cmd {
        let keys: usize = charges.iter().map(|it| it.counter.key.as_bytes().len()).sum();
        let mut call = Cmd::with_capacity(
            4 + 3 * charges.len(),
            begin[1].len() + keys + 40 * (1 + charges.len()),
        );
        call.arg(&begin).arg(charges.len());
        for charge in charges {
            call.arg(charge.counter.key.as_bytes());
        }
        call.arg(GRACE.as_millis());
        for charge in charges {
            let change = match charge.hits {
                Hits::Add(hits) => hits.min(Hits::MAX).cast_signed(),
                Hits::Refund(hits) => -hits.min(Hits::MAX).cast_signed(),
            };
            let kept = charge.counter.span.end.since(now) + GRACE;
            call.arg(change).arg(kept.as_micros().div_ceil(1_000));
        }
        call
    }

    /// Sends `charges`, and says what the server answered.
    async fn send(&self, charges: &[Charge], now: Timestamp) -> Result<Value, StoreError> {
        let link = self.connection.link().await?;
        let known = Self::call(["EVALSHA", self.fixed_window.get_hash()], charges, now);
        let answer = match link.send(&known).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.send(&Self::call(["EVAL", FIXED_WINDOW], charges, now)).await
            }
            answer => answer,
        };
        answer.map_err(|error| StoreError::Failed(error.to_string()))
    }
}

impl Store for Redis {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let answer = timeout(self.timeout, self.send(charges, now));
        let answer = answer.await.map_err(|_| StoreError::Timeout(self.timeout))??;
        outcomes(charges, &answer, now)
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

/// What `answer`, which any server may have written, says of `charges`.
fn outcomes(charges: &[Charge], answer: &Value, now: Timestamp) -> Result<Outcomes, StoreError> {
    let Value::Array(counts) = answer else {
        return Err(StoreError::Failed("the answer is not a list of counters".into()));
    };
    if counts.len() != charges.len() {
        let (expected, found) = (charges.len(), counts.len());
        let error = format!("the answer has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error));
    }
    let outcome = |(charge, count): (&Charge, &Value)| {
        let after = match *count {
            Value::Int(count) => u64::try_from(count).ok().filter(|it| *it <= Hits::MAX),
            _ => None,
        };
        let after = after.ok_or_else(|| {
            let key = charge.counter.key.as_bytes().escape_ascii();
            StoreError::Failed(format!("`{key}` is not a counter; expected an integer there"))
        })?;
        {
            let limit = u64::from(charge.limit.requests);
            let passed = !matches!(charge.hits, Hits::Add(_)) || after <= limit;
            Ok(fixed_window::describe(
                &charge.limit,
                charge.counter.span,
                charge.hits,
                (after, passed),
                now,
            ))
        }
    };
    charges.iter().zip(counts).map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        limit::{Limit, Unit, Window},
        rules::counter_key::KeyFormat,
    };

    fn charge() -> Charge {
        let limit = Limit { requests: 5, window: Window::of(Unit::Minute) };
        let key = KeyFormat::default().key(b"a", [].into_iter(), limit, Timestamp::default());
        Charge { key, limit, hits: Hits::Add(1) }
    }

    #[track_caller]
    fn check(answer: &Value, expected: &str) {
        let found = match outcomes(&[charge()], answer, Timestamp::default()) {
            Ok(outcomes) => format!("{:?}", outcomes.iter().map(|it| it.after).collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_answer_is_counters_or_an_error() {
        let failed = "the counter store failed: ";
        let list = |it: &[i64]| Value::Array(it.iter().copied().map(Value::Int).collect());
        check(&list(&[6]), "[6]");
        check(&Value::Okay, &format!("{failed}the answer is not a list of counters"));
        check(&list(&[]), &format!("{failed}the answer has 0 counters, expected 1"));
        check(&list(&[1, 2]), &format!("{failed}the answer has 2 counters, expected 1"));
        let not_a_counter =
            format!("{failed}`a|60s@0` is not a counter; expected an integer there");
        check(&list(&[-1]), &not_a_counter);
        check(&list(&[i64::MAX]), &not_a_counter);
        check(&Value::Array(vec![Value::Nil]), &not_a_counter);
    }

    fn answers() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            Just(Value::Nil),
            Just(Value::Okay),
            vec(any::<u8>(), 0..4).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(2, 8, 3, |it| vec(it, 0..3).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn no_answer_is_taken_for_more_than_it_says(answer in answers()) {
            if let Ok(outcomes) = outcomes(&[charge()], &answer, Timestamp::default()) {
                let after = i64::try_from(outcomes[0].after).unwrap();
                prop_assert_eq!(Value::Array(vec![Value::Int(after)]), answer);
            }
        }
    }
}
