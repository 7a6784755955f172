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

impl RedisSettings {
    /// A stand-in.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn parse(url: &str, auth: Option<&str>, timeout: Duration) -> Result<Self, String> {
        let path = url.strip_prefix("unix://").or_else(|| url.starts_with('/').then_some(url));
        let address = if let Some(path) = path {
            RedisAddress::Unix(path.into())
        } else {
            let rest = url.strip_prefix("redis://").unwrap_or(url);
            let rest = rest.rsplit('@').next().unwrap_or_default();
            let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "6379"));
            let port = port.parse().map_err(|_| "expected redis://host:port".to_owned())?;
            RedisAddress::Tcp { host: host.into(), port }
        };
        Ok(Self { address, username: None, password: auth.map(Into::into), database: 0, timeout })
    }
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
