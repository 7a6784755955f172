//! Counters in Redis.

use std::{fmt, path::PathBuf, time::Duration};

/// How to reach a Redis server.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it listens.
    pub address: RedisAddress,
    /// Whom to authenticate as; none means the default user.
    pub username: Option<String>,
    /// The password; none means no authentication.
    pub password: Option<String>,
    /// The number of the database.
    pub database: i64,
    /// How long to wait for a connection, and for the answer to a command.
    pub timeout: Duration,
}

/// Where a Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// On a TCP port.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket.
    Unix(PathBuf),
}

impl fmt::Debug for RedisSettings {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("address", &self.address)
            .field("database", &self.database)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
