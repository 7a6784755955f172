//! One server.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    batcher::Batcher,
    call::{Call, CallResult},
    connection::{Connection, Link},
    node_error::NodeError,
    probe,
    settings::RedisSettings,
    settler::SettlementQueue,
    target::Target,
    traffic::Traffic,
    wire::RedisWire,
};
use crate::store::StoreError;

/// A deadline that is earlier than that is a caller's.
const EXACT: Duration = Duration::from_millis(1);

/// One server, which may be one of several.
#[derive(Debug)]
pub(super) struct Node {
    connection: Arc<Connection>,
    batches: Batcher<RedisWire>,
    timeout: Duration,
    /// How the name of a counter begins that the server did not let us use.
    denied: Mutex<Option<String>>,
}

impl Node {
    /// Begins to connect, to one of a cluster if `cluster`. Needs a Tokio runtime.
    pub(super) fn new(
        target: Target,
        settings: &RedisSettings,
        cluster: bool,
        (traffic, late): (&Traffic, &SettlementQueue),
    ) -> Self {
        let &RedisSettings { timeout, jitter, .. } = settings;
        let connection = Arc::new(Connection::new(target, timeout, traffic.clone()));
        let wire = RedisWire::new(Arc::clone(&connection), jitter);
        let handles = (late.clone(), traffic.pulse().clone(), traffic.in_flight());
        let batches = Batcher::new(wire, timeout, cluster, handles);
        Self { connection, batches, timeout, denied: Mutex::default() }
    }

    /// Makes a call, once, and waits for the answer until then. In a cluster all keys
    /// of it are in one slot, and there is one charge unless the charges depend on each
    /// other. `asking` says that another server sent it here with [`NodeError::Ask`].
    pub(super) async fn call(&self, call: &Arc<Call>, until: Instant, asking: bool) -> CallResult {
        let made = async {
            let reply = match asking {
                true => self.batches.asked(call).await,
                false => self.batches.call(call).await,
            };
            self.note(call, &reply);
            reply
        };
        let waited = until.saturating_duration_since(call.started_at).as_micros();
        let waited = u64::try_from(waited.div_ceil(1_000)).unwrap_or(u64::MAX);
        let timeout = StoreError::Timeout(Duration::from_millis(waited));
        // What a caller is promised is kept by the clock; a server is only blamed for time in
        // which this process ran.
        let exact = until + EXACT < call.started_at + self.timeout;
        let pulse = self.connection.pulse();
        let left = match call.run_time_at_start.filter(|_| !exact) {
            Some(then) => {
                let ran = pulse.now().saturating_sub(then);
                until.saturating_duration_since(call.started_at).saturating_sub(ran)
            }
            None => until.saturating_duration_since(Instant::now()),
        };
        if left.is_zero() {
            // To poll the call once would be enough to send it.
            return Err(NodeError::Unsent(timeout));
        }
        let reply = match exact {
            true => timeout_at(until, made).await.ok(),
            false => pulse.within(left, made).await,
        };
        reply.unwrap_or(Err(NodeError::Failed(timeout)))
    }

    /// What the server answers to `command`.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, NodeError> {
        self.in_time(async |link| link.send(command).await).await
    }

    /// The same where another server has sent the command here with [`NodeError::Ask`].
    pub(super) async fn ask_moving(&self, command: &Cmd) -> Result<Value, NodeError> {
        let mut both = Pipeline::new();
        both.cmd("ASKING").add_command(command.clone());
        let answers = self.in_time(async |link| link.send_all(&both).await).await?;
        match answers.into_iter().next_back() {
            Some(Value::ServerError(error)) => Err(NodeError::from(&RedisError::from(error))),
            answer => Ok(answer.unwrap_or(Value::Nil)),
        }
    }

    async fn in_time<T>(
        &self,
        ask: impl AsyncFnOnce(Arc<Link>) -> RedisResult<T>,
    ) -> Result<T, NodeError> {
        let ask = async {
            let link = self.connection.link().await.map_err(NodeError::Failed)?;
            ask(link).await.map_err(|error| NodeError::from(&error))
        };
        let late = || NodeError::Failed(StoreError::Timeout(self.timeout));
        self.connection.pulse().within(self.timeout, ask).await.ok_or_else(late)?
    }

    /// Whether it can decide, of which a counter called `key` is the proof, and one whose
    /// name begins as that of a counter does which it would not let us use.
    pub(super) async fn decides(&self, key: &str) -> Result<(), NodeError> {
        for command in probe::decisions(key) {
            self.decide(&command).await?;
        }
        let Some(begin) = self.denied.lock().clone() else { return Ok(()) };
        for command in probe::decisions(&format!("{begin}{key}")) {
            self.decide(&command).await?;
        }
        *self.denied.lock() = None;
        Ok(())
    }

    /// The same for one command. An error names the server.
    async fn decide(&self, command: &Cmd) -> Result<(), NodeError> {
        let address = self.connection.link().await?.address().to_string();
        self.ask(command).await.map(drop).map_err(|error| {
            let why = StoreError::from(error).reason();
            let named = why.contains(&address);
            NodeError::from(StoreError::Failed(match named {
                true => why,
                false => format!("{address}: {why}"),
            }))
        })
    }

    /// Takes note of a counter that the server does not let us use.
    fn note(&self, call: &Call, reply: &CallResult) {
        let Err(NodeError::Failed(StoreError::Failed(why))) = reply else { return };
        let Some(charge) = call.charges.first().filter(|_| why.starts_with("NOPERM")) else {
            return;
        };
        let name = String::from_utf8_lossy(charge.counter.key.as_bytes());
        // Braces would have the key that shows it be on another server of a cluster.
        *self.denied.lock() =
            name.split_inclusive('|').next().filter(|it| !it.contains('{')).map(ToOwned::to_owned);
    }

    /// Ends when a task that it needs has ended.
    pub(super) async fn died(&self) {
        tokio::select! {
            () = self.connection.abandoned() => {}
            () = self.batches.abandoned() => {}
        }
    }
}

impl Node {
    /// Whether a task that it needs has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.connection.is_dead() || self.batches.is_dead()
    }

    /// How many calls wait for others.
    pub(super) fn waiting(&self) -> u64 {
        self.batches.waiting()
    }

    /// Whether it does not answer or cannot be used, and calls fail until it can.
    pub(super) fn is_silent(&self) -> bool {
        self.batches.is_silent() || self.connection.is_down()
    }
}
