//! A connection that a task keeps open.
//!
//! Callers do not connect themselves. So a call fails at once if the server is known to be
//! down, a cancelled caller does not interrupt an attempt to connect, and a server that comes
//! back is not flooded with connections.
//!
//! The task also sends a command each second, as the kernel takes many minutes to close a
//! connection to a peer that does not reply.

use std::{sync::Arc, time::Duration};

use redis::cmd;
use tokio::{
    select,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    backend_context::BackendContext,
    connection::ServerConnection,
    endpoint::Endpoint,
    keepalive::{Disconnect, Keepalive, is_master},
    routing::RoutingError,
    run_clock::RunClock,
    settings::RedisAddress,
};
use crate::{
    backoff::{Backoff, BackoffSettings},
    store::StoreError,
    warnings::WarningLimiter,
};

/// The delays between attempts to connect. A server that comes back is found within the
/// longest of them.
const BACKOFF: BackoffSettings = BackoffSettings {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(1),
    jitter: 0.5,
};
/// The loss of a connection that lasted this long is logged at once, that of shorter ones is
/// limited.
const STABLE_TIME: Duration = Duration::from_secs(1);
/// The shortest timeout for connecting and for keepalives.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ManagedConnection {
    state: watch::Receiver<ConnectionState>,
    run_clock: RunClock,
    /// Aborted when the connection is dropped.
    _task: JoinSet<()>,
}

#[derive(Clone, Debug)]
enum ConnectionState {
    /// The first attempt after the start, or after the loss of a connection.
    Connecting,
    Connected(Arc<ServerConnection>),
    Failed(StoreError),
}

impl ManagedConnection {
    /// Starts to connect. Needs a Tokio runtime.
    pub(super) fn new(endpoint: Endpoint, timeout: Duration, context: BackendContext) -> Self {
        let run_clock = context.run_clock.clone();
        let supervisor = Supervisor {
            endpoint,
            timeout: timeout.max(MIN_TIMEOUT),
            context,
            backoff: Backoff::new(BACKOFF),
            warnings: ConnectWarnings::new(),
            losses: LossWarnings::new(),
            is_quiet: false,
            refusing: None,
        };
        let (sender, state) = watch::channel(ConnectionState::Connecting);
        let mut task = JoinSet::new();
        task.spawn(supervisor.run(sender));
        Self { state, run_clock, _task: task }
    }

    pub(super) fn run_clock(&self) -> &RunClock {
        &self.run_clock
    }

    /// Returns whether the last attempt to connect failed, so that calls fail at once.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Failed(_))
    }

    pub(super) fn has_task_ended(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Returns once the task has ended.
    pub(super) async fn task_ended(&self) {
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }

    /// Returns the connection. Waits for the first attempt after the start or after the loss
    /// of a connection; if that failed, returns its error at once.
    pub(super) async fn get(&self) -> Result<Arc<ServerConnection>, StoreError> {
        let mut state = self.state.borrow().clone();
        if matches!(state, ConnectionState::Connecting) {
            let mut changes = self.state.clone();
            let change =
                changes.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await;
            if let Ok(settled) = change {
                state = settled.clone();
            }
        }
        match state {
            ConnectionState::Connected(connection) => Ok(connection),
            ConnectionState::Failed(error) => Err(error),
            ConnectionState::Connecting => {
                Err(StoreError::Failed("the task that connects to Redis has ended".into()))
            }
        }
    }
}

/// The state of the task.
struct Supervisor {
    endpoint: Endpoint,
    timeout: Duration,
    context: BackendContext,
    backoff: Backoff,
    /// Of attempts to connect since the last connection.
    warnings: ConnectWarnings,
    losses: LossWarnings,
    /// Whether the next connection is news.
    is_quiet: bool,
    /// The server whose last connection ended because it refused calls. Unset once it replies
    /// without an error.
    refusing: Option<RedisAddress>,
}

/// Logs attempts to connect that failed.
struct ConnectWarnings {
    failures: WarningLimiter,
    /// Apart, so that failures before it do not hide it.
    misconfigurations: WarningLimiter,
}

impl ConnectWarnings {
    const fn new() -> Self {
        let often = "attempts to connect to Redis failed";
        Self {
            failures: WarningLimiter::new("Redis is not available", often),
            misconfigurations: WarningLimiter::new("Redis cannot be used", often),
        }
    }
}

/// Logs connections that ended, however often the server accepts new ones.
struct LossWarnings {
    closed: WarningLimiter,
    unanswered: WarningLimiter,
    cut: WarningLimiter,
}

impl LossWarnings {
    const fn new() -> Self {
        Self {
            closed: WarningLimiter::new(
                "the connection to Redis is lost",
                "connections to Redis were lost",
            ),
            unanswered: WarningLimiter::new(
                "Redis does not answer",
                "connections to Redis were closed because it did not answer",
            ),
            cut: WarningLimiter::new(
                "closed the connection to Redis because of its replies",
                "connections to Redis were closed because of its replies",
            ),
        }
    }
}

struct ConnectError {
    reason: String,
    /// A retry fails as well, until the configuration is changed.
    is_misconfiguration: bool,
}

impl From<String> for ConnectError {
    fn from(reason: String) -> Self {
        Self { reason, is_misconfiguration: false }
    }
}

impl Supervisor {
    /// Connects whenever there is no connection. Never returns.
    async fn run(mut self, state: watch::Sender<ConnectionState>) {
        loop {
            match self.connect().await {
                Ok(mut connection) => {
                    connection.out_of_memory = Arc::clone(&self.context.out_of_memory);
                    let open = self.context.open_connection();
                    let connection = Arc::new(connection);
                    self.on_connect(connection.address());
                    state.send_replace(ConnectionState::Connected(Arc::clone(&connection)));
                    let connected_at = Instant::now();
                    let disconnect = self.wait_for_disconnect(&connection).await;
                    if STABLE_TIME <= connected_at.elapsed()
                        && matches!(disconnect, Disconnect::Closed)
                    {
                        self.losses.closed.reset();
                    }
                    state.send_replace(self.on_disconnect(connection.address(), disconnect));
                    drop(open);
                }
                Err(error) => {
                    let error = self.on_failure(error);
                    state.send_replace(ConnectionState::Failed(error));
                }
            }
            sleep(self.backoff.next_delay()).await;
        }
    }

    async fn connect(&mut self) -> Result<ServerConnection, ConnectError> {
        let (timeout, run_clock) = (self.timeout, self.context.run_clock.clone());
        let mut resolved = None;
        let open = open(&mut self.endpoint, timeout, &mut resolved);
        let mut error = match run_clock.within(timeout, open).await {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(error)) => error,
            None if self.endpoint.options.uses_tls() => {
                format!("no reply within {timeout:?}; the server may not support TLS").into()
            }
            None => ConnectError::from(format!("no reply within {timeout:?}")),
        };
        // The log names an endpoint behind Sentinels by the name of the master.
        if self.endpoint.is_via_sentinels()
            && let Some(address) = resolved
            && !error.reason.contains(&address.to_string())
        {
            error.reason = format!("{address}: {}", error.reason);
        }
        Err(error)
    }

    fn on_connect(&mut self, address: &RedisAddress) {
        // A server that still refuses calls is not news.
        if self.refusing.as_ref() == Some(address) {
            return;
        }
        if !self.is_quiet {
            if self.context.log_lines.allows_line() {
                info!("connected to {address}");
            }
            self.warnings = ConnectWarnings::new();
        }
        self.refusing = None;
        self.backoff.reset();
    }

    fn on_disconnect(&mut self, address: &RedisAddress, disconnect: Disconnect) -> ConnectionState {
        match disconnect {
            Disconnect::Closed => {
                let line = self.losses.closed.count(&format_args!("{address}; reconnecting"));
                self.log_loss(line);
                ConnectionState::Connecting
            }
            Disconnect::Replaced => {
                info!("{address} is not the master any more; connecting to the new master");
                ConnectionState::Connecting
            }
            Disconnect::Unresponsive => {
                let line = self.losses.unanswered.count(&format_args!("{address}; reconnecting"));
                self.log_loss(line);
                ConnectionState::Failed(StoreError::Failed(format!("{address} does not answer")))
            }
            Disconnect::Cut(violation) => {
                let reason = format!("{address}: {violation}");
                let line = self.losses.cut.count(&format_args!("{reason}; reconnecting"));
                self.log_loss(line);
                ConnectionState::Failed(StoreError::Failed(reason))
            }
            Disconnect::Refused(error) => {
                let reason = format!("{address} refuses: {error}");
                if self.refusing.replace(address.clone()).is_none() {
                    warn!("{reason}; retrying until it accepts calls");
                    self.backoff.reset();
                }
                ConnectionState::Failed(StoreError::Failed(reason))
            }
        }
    }

    fn on_failure(&mut self, error: ConnectError) -> StoreError {
        let reason = format!("cannot connect to {}: {}", self.endpoint, error.reason);
        let ConnectWarnings { failures, misconfigurations } = &self.warnings;
        let line = format!("{reason}; retrying");
        if error.is_misconfiguration {
            self.log(misconfigurations.count(&line));
            StoreError::Misconfigured(reason)
        } else {
            self.log(failures.count(&line));
            StoreError::Failed(reason)
        }
    }

    fn log_loss(&mut self, line: Option<String>) {
        self.is_quiet = line.is_none();
        self.log(line);
    }

    fn log(&self, line: Option<String>) {
        if let Some(line) = line
            && self.context.log_lines.allows_line()
        {
            warn!("{line}");
        }
    }

    async fn wait_for_disconnect(&mut self, connection: &ServerConnection) -> Disconnect {
        let routing_check = self.endpoint.routing_check.clone();
        let is_via_sentinels = self.endpoint.is_via_sentinels();
        let keepalive = Keepalive {
            connection,
            routing_check: routing_check.as_deref(),
            // A demoted master still replies to PING.
            command: cmd(if is_via_sentinels { "ROLE" } else { "PING" }),
            is_via_sentinels,
            run_clock: &self.context.run_clock,
            timeout: self.timeout,
        };
        select! {
            () = connection.lost.notified() => Disconnect::of(connection),
            () = self.endpoint.replaced(connection.address(), self.timeout) => Disconnect::Replaced,
            disconnect = keepalive.run(&mut self.refusing) => disconnect,
        }
    }
}

/// Connects, and checks that the server can be used. Sets `resolved` to its address.
async fn open(
    endpoint: &mut Endpoint,
    timeout: Duration,
    resolved: &mut Option<RedisAddress>,
) -> Result<ServerConnection, ConnectError> {
    let address = endpoint.resolve(timeout).await?;
    *resolved = Some(address.clone());
    let connection = ServerConnection::open(&endpoint.options, &address).await?;
    if endpoint.is_via_sentinels() {
        let role = connection.send(&cmd("ROLE")).await.map_err(|error| error.to_string())?;
        if !is_master(&role) {
            return Err(format!("{address} is not a master").into());
        }
    }
    let Some(check) = &endpoint.routing_check else { return Ok(connection) };
    match check.run(&connection).await {
        Ok(()) | Err(RoutingError::Unknown) => Ok(connection),
        Err(RoutingError::NoReply(reason)) => Err(reason.into()),
        Err(RoutingError::Misrouted(reason)) => {
            Err(ConnectError { reason, is_misconfiguration: true })
        }
    }
}
