//! The settings of a connection to Redis.

use std::time::Duration;

pub use self::address::{Login, RedisAddress};
use self::url::SharedValues;
use super::jitter::Jitter;
use crate::trust::ClientTls;

mod address;
mod url;

/// The settings of one Redis: a server, a master with its Sentinels, or a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// The deployment and its addresses.
    pub servers: RedisServers,
    /// The credentials for servers that hold counters.
    pub login: Login,
    /// The credentials for Sentinels.
    pub sentinel_login: Login,
    /// The number for SELECT; 0 in a cluster.
    pub database: i64,
    /// The TLS settings, or `None` for plain connections.
    pub tls: Option<ClientTls>,
    /// The timeout of each call, and of each attempt to connect.
    pub timeout: Duration,
    /// A random addition to the expiry of each counter.
    pub jitter: Jitter,
    /// The start of the name of every counter.
    pub key_prefix: String,
    /// `REDIS` or `REDIS_PERSECOND`: the start of the names of these settings, for error
    /// messages that ask the operator to change one.
    pub setting_prefix: &'static str,
}

/// A Redis deployment and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Single(RedisAddress),
    /// A master that Sentinels monitor.
    Sentinel {
        /// The name of the master in the configuration of the Sentinels.
        master: String,
        /// The addresses of the Sentinels. Never empty.
        sentinels: Vec<RedisAddress>,
    },
    /// Nodes of a cluster, from which the others are discovered. Never empty.
    Cluster(Vec<RedisAddress>),
}

/// The kind of a Redis deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisType {
    /// One server.
    #[default]
    Single,
    /// A master with replicas, and Sentinels that report which server is the master.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

impl RedisSettings {
    /// Parses the URL of one server: see [`Self::from_url`].
    ///
    /// # Errors
    ///
    /// A message for the operator, without the URL and the password.
    pub fn parse(url: &str, auth: Option<&str>, timeout: Duration) -> Result<Self, String> {
        Self::from_url(RedisType::Single, url, auth, timeout)
    }

    /// Parses `url` for a deployment of this `kind`.
    ///
    /// A server is `host`, `host:port`,
    /// `redis://[user][:password@]host[:port][/database]`, the same with
    /// `rediss://` for TLS, `/path` or `unix:///path`. The default port is 6379. User,
    /// password and database may contain `%XX`, and may also be query parameters:
    /// `?username=…&password=…&db=…`. A cluster is a list of servers separated by commas.
    /// For Sentinel, such a list follows the name of the master.
    ///
    /// User and password in the address of a Sentinel are for the Sentinels. The addresses
    /// of a list may not contradict each other, and a value in one of them applies to all.
    ///
    /// `auth` is `password`, `user:password`, or `:password` if the password contains a
    /// colon. It replaces the credentials of the URL, except those of Sentinels. An empty
    /// `auth` is ignored.
    ///
    /// # Errors
    ///
    /// A message for the operator, without the URL and the password.
    pub fn from_url(
        kind: RedisType,
        url: &str,
        auth: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let mut shared = SharedValues::default();
        let servers = match kind {
            RedisType::Single => RedisServers::Single(shared.parse_single(url)?),
            RedisType::Cluster => RedisServers::Cluster(shared.parse_list(url)?),
            RedisType::Sentinel => {
                let (master, sentinels) = shared.parse_sentinels(url)?;
                RedisServers::Sentinel { master, sentinels }
            }
        };
        let SharedValues { login, database, tls } = shared;
        let database = database.unwrap_or_default();
        if kind == RedisType::Cluster && database != 0 {
            return Err("a Redis Cluster has no other database than 0".into());
        }
        let from_url = login.unwrap_or_default();
        let (mut login, sentinel_login) = match kind {
            RedisType::Sentinel => (Login::default(), from_url),
            RedisType::Single | RedisType::Cluster => (from_url, Login::default()),
        };
        if let Some(auth) = auth
            && !auth.is_empty()
        {
            login = Login::parse(auth);
        }
        if login.lacks_password() || sentinel_login.lacks_password() {
            return Err("the Redis URL names a user without a password".into());
        }
        Ok(Self {
            servers,
            login,
            sentinel_login,
            database,
            tls: if tls == Some(true) { Some(ClientTls::default()) } else { None },
            timeout,
            jitter: Jitter::default(),
            key_prefix: String::new(),
            setting_prefix: "REDIS",
        })
    }
}

#[cfg(test)]
mod tests;
