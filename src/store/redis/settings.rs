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
    /// User and password in the address of a Sentinel are for the Sentinels. Addresses of
    /// one list may not contradict each other; what one says holds for all.
    ///
    /// `auth` is `password` or `user:password`; it takes the place of what the
    /// URL says, other than of Sentinels. `:password` is for a password with a colon.
    /// Empty is the same as none.
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
            RedisType::Single => RedisServers::Single(found.lone(url)?),
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
        if kind == RedisType::Cluster && found.database.is_some_and(|it| it != 0) {
            return Err("a Redis Cluster has no other database than 0".into());
        }
        let Found { login, database, tls } = found;
        let named = login.unwrap_or_default();
        // What stands before the address of a Sentinel is for that.
        let (mut login, sentinel_login) = match kind {
            RedisType::Sentinel => (Login::default(), named),
            RedisType::Single | RedisType::Cluster => (named, Login::default()),
        };
        if let Some(auth) = auth.filter(|it| !it.is_empty()) {
            login = Login::parse(auth);
        }
        if [&login, &sentinel_login].iter().any(|it| it.username.is_some() && it.password.is_none())
        {
            return Err("the Redis URL names a user without a password".into());
        }
        let (database, tls) = (database.unwrap_or_default(), tls == Some(true));
        let tls = tls.then(RedisTls::default);
        let (jitter, key_prefix) = Default::default();
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

const SEVERAL: &str = "the Redis address is a list, and REDIS_TYPE is single; set REDIS_TYPE to \
                       cluster, or to sentinel if the first of them is the name of a master";

/// What the URLs of servers say.
#[derive(Default)]
struct Found {
    login: Option<Login>,
    database: Option<i64>,
    tls: Option<bool>,
}

/// Notes what an address says, unless another has said something else.
fn note<T: PartialEq>(found: &mut Option<T>, said: Option<T>, what: &str) -> Result<(), String> {
    match said {
        Some(said) if found.as_ref().is_some_and(|it| *it != said) => {
            Err(format!("the Redis addresses contradict each other: {what}"))
        }
        None => Ok(()),
        said => {
            *found = said;
            Ok(())
        }
    }
}

impl Found {
    /// The only server there is.
    fn lone(&mut self, url: &str) -> Result<RedisAddress, String> {
        let mut others = url.split(',').skip(1).peekable();
        let has_others = others.peek().is_some() && others.all(|it| parse_url(it).is_ok());
        match self.server(url) {
            Ok(RedisAddress::Tcp { host, .. }) if host.contains(',') => Err(SEVERAL.into()),
            Err(_) if has_others => Err(SEVERAL.into()),
            server => server,
        }
    }

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
        let login = (redis.username().is_some() || redis.password().is_some()).then(|| Login {
            username: redis.username().filter(|it| !it.is_empty()).map(Into::into),
            password: redis.password().map(Into::into),
        });
        note(&mut self.login, login, "all have to have the same user and password, or one alone")?;
        let database = names_database(url).then(|| redis.db());
        note(&mut self.database, database, "all have to have the same database")?;
        let scheme = url.split_once("://").map(|(scheme, _)| scheme == "rediss");
        note(&mut self.tls, scheme, "all have to begin with redis://, or all with rediss://")?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                Ok(RedisAddress::Tcp { host: host.clone(), port: *port })
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
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

/// Whether `url` says which database, be it the first.
fn names_database(url: &str) -> bool {
    let parsed = match url.contains("://") {
        true => redis::parse_redis_url(url),
        false => redis::parse_redis_url(&format!("redis://{url}")),
    };
    parsed.is_some_and(|it| {
        let in_path = it.scheme().starts_with("redis") && it.path().len() > 1;
        in_path || it.query_pairs().any(|(key, _)| key == "db")
    })
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
mod tests;
