//! Logs the errors that a server replies with, but not each of them.

use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::time::Instant;
use tracing::warn;

use super::{
    server_error::{cannot_increment, error_text, requires_reconnect},
    settings::RedisAddress,
};

/// The shortest time between two log lines about the same server. A server that is out of
/// memory fails every call.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Limits the rate of log lines about failed calls to one server.
#[derive(Debug)]
pub(super) struct ErrorLogLimiter {
    pub(super) address: RedisAddress,
    last_logged: Mutex<Option<Instant>>,
}

impl ErrorLogLimiter {
    pub(super) fn new(address: RedisAddress) -> Self {
        Self { address, last_logged: Mutex::default() }
    }

    /// Logs `error`, unless it is part of normal service or makes the connection task
    /// reconnect, which is logged there.
    pub(super) fn log(&self, error: &RedisError) {
        let Some(code) = error.code() else { return };
        let is_normal = matches!(code, "NOSCRIPT" | "MOVED" | "ASK" | "TRYAGAIN");
        if is_normal || requires_reconnect(error) || cannot_increment(error) {
            return;
        }
        let mut last_logged = self.last_logged.lock();
        if let Some(last) = *last_logged
            && last.elapsed() < LOG_INTERVAL
        {
            return;
        }
        *last_logged = Some(Instant::now());
        warn!("calls to {} fail: {}", self.address, error_text(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::server_error::tests::server_error;

    #[test]
    fn errors_of_normal_service_are_not_logged() {
        let limiter = ErrorLogLimiter::new(RedisAddress::Tcp { host: "a".into(), port: 1 });
        for normal in [
            "NOSCRIPT No matching script. Please use EVAL.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR value is not an integer or out of range",
            "ERR increment or decrement would overflow",
        ] {
            limiter.log(&server_error(normal));
            assert!(limiter.last_logged.lock().is_none(), "{normal}");
        }
        limiter.log(&server_error("OOM command not allowed when used memory > 'maxmemory'."));
        assert!(limiter.last_logged.lock().is_some());
    }
}
