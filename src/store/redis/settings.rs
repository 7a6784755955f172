//! How to reach a Redis server.

use std::{fmt, path::PathBuf, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

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
    /// How long a call may take.
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
    /// Understands `host`, `host:port`, `redis://[user][:password@]host[:port][/database]`,
    /// `/path` and `unix:///path`. What a URL says of user, password and
    /// database may hold `%XX`. Without a port it is 6379.
    ///
    /// `auth` is `password` or `user:password`; it takes the place of what the
    /// URL says. Empty is the same as none.
    ///
    /// # Errors
    ///
    /// What is wrong, without the URL and the password.
    pub fn parse(url: &str, auth: Option<&str>, timeout: Duration) -> Result<Self, String> {
        let info = parse_url(url)?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                RedisAddress::Tcp { host: host.clone(), port: *port }
            }
            ConnectionAddr::Unix(path) => RedisAddress::Unix(path.clone()),
            _ => return Err(NO_TLS.into()),
        };
        let redis = info.redis_settings();
        let (username, password) = match auth.filter(|it| !it.is_empty()) {
            Some(auth) => match auth.split_once(':') {
                Some((username, password)) => (Some(username), Some(password)),
                None => (None, Some(auth)),
            },
            None => (redis.username(), redis.password()),
        };
        if username.is_some() && password.is_none() {
            return Err("the Redis URL names a user without a password".into());
        }
        Ok(Self {
            address,
            username: username.filter(|it| !it.is_empty()).map(Into::into),
            password: password.map(Into::into),
            database: redis.db(),
            timeout,
        })
    }
}

const NO_TLS: &str = "TLS to Redis is not supported yet; expected redis:// in place of rediss://";

fn parse_url(url: &str) -> Result<ConnectionInfo, String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if matches!(scheme, Some("rediss" | "valkeys")) {
        return Err(NO_TLS.into());
    }
    let info = match scheme {
        None if url.starts_with('/') => ConnectionAddr::Unix(url.into()).into_connection_info(),
        None => format!("redis://{url}").into_connection_info(),
        // The client would silently skip most of it.
        Some(_) if url.contains(['?', '#']) => {
            return Err(
                "the Redis URL has a `?` or `#`; write them as %3f and %23 in a password, \
                        and the database as redis://host/1"
                    .into(),
            );
        }
        Some(_) => url.into_connection_info(),
    };
    info.map_err(|error| {
        format!(
            "the Redis address cannot be understood ({error}); expected host:port, \
             redis://user:password@host:port/database, /path or unix:///path"
        )
    })
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is address, user, password and database.
    #[track_caller]
    fn check(url: &str, auth: Option<&str>, expected: &str) {
        let found = match RedisSettings::parse(url, auth, Duration::from_millis(20)) {
            Ok(it) => format!(
                "{} {} {} {}",
                it.address,
                it.username.as_deref().unwrap_or("-"),
                it.password.as_deref().unwrap_or("-"),
                it.database
            ),
            Err(error) => error,
        };
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn addresses_are_understood_in_every_form() {
        check("redis", None, "redis:6379 - - 0");
        check("my_redis.example:7000", None, "my_redis.example:7000 - - 0");
        check("127.0.0.1:7000", None, "127.0.0.1:7000 - - 0");
        check("[::1]:7000", None, "[::1]:7000 - - 0");
        check("[::1]", None, "[::1]:6379 - - 0");
        check("redis://redis", None, "redis:6379 - - 0");
        check("redis://redis:7000/3", None, "redis:7000 - - 3");
        check("redis://:p%40ss%3f@redis", None, "redis:6379 - p@ss? 0");
        check("redis://ann:pass@redis:7000/3", None, "redis:7000 ann pass 3");
        check("redis://:pass@[::1]:7000", None, "[::1]:7000 - pass 0");
        check("/run/redis?.sock", None, "/run/redis?.sock - - 0");
        check("unix:///run/redis%20x.sock", None, "/run/redis x.sock - - 0");
    }

    #[test]
    fn explicit_credentials_replace_those_of_the_url() {
        check("redis", Some("pass"), "redis:6379 - pass 0");
        check("redis", Some("ann:pa:ss"), "redis:6379 ann pa:ss 0");
        check("redis", Some(":pass"), "redis:6379 - pass 0");
        check("/redis.sock", Some("ann:pass"), "/redis.sock ann pass 0");
        check("redis://bob:word@redis/2", Some("ann:pass"), "redis:6379 ann pass 2");
        check("redis://bob:word@redis", Some("pass"), "redis:6379 - pass 0");
        check("redis://bob:word@redis", Some(""), "redis:6379 bob word 0");
    }

    #[test]
    fn mistakes_are_explained_without_the_password() {
        check("rediss://:secret@redis", None, NO_TLS);
        for url in [
            "",
            ":7000",
            "redis://",
            "redis:secret",
            "redis:99999",
            "redis://:secret@redis/one",
            "redis://:secret@redis:port",
            "redis://:secret#@redis",
            "redis://:secret?@redis",
            "redis://redis?password=secret",
            "redis://secret@redis",
            "http://secret@redis",
            "unix://secret",
            "redis://:%ffsecret@redis",
        ] {
            let error = RedisSettings::parse(url, None, Duration::ZERO).expect_err(url);
            assert!(!error.contains("secret") && error.starts_with("the Redis "), "{url}: {error}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings = RedisSettings::parse("redis://a:secret@b", None, Duration::ZERO).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
