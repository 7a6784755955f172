//! Logs the errors that a server replies with, but not each of them.

use redis::RedisError;

use super::{
    server_error::{cannot_increment, error_text, requires_reconnect},
    settings::RedisAddress,
};
use crate::warnings::WarningLimiter;

/// Logs failed calls to one server. A server that is out of memory fails every call.
#[derive(Debug)]
pub(super) struct ErrorLog {
    pub(super) address: RedisAddress,
    failures: WarningLimiter,
}

impl ErrorLog {
    pub(super) fn new(address: RedisAddress) -> Self {
        let failures = WarningLimiter::new("a call to Redis failed", "calls to Redis failed");
        Self { address, failures }
    }

    /// Logs `error`, unless it is part of normal service or makes the connection task
    /// reconnect, which is logged there.
    pub(super) fn log(&self, error: &RedisError) {
        if is_logged(error) {
            self.failures.warn(&format_args!("{} replied: {}", self.address, error_text(error)));
        }
    }
}

fn is_logged(error: &RedisError) -> bool {
    let Some(code) = error.code() else { return false };
    let is_normal = matches!(code, "NOSCRIPT" | "MOVED" | "ASK" | "TRYAGAIN");
    !is_normal && !requires_reconnect(error) && !cannot_increment(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::server_error::tests::server_error;

    #[test]
    fn errors_of_normal_service_are_not_logged() {
        for normal in [
            "NOSCRIPT No matching script. Please use EVAL.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR value is not an integer or out of range",
            "ERR increment or decrement would overflow",
        ] {
            assert!(!is_logged(&server_error(normal)), "{normal}");
        }
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        assert!(is_logged(&server_error(full)));
    }
}
