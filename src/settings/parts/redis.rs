//! How to reach Redis.

use super::{no_tls, text};
use crate::{
    settings::{reader::Reader, value},
    store::redis::{RedisAddress, RedisSettings},
};

pub(super) fn redis(reader: &mut Reader<'_>) -> Option<RedisSettings> {
    let timeout = reader.value("REDIS_TIMEOUT", value::some_duration);
    let auth = reader.optional("REDIS_AUTH", text);
    let settings =
        reader.optional("REDIS_URL", |url| RedisSettings::parse(url, auth.as_deref(), timeout));
    reader.optional("REDIS_TYPE", redis_type);
    reader.optional("REDIS_TLS", no_tls);
    let sockets = [("tcp", false), ("unix", true)];
    let unix = reader.optional("REDIS_SOCKET_TYPE", |it| value::one_of(it, &sockets));
    if let (Some(unix), Some(settings)) = (unix, &settings) {
        match (unix, &settings.address) {
            (false, RedisAddress::Tcp { .. }) | (true, RedisAddress::Unix(_)) => {}
            (false, RedisAddress::Unix(_)) => {
                reader.refuse("REDIS_SOCKET_TYPE", "expected unix, as REDIS_URL names a socket");
            }
            (true, RedisAddress::Tcp { .. }) => reader.refuse(
                "REDIS_SOCKET_TYPE",
                "expected tcp, as REDIS_URL names a host; a socket is written as an absolute path",
            ),
        }
    }
    settings
}

fn redis_type(text: &str) -> Result<(), String> {
    if let Some(name) = value::choice(text, &[("sentinel", "Sentinel"), ("cluster", "Cluster")]) {
        return Err(format!(
            "Redis {name} is not supported yet; use single, with REDIS_URL naming one server"
        ));
    }
    value::one_of(text, &[("single", ())])
}
