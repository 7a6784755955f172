//! Parses REDIS_URL: one address, or a list of them.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::address::{Login, RedisAddress};

pub(super) const NO_SENTINELS: &str = "the Redis address lacks the name of the master or the \
                                       addresses of the Sentinels; expected \
                                       name,host:port,host:port";

pub(super) const UNEXPECTED_LIST: &str = "the Redis address is a list, but REDIS_TYPE is single; \
                                          set REDIS_TYPE to cluster, or to sentinel if the list \
                                          starts with the name of a master";

const EXPECTED: &str = "expected host:port, redis://user:password@host:port/database, \
                        rediss:// for TLS, /path or unix:///path";

/// The values that the URLs of one list share. A value that no URL contains is `None`.
#[derive(Default)]
pub(super) struct SharedValues {
    pub(super) login: Option<Login>,
    pub(super) database: Option<i64>,
    pub(super) tls: Option<bool>,
}

impl SharedValues {
    /// Parses the URL of a single server.
    pub(super) fn parse_single(&mut self, url: &str) -> Result<RedisAddress, String> {
        let mut others = url.split(',').skip(1).peekable();
        let has_others = others.peek().is_some() && others.all(|other| parse_url(other).is_ok());
        match self.parse_server(url) {
            Ok(RedisAddress::Tcp { host, .. }) if host.contains(',') => Err(UNEXPECTED_LIST.into()),
            Err(_) if has_others => Err(UNEXPECTED_LIST.into()),
            server => server,
        }
    }

    /// Parses URLs with commas between them.
    pub(super) fn parse_list(&mut self, urls: &str) -> Result<Vec<RedisAddress>, String> {
        let mut addresses = Vec::new();
        for url in urls.split(',') {
            let address = self.parse_server(url)?;
            addresses.push(address);
        }
        if addresses.iter().any(|address| matches!(address, RedisAddress::Unix(_))) {
            return Err("the Redis address is a socket; expected host:port,host:port".into());
        }
        Ok(addresses)
    }

    /// Parses the URL of a sentinel-guarded master: its name, and a list of Sentinels.
    pub(super) fn parse_sentinels(
        &mut self,
        url: &str,
    ) -> Result<(String, Vec<RedisAddress>), String> {
        let (master, sentinels) = url.split_once(',').ok_or(NO_SENTINELS)?;
        if master.is_empty() || master.contains([':', '/']) {
            return Err(NO_SENTINELS.into());
        }
        Ok((master.to_owned(), self.parse_list(sentinels)?))
    }

    fn parse_server(&mut self, url: &str) -> Result<RedisAddress, String> {
        let info = parse_url(url)?;
        let redis = info.redis_settings();
        let mut login = None;
        if redis.username().is_some() || redis.password().is_some() {
            login = Some(Login {
                username: redis.username().filter(|name| !name.is_empty()).map(Into::into),
                password: redis.password().map(Into::into),
            });
        }
        let database = if has_database(url) { Some(redis.db()) } else { None };
        let tls = url.split_once("://").map(|(scheme, _)| scheme == "rediss");
        merge(&mut self.login, login, "all have to have the same user and password, or one alone")?;
        merge(&mut self.database, database, "all have to have the same database")?;
        merge(&mut self.tls, tls, "all have to begin with redis://, or all with rediss://")?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok(RedisAddress::Tcp { host: host.clone(), port: *port })
            }
            ConnectionAddr::Unix(path) => Ok(RedisAddress::Unix(path.clone())),
            _ => Err(EXPECTED.into()),
        }
    }
}

/// Sets `shared` to `value`, which is an error if an earlier URL had another value.
fn merge<T: PartialEq>(
    shared: &mut Option<T>,
    value: Option<T>,
    requirement: &str,
) -> Result<(), String> {
    if value.is_none() {
        return Ok(());
    }
    if shared.is_some() && *shared != value {
        return Err(format!("the Redis addresses contradict each other: {requirement}"));
    }
    *shared = value;
    Ok(())
}

fn parse_url(url: &str) -> Result<ConnectionInfo, String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let info = match scheme {
        None if url.starts_with('/') => ConnectionAddr::Unix(url.into()).into_connection_info(),
        None => format!("redis://{url}").into_connection_info(),
        // The Redis client would silently ignore the rest.
        Some(_) if url.contains('#') => {
            return Err("the Redis URL has a `#`; write it as %23 in a password".into());
        }
        Some(_) => url.split('?').next().unwrap_or_default().into_connection_info(),
    };
    let info = info
        .map_err(|error| format!("the Redis address cannot be understood ({error}); {EXPECTED}"))?;
    if scheme.is_some() { with_query(info, url) } else { Ok(info) }
}

/// The database may also be 0: in a list, an explicit 0 contradicts another number.
fn has_database(url: &str) -> bool {
    let parsed = if url.contains("://") {
        redis::parse_redis_url(url)
    } else {
        redis::parse_redis_url(&format!("redis://{url}"))
    };
    let Some(parsed) = parsed else { return false };
    let in_path = parsed.scheme().starts_with("redis") && parsed.path().len() > 1;
    in_path || parsed.query_pairs().any(|(key, _)| key == "db")
}

/// Returns `info` with the query parameters of `url`, which the Redis client ignores or
/// interprets in other ways.
fn with_query(info: ConnectionInfo, url: &str) -> Result<ConnectionInfo, String> {
    let url = redis::parse_redis_url(url).ok_or(EXPECTED)?;
    let mut redis = info.redis_settings().clone();
    for (key, value) in url.query_pairs() {
        redis = match &*key {
            "username" => redis.set_username(value),
            "password" => redis.set_password(value),
            "db" => {
                let Ok(database) = value.parse() else {
                    return Err("the Redis URL has a `db` that is not a number".into());
                };
                redis.set_db(database)
            }
            _ => {
                return Err("the Redis URL has a `?` followed by something else than username, \
                            password or db; write it as %3f in a password"
                    .into());
            }
        };
    }
    Ok(info.set_redis_settings(redis))
}
