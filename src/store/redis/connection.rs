//! One connection to a server, until it is lost.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    connect_options::ConnectOptions,
    error_log::ErrorLog,
    node_error::NodeError,
    reply_scanner::ExpectedReplies,
    server_error::{error_text, is_authentication_failure, is_out_of_memory, requires_reconnect},
    settings::RedisAddress,
    stream::{self, ClientConnection, ReplyBounds},
};
use crate::store::StoreError;

/// The number of calls that wait to be sent; further calls wait for a slot. A cancelled call
/// is not sent. The Redis client can also limit the calls that wait for a reply, but that
/// halved the throughput whenever the limit was reached.
const PIPELINE_BUFFER: usize = 1_024;

#[derive(Debug)]
pub(super) struct ServerConnection {
    client: ClientConnection,
    bounds: ReplyBounds,
    /// Notified when the connection is lost, or an error requires another one.
    pub(super) lost: Notify,
    /// The first error that requires a reconnect.
    refusal: OnceLock<String>,
    error_log: ErrorLog,
    /// Counts the replies of a server that is out of memory.
    pub(super) out_of_memory: Arc<AtomicU64>,
}

impl ServerConnection {
    /// Connects, and waits for the reply to a PING. An error is for the operator.
    pub(super) async fn open(
        options: &Arc<ConnectOptions>,
        address: &RedisAddress,
    ) -> Result<Self, String> {
        match Self::try_open(options, address).await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(connect_error_text(&error, options)),
        }
    }

    async fn try_open(options: &Arc<ConnectOptions>, address: &RedisAddress) -> RedisResult<Self> {
        // Callers have timeouts of their own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let own_options = Arc::clone(options);
        let tls = spawn_blocking(move || own_options.tls_config()).await;
        let tls = tls.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let bounds = ReplyBounds {
            expected: ExpectedReplies::for_handshake(),
            most: options.most_of_reply,
            violation: Arc::default(),
        };
        let own_bounds = bounds.clone();
        let connection = Self {
            client: stream::connect(address, tls, &options.login(), config, own_bounds).await?,
            bounds,
            lost: Notify::new(),
            refusal: OnceLock::new(),
            error_log: ErrorLog::new(address.clone()),
            out_of_memory: Arc::default(),
        };
        connection.send(&cmd("PING")).await?;
        Ok(connection)
    }

    pub(super) fn address(&self) -> &RedisAddress {
        &self.error_log.address
    }

    /// Returns the error that requires another connection, if the server sent one.
    pub(super) fn refusal(&self) -> Option<&String> {
        self.refusal.get()
    }

    /// The error of a call on this connection. If no reply came, the text contains the
    /// address of the server.
    pub(super) fn call_error(&self, error: &RedisError) -> NodeError {
        match NodeError::from(error) {
            NodeError::Failed(StoreError::Failed(reason)) if error.code().is_none() => {
                NodeError::failed(format!("{}: {reason}", self.address()))
            }
            error => error,
        }
    }

    /// Returns the bound that the server exceeded, after which the connection is closed.
    pub(super) fn violation(&self) -> Option<&String> {
        self.bounds.violation.get()
    }

    /// Sends `command` once, and waits for the reply without a timeout.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.bounds.expected.add(1);
        let reply: RedisResult<Value> =
            command.query_async(&mut self.client.connection.clone()).await;
        let reply = reply.map_err(|error| self.explain(error));
        if let Err(error) = &reply {
            self.on_error(error);
        }
        reply
    }

    /// Returns once the server has replied to all commands that were sent before.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        match self.send(&cmd("PING")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }

    /// Sends commands once, in one write, and waits for all replies without a timeout. Each
    /// reply may be an error of the server.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let replies = self.send_all_quietly(commands).await;
        match &replies {
            Err(error) => self.on_error(error),
            Ok(replies) => {
                for reply in replies {
                    if let Value::ServerError(error) = reply {
                        self.on_error(&error.clone().into());
                    }
                }
            }
        }
        replies
    }

    /// Sends commands whose errors are neither logged nor a reason to reconnect.
    pub(super) async fn send_all_quietly(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.bounds.expected.add(commands.len());
        let mut connection = self.client.connection.clone();
        let replies = connection.send_packed_commands(commands, 0, commands.len()).await;
        replies.map_err(|error| self.explain(error))
    }

    /// Replaces the error of a connection that was cut: the client reports it as closed.
    fn explain(&self, error: RedisError) -> RedisError {
        match self.violation() {
            Some(violation) if error.is_unrecoverable_error() => {
                io::Error::new(io::ErrorKind::ConnectionAborted, violation.clone()).into()
            }
            _ => error,
        }
    }

    fn on_error(&self, error: &RedisError) {
        self.error_log.log(error);
        if is_out_of_memory(error) {
            self.out_of_memory.fetch_add(1, Relaxed);
        }
        let is_refusal = requires_reconnect(error);
        if is_refusal {
            // Only the first one is kept.
            let _ = self.refusal.set(error_text(error));
        }
        if is_refusal || error.is_unrecoverable_error() {
            self.lost.notify_one();
        }
    }
}

fn connect_error_text(error: &RedisError, options: &ConnectOptions) -> String {
    if error.is_connection_dropped()
        && !error.is_connection_refusal()
        && let Some(hint) = options.disconnect_hint()
    {
        return format!("the server closed the connection ({error}); {hint}");
    }
    let text = error_text(error);
    if is_authentication_failure(error) {
        return format!("{text}; see {}", options.auth_setting());
    }
    text
}
