//! One Redis server: its connection, and the batches that are sent over it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, RedisResult, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    backend_context::BackendContext,
    batch::ScriptScope,
    batcher::Batcher,
    call::{Call, CallResult},
    connection::ServerConnection,
    endpoint::Endpoint,
    managed_connection::ManagedConnection,
    node_error::NodeError,
    probe,
    redis_executor::RedisExecutor,
    settings::RedisSettings,
};
use crate::store::{PoolUsage, StoreError};

/// A deadline that is earlier than the timeout by less than this counts as the timeout.
const DEADLINE_SLACK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Node {
    connection: Arc<ManagedConnection>,
    batcher: Batcher<RedisExecutor>,
    timeout: Duration,
    /// The start of the key of a counter, up to `|`, that the Redis user may not access.
    denied_prefix: Mutex<Option<String>>,
}

/// Whether another node of the cluster redirected a call here with [`NodeError::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirected {
    No,
    Ask,
}

impl Node {
    /// Starts to connect. Needs a Tokio runtime.
    pub(super) fn new(
        endpoint: Endpoint,
        settings: &RedisSettings,
        script_scope: ScriptScope,
        context: &BackendContext,
    ) -> Self {
        let &RedisSettings { timeout, jitter, .. } = settings;
        let connection = Arc::new(ManagedConnection::new(endpoint, timeout, context.clone()));
        let executor = RedisExecutor::new(Arc::clone(&connection), jitter);
        let batcher = Batcher::new(executor, timeout, script_scope, context);
        Self { connection, batcher, timeout, denied_prefix: Mutex::default() }
    }

    /// Sends a call once, and waits for its result until the deadline `until`. In a cluster,
    /// all keys of the call are in one slot, and it has one charge unless its charges depend
    /// on each other.
    pub(super) async fn call(
        &self,
        call: &Arc<Call>,
        until: Instant,
        redirected: Redirected,
    ) -> CallResult {
        let send = async {
            let result = match redirected {
                Redirected::Ask => self.batcher.call_redirected(call).await,
                Redirected::No => self.batcher.call(call).await,
            };
            self.remember_denied_key(call, &result);
            result
        };
        let total = until.saturating_duration_since(call.started_at).as_micros();
        let total = u64::try_from(total.div_ceil(1_000)).unwrap_or(u64::MAX);
        let timeout = StoreError::Timeout(Duration::from_millis(total));
        // The deadline of a caller is kept by the system clock. The timeout of a server counts
        // only the time in which this process runs.
        let is_caller_deadline = until + DEADLINE_SLACK < call.started_at + self.timeout;
        let run_clock = self.connection.run_clock();
        let left = match call.run_time_at_start {
            Some(run_time_at_start) if !is_caller_deadline => {
                let ran = run_clock.now().saturating_sub(run_time_at_start);
                until.saturating_duration_since(call.started_at).saturating_sub(ran)
            }
            _ => until.saturating_duration_since(Instant::now()),
        };
        if left.is_zero() {
            // Even a single poll could send the call.
            return Err(NodeError::Unsent(timeout));
        }
        let result = if is_caller_deadline {
            timeout_at(until, send).await.ok()
        } else {
            run_clock.within(left, send).await
        };
        result.unwrap_or(Err(NodeError::Failed(timeout)))
    }

    /// Sends `command`, and returns the reply.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, NodeError> {
        self.within_timeout(async |connection| connection.send(command).await).await
    }

    async fn within_timeout<T>(
        &self,
        send: impl AsyncFnOnce(Arc<ServerConnection>) -> RedisResult<T>,
    ) -> Result<T, NodeError> {
        let send = async {
            let connection = self.connection.get().await.map_err(NodeError::Failed)?;
            send(Arc::clone(&connection)).await.map_err(|error| connection.call_error(&error))
        };
        match self.connection.run_clock().within(self.timeout, send).await {
            Some(result) => result,
            None => Err(NodeError::Failed(StoreError::Timeout(self.timeout))),
        }
    }

    /// Runs every command of the scripts on `probe_key`. If the Redis user was denied access
    /// to a counter before, also on a key with the same prefix.
    pub(super) async fn check_scripts(&self, probe_key: &str) -> Result<(), NodeError> {
        for command in probe::commands(probe_key) {
            self.check(&command).await?;
        }
        let Some(prefix) = self.denied_prefix.lock().clone() else { return Ok(()) };
        for command in probe::commands(&format!("{prefix}{probe_key}")) {
            self.check(&command).await?;
        }
        *self.denied_prefix.lock() = None;
        Ok(())
    }

    /// Sends `command`. The text of an error contains the address of the server.
    async fn check(&self, command: &Cmd) -> Result<(), NodeError> {
        let address = self.connection.get().await?.address().to_string();
        let Err(error) = self.command(command).await else { return Ok(()) };
        let reason = StoreError::from(error).reason();
        if reason.contains(&address) {
            return Err(NodeError::failed(reason));
        }
        Err(NodeError::failed(format!("{address}: {reason}")))
    }

    fn remember_denied_key(&self, call: &Call, result: &CallResult) {
        let Err(NodeError::Failed(StoreError::Failed(reason))) = result else { return };
        if !reason.starts_with("NOPERM") {
            return;
        }
        let Some(charge) = call.charges.first() else { return };
        let key = String::from_utf8_lossy(charge.counter.key.as_bytes());
        let prefix = key.split_inclusive('|').next().unwrap_or_default();
        // With a hash tag, the probe key would be in a slot of another node of a cluster.
        let is_usable = !prefix.is_empty() && !prefix.contains('{');
        *self.denied_prefix.lock() = if is_usable { Some(prefix.to_owned()) } else { None };
    }

    /// Returns once the task of the connection or of the batches has ended.
    pub(super) async fn task_ended(&self) {
        tokio::select! {
            () = self.connection.task_ended() => {}
            () = self.batcher.ended() => {}
        }
    }

    pub(super) fn has_task_ended(&self) -> bool {
        self.connection.has_task_ended() || self.batcher.has_ended()
    }

    /// Returns whether calls fail at once: the server does not reply, or there is no
    /// connection to it.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.batcher.is_unresponsive() || self.connection.is_down()
    }

    /// Adds the queued calls and the state of this server to `usage`.
    pub(super) fn add_usage(&self, usage: &mut PoolUsage) {
        usage.waiting += self.batcher.queued();
        usage.unresponsive += u64::from(self.is_unresponsive());
    }
}
