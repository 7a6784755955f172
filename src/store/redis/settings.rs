//! How to reach Redis.

use std::{fmt, path::PathBuf, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::jitter::Jitter;
use super::tls::RedisTls;

/// How to reach Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where its servers are.
    pub servers: RedisServers,
    /// Whom to authenticate as.
    pub login: Login,
    /// Whom to authenticate as where the Sentinels are asked.
    pub sentinel_login: Login,
    /// The number of the database; 0 in a cluster.
    pub database: i64,
    /// How connections are encrypted; none means they are not.
    pub tls: Option<RedisTls>,
    /// How long a call may take, and each attempt to connect.
    pub timeout: Duration,
    /// How much longer than it means something a counter is kept.
    pub jitter: Jitter,
    /// What the names of all counters begin with.
    pub key_prefix: String,
    /// What the names of these settings begin with, for those who have to change one.
    pub setting: &'static str,
}

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// There is one.
    Single(RedisAddress),
    /// Sentinels know it.
    Sentinel {
        /// What they call it.
        master: String,
        /// Where they listen. Never empty.
        sentinels: Vec<RedisAddress>,
    },
    /// Some of a cluster, who know the others. Never empty.
    Cluster(Vec<RedisAddress>),
}

/// How Redis is deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisType {
    /// One server.
    #[default]
    Single,
    /// One server, and others to take its place, as Sentinels say.
    Sentinel,
    /// Several, each with a part of the keys.
    Cluster,
}

/// Whom to authenticate as.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// None means the default user.
    pub username: Option<String>,
    /// None means no authentication.
    pub password: Option<String>,
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
    /// Settings for one server: see [`Self::of`].
    ///
    /// # Errors
    ///
    /// What is wrong, without the URL and the password.
    pub fn parse(url: &str, auth: Option<&str>, timeout: Duration) -> Result<Self, String> {
        Self::of(RedisType::Single, url, auth, timeout)
    }

    /// Understands `url` as `kind` demands.
    ///
    /// A server is `host`, `host:port`,
    /// `redis://[user][:password@]host[:port][/database]`, the same with
    /// `rediss://` for TLS, `/path` or `unix:///path`. What a URL says of user,
    /// password and database may hold `%XX`, and may stand behind it as
    /// `?username=…&password=…&db=…`. Without a port it is 6379. A cluster
    /// is a list of servers with commas between them, and Sentinels are such a
    /// list after the name of what they guard.
    ///
    /// `auth` is `password` or `user:password`; it takes the place of what the
    /// URL says. `:password` is for a password with a colon. Empty is the same as
    /// none.
    ///
    /// # Errors
    ///
    /// What is wrong, without the URL and the password.
    pub fn of(
        kind: RedisType,
        url: &str,
        auth: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let mut found = Found::default();
        let servers = match kind {
            RedisType::Single => RedisServers::Single(found.server(url)?),
            RedisType::Cluster => RedisServers::Cluster(found.servers(url)?),
            RedisType::Sentinel => {
                let (master, sentinels) = url.split_once(',').ok_or(NO_SENTINELS)?;
                if master.is_empty() || master.contains([':', '/']) {
                    return Err(NO_SENTINELS.into());
                }
                let sentinels = found.servers(sentinels)?;
                RedisServers::Sentinel { master: master.to_owned(), sentinels }
            }
        };
        if kind == RedisType::Cluster && found.database != 0 {
            return Err("a Redis Cluster has no other database than 0".into());
        }
        let Found { mut login, database, tls } = found;
        if let Some(auth) = auth.filter(|it| !it.is_empty()) {
            login = Login::parse(auth);
        }
        if login.username.is_some() && login.password.is_none() {
            return Err("the Redis URL names a user without a password".into());
        }
        let tls = tls.then(RedisTls::default);
        let (sentinel_login, jitter, key_prefix) = Default::default();
        let setting = "REDIS";
        Ok(Self {
            servers,
            login,
            sentinel_login,
            database,
            tls,
            timeout,
            jitter,
            key_prefix,
            setting,
        })
    }
}

const NO_SENTINELS: &str = "the Redis address does not name what the Sentinels guard, and where \
                            they are; expected name,host:port,host:port";

/// What the URLs of servers say.
#[derive(Default)]
struct Found {
    login: Login,
    database: i64,
    tls: bool,
}

impl Found {
    fn servers(&mut self, urls: &str) -> Result<Vec<RedisAddress>, String> {
        let addresses = urls.split(',').map(|it| self.server(it));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        if addresses.iter().any(|it| matches!(it, RedisAddress::Unix(_))) {
            return Err("the Redis address is a socket; expected host:port,host:port".into());
        }
        Ok(addresses)
    }

    fn server(&mut self, url: &str) -> Result<RedisAddress, String> {
        let info = parse_url(url)?;
        let redis = info.redis_settings();
        if redis.username().is_some() || redis.password().is_some() {
            self.login = Login {
                username: redis.username().filter(|it| !it.is_empty()).map(Into::into),
                password: redis.password().map(Into::into),
            };
        }
        self.database = self.database.max(redis.db());
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                Ok(RedisAddress::Tcp { host: host.clone(), port: *port })
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                self.tls = true;
                Ok(RedisAddress::Tcp { host: host.clone(), port: *port })
            }
            ConnectionAddr::Unix(path) => Ok(RedisAddress::Unix(path.clone())),
            _ => Err(EXPECTED.into()),
        }
    }
}

impl Login {
    /// Understands `password`, `user:password` and `:password`.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((username, password)) => Self {
                username: Some(username).filter(|it| !it.is_empty()).map(Into::into),
                password: Some(password.into()),
            },
            None => Self { username: None, password: Some(text.into()) },
        }
    }
}

const EXPECTED: &str = "expected host:port, redis://user:password@host:port/database, \
                        rediss:// for TLS, /path or unix:///path";

fn parse_url(url: &str) -> Result<ConnectionInfo, String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let info = match scheme {
        None if url.starts_with('/') => ConnectionAddr::Unix(url.into()).into_connection_info(),
        None => format!("redis://{url}").into_connection_info(),
        // The client would silently skip it.
        Some(_) if url.contains('#') => {
            return Err("the Redis URL has a `#`; write it as %23 in a password".into());
        }
        Some(_) => url.split('?').next().unwrap_or_default().into_connection_info(),
    };
    let info = info
        .map_err(|error| format!("the Redis address cannot be understood ({error}); {EXPECTED}"))?;
    if scheme.is_some() { with_query(info, url) } else { Ok(info) }
}

/// `info`, with what `url` says behind a `?`, which the client skips or means
/// otherwise.
fn with_query(info: ConnectionInfo, url: &str) -> Result<ConnectionInfo, String> {
    let url = redis::parse_redis_url(url).ok_or(EXPECTED)?;
    let mut redis = info.redis_settings().clone();
    for (key, value) in url.query_pairs() {
        redis = match &*key {
            "username" => redis.set_username(value),
            "password" => redis.set_password(value),
            "db" => redis.set_db(
                value
                    .parse()
                    .map_err(|_| "the Redis URL has a `db` that is not a number".to_owned())?,
            ),
            _ => {
                return Err("the Redis URL has a `?` with something else than username, password \
                            or db behind it; write it as %3f in a password"
                    .into());
            }
        };
    }
    Ok(info.set_redis_settings(redis))
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

impl fmt::Debug for Login {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(settings: &RedisSettings) -> String {
        let list =
            |it: &[RedisAddress]| it.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let servers = match &settings.servers {
            RedisServers::Single(address) => address.to_string(),
            RedisServers::Cluster(addresses) => list(addresses),
            RedisServers::Sentinel { master, sentinels } => format!("{master} {}", list(sentinels)),
        };
        let Login { username, password } = &settings.login;
        let or_none = |it: &Option<String>| it.clone().unwrap_or("-".into());
        let (username, password) = (or_none(username), or_none(password));
        let tls = if settings.tls.is_some() { " tls" } else { "" };
        format!("{servers} {username} {password} {}{tls}", settings.database)
    }

    /// `expected` is address, user, password and database.
    #[track_caller]
    fn check(url: &str, auth: Option<&str>, expected: &str) {
        check_as(RedisType::Single, url, auth, expected);
    }

    #[track_caller]
    fn check_as(kind: RedisType, url: &str, auth: Option<&str>, expected: &str) {
        let found = match RedisSettings::of(kind, url, auth, Duration::from_millis(20)) {
            Ok(it) => show(&it),
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
        check("redis://redis?password=s%26t", None, "redis:6379 - s&t 0");
        check("redis://a:b@redis/1?username=u&db=3", None, "redis:6379 u b 3");
        check("rediss://redis:7?username=u&password=p", Some("q"), "redis:7 - q 0 tls");
        check("unix:///run/redis.sock?db=2", None, "/run/redis.sock - - 2");
        check("redis://ann:pass@redis:7000/3", None, "redis:7000 ann pass 3");
        check("redis://:pass@[::1]:7000", None, "[::1]:7000 - pass 0");
        check("/run/redis?.sock", None, "/run/redis?.sock - - 0");
        check("unix:///run/redis%20x.sock", None, "/run/redis x.sock - - 0");
        check("rediss://:pass@redis/2", None, "redis:6379 - pass 2 tls");
    }

    #[test]
    fn clusters_and_sentinels_are_lists() {
        let cluster = |url, expected| check_as(RedisType::Cluster, url, None, expected);
        cluster("a:1", "a:1 - - 0");
        cluster("a:1,redis://ann:pass@b,[::1]:3", "a:1,b:6379,[::1]:3 ann pass 0");
        cluster("rediss://a,b", "a:6379,b:6379 - - 0 tls");
        cluster("a/1", "a Redis Cluster has no other database than 0");
        cluster("a,/socket", "the Redis address is a socket; expected host:port,host:port");
        let sentinel = |url, expected| check_as(RedisType::Sentinel, url, Some("p"), expected);
        sentinel("main,a:1,b", "main a:1,b:6379 - p 0");
        sentinel("main,a/3", "main a:6379 - p 3");
        for wrong in ["main", "a:1,b:2", ",a:1", "redis://a,b"] {
            sentinel(wrong, NO_SENTINELS);
        }
    }

    #[test]
    fn explicit_credentials_replace_those_of_the_url() {
        check("redis", Some("pass"), "redis:6379 - pass 0");
        check("redis", Some("ann:pa:ss"), "redis:6379 ann pa:ss 0");
        check("redis", Some(":pass"), "redis:6379 - pass 0");
        check("redis", Some(":pa:ss"), "redis:6379 - pa:ss 0");
        check("/redis.sock", Some("ann:pass"), "/redis.sock ann pass 0");
        check("redis://bob:word@redis/2", Some("ann:pass"), "redis:6379 ann pass 2");
        check("redis://bob:word@redis", Some("pass"), "redis:6379 - pass 0");
        check("redis://bob:word@redis", Some(""), "redis:6379 bob word 0");
    }

    #[test]
    fn mistakes_are_explained_without_the_password() {
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
            "redis://redis?pass=secret",
            "redis://redis?db=secret",
            "redis://redis?password=secret#",
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
