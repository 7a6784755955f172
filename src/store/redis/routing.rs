//! Checks that a single server is not a proxy that sends each key to a server of its own:
//! a script needs all its keys on one server.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis::{Pipeline, RedisError, Value};

use super::{
    connection::ServerConnection, probe::EXPIRY_MS, server_error::error_text,
    settings::RedisSettings,
};

/// The number of keys of a check. If there are two servers, both have some of them, unless the
/// share of one is less than a few per cent.
const KEYS: usize = 64;
/// The number of keys of the first check, and of checks after one that failed: one of several
/// servers may have a small share.
const MANY_KEYS: usize = 1_024;

/// Counts keys that hold a value.
const SCRIPT: &str = include_str!("lua/routing.lua");

#[derive(Debug)]
pub(super) struct RoutingCheck {
    key_prefix: String,
    /// `REDIS` or `REDIS_PERSECOND`, for error messages.
    setting_prefix: &'static str,
    is_passed: AtomicBool,
    /// Set until the first check passes, and after one that found several servers.
    needs_many_keys: AtomicBool,
}

/// The result of a check that did not pass.
#[derive(Debug)]
pub(super) enum RoutingError {
    /// Keys are on several servers. The text has advice for the operator.
    Misrouted(String),
    /// The server fails the commands of the check. It fails all calls then as well.
    Unknown,
    /// The connection failed.
    NoReply(String),
}

impl RoutingCheck {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            key_prefix: settings.key_prefix.clone(),
            setting_prefix: settings.setting_prefix,
            is_passed: AtomicBool::new(false),
            needs_many_keys: AtomicBool::new(true),
        }
    }

    /// Returns whether the last check passed.
    pub(super) fn is_passed(&self) -> bool {
        self.is_passed.load(Relaxed)
    }

    /// Writes each key by a command of its own, and reads all of them by one script.
    pub(super) async fn run(&self, connection: &ServerConnection) -> Result<(), RoutingError> {
        let count = if self.needs_many_keys.load(Relaxed) { MANY_KEYS } else { KEYS };
        let result = self.run_with(connection, count).await;
        self.is_passed.store(result.is_ok(), Relaxed);
        match &result {
            Ok(()) => self.needs_many_keys.store(false, Relaxed),
            Err(RoutingError::Misrouted(_)) => self.needs_many_keys.store(true, Relaxed),
            Err(RoutingError::Unknown | RoutingError::NoReply(_)) => {}
        }
        result
    }

    async fn run_with(
        &self,
        connection: &ServerConnection,
        count: usize,
    ) -> Result<(), RoutingError> {
        let value = fastrand::u64(..);
        let keys = self.random_keys(count, value);
        let mut writes = Pipeline::new();
        for key in &keys {
            writes.cmd("SET").arg(key).arg(value).arg("PX").arg(EXPIRY_MS);
        }
        for reply in self.send(connection, &writes).await? {
            if let Value::ServerError(error) = reply {
                if let misrouted @ RoutingError::Misrouted(_) = self.error(&error.into()) {
                    return Err(misrouted);
                }
                break;
            }
        }
        let mut script = Pipeline::new();
        script.cmd("EVAL").arg(SCRIPT).arg(count).arg(&keys).arg(value);
        let found = match self.send(connection, &script).await?.pop() {
            Some(Value::Int(found)) => usize::try_from(found).unwrap_or_default(),
            Some(Value::ServerError(error)) => return Err(self.error(&error.into())),
            _ => 0,
        };
        if found == count {
            return Ok(());
        }
        // Keys may have been evicted, or the server may be out of memory. But the script has
        // to find the keys that exist.
        let mut reads = Pipeline::new();
        for key in &keys {
            reads.cmd("GET").arg(key);
        }
        let mut existing = 0;
        for reply in self.send(connection, &reads).await? {
            if matches!(reply, Value::BulkString(_)) {
                existing += 1;
            }
        }
        if found < existing {
            return Err(RoutingError::Misrouted(self.misrouted_text()));
        }
        Err(RoutingError::Unknown)
    }

    /// The start and the end of a key are random: some proxies hardly look at the end, and
    /// other instances may run a check at the same time.
    fn random_keys(&self, count: usize, value: u64) -> Vec<String> {
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            let random = fastrand::u64(..);
            keys.push(format!("{}tollgate-probe-{random:016x}{value:016x}", self.key_prefix));
        }
        keys
    }

    async fn send(
        &self,
        connection: &ServerConnection,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, RoutingError> {
        connection.send_all_quietly(commands).await.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &RedisError) -> RoutingError {
        match error.code() {
            Some("CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN") => {
                let setting_prefix = self.setting_prefix;
                RoutingError::Misrouted(format!(
                    "this is a Redis Cluster, or a proxy for one ({}); set \
                     {setting_prefix}_TYPE=cluster",
                    error_text(error)
                ))
            }
            Some(_) => RoutingError::Unknown,
            None => RoutingError::NoReply(error.to_string()),
        }
    }

    fn misrouted_text(&self) -> String {
        let setting_prefix = self.setting_prefix;
        format!(
            "this is a proxy that sends keys to different servers, such as Envoy or twemproxy, \
             but limits need one server with all keys; set {setting_prefix}_URL to a Redis \
             itself, or to a Redis Cluster with {setting_prefix}_TYPE=cluster, or configure the \
             proxy with only one server"
        )
    }
}
