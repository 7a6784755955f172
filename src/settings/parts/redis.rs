//! How to reach Redis.

use std::time::Duration;

use super::text;
use crate::{
    settings::{reader::SettingReader, value},
    store::redis::{
        ClientCertificate, Jitter, Login, RedisAddress, RedisServers, RedisSettings, RedisTls,
        RedisType,
    },
};

const TYPES: [(&str, RedisType); 3] = [
    ("single", RedisType::Single),
    ("sentinel", RedisType::Sentinel),
    ("cluster", RedisType::Cluster),
];

/// The Redis for all counters, and the one for limits per second, if that is
/// another.
pub(super) fn redis(
    reader: &mut SettingReader<'_>,
    key_prefix: &str,
) -> (Option<RedisSettings>, Option<RedisSettings>) {
    let certificates = certificates(reader);
    let jitter = Jitter::below(reader.value("EXPIRATION_JITTER_MAX_SECONDS", value::seconds));
    let main = one(reader, &certificates, "REDIS");
    let wanted = reader.value("REDIS_PERSECOND", value::boolean);
    let per_second = one(reader, &certificates, "REDIS_PERSECOND");
    if wanted && !reader.is_set("REDIS_PERSECOND_URL") {
        reader.reject(
            "REDIS_PERSECOND",
            &["REDIS_PERSECOND_URL"],
            "expected REDIS_PERSECOND_URL to be set, too",
        );
    }
    let complete = |it: RedisSettings| {
        let key_prefix = key_prefix.to_owned();
        RedisSettings { jitter, key_prefix, ..it }
    };
    (main.map(complete), per_second.filter(|_| wanted).map(complete))
}

fn one(
    reader: &mut SettingReader<'_>,
    certificates: &RedisTls,
    setting: &'static str,
) -> Option<RedisSettings> {
    let name = |it: &str| format!("{setting}_{it}");
    let timeout = reader.value(&name("TIMEOUT"), value::some_duration);
    let auth = reader.optional(&name("AUTH"), text);
    let kind = reader.value(&name("TYPE"), |it| value::one_of(it, &TYPES));
    let settings = reader.optional_related(&name("URL"), &[&name("TYPE"), &name("AUTH")], |url| {
        let settings = RedisSettings::from_url(kind, url, auth.as_deref(), timeout);
        settings.map_err(|problem| problem.replace("REDIS_TYPE", &name("TYPE")))
    });
    let tls = reader.value(&name("TLS"), value::boolean);
    let sentinel_login = reader.optional(&name("SENTINEL_AUTH"), |it| Ok(Login::parse(it)));
    socket_type(reader, &name, settings.as_ref());
    let mut settings = settings?;
    settings.setting_prefix = setting;
    if settings.tls.is_some() || tls {
        settings.tls = Some(certificates.clone());
    }
    if settings.tls.is_some()
        && matches!(settings.servers, RedisServers::Single(RedisAddress::Unix(_)))
    {
        reader.reject(
            &name("TLS"),
            &[&name("URL"), &name("TYPE")],
            "expected false, as the URL names a socket",
        );
    }
    if let Some(login) = sentinel_login {
        settings.sentinel_login = login;
    }
    Some(settings)
}

fn certificates(reader: &mut SettingReader<'_>) -> RedisTls {
    const CERTIFICATE: &str = "REDIS_TLS_CLIENT_CERT";
    const KEY: &str = "REDIS_TLS_CLIENT_KEY";
    let certificate = reader.optional(CERTIFICATE, value::readable);
    let key = reader.optional(KEY, value::readable);
    if certificate.is_some() && !reader.is_set(KEY) {
        reader.reject(CERTIFICATE, &[KEY], "expected REDIS_TLS_CLIENT_KEY to be set, too");
    }
    if key.is_some() && !reader.is_set(CERTIFICATE) {
        reader.reject(KEY, &[CERTIFICATE], "expected REDIS_TLS_CLIENT_CERT to be set, too");
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        _ => None,
    };
    let ca_file = reader.optional("REDIS_TLS_CACERT", value::readable);
    let skip_hostname_verification =
        reader.value("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", value::boolean);
    RedisTls { client, ca_file, skip_hostname_verification }
}

fn socket_type(
    reader: &mut SettingReader<'_>,
    name: &dyn Fn(&str) -> String,
    settings: Option<&RedisSettings>,
) {
    let others = [&*name("URL"), &*name("TYPE")];
    let name = &name("SOCKET_TYPE");
    let sockets = [("tcp", false), ("unix", true)];
    let unix = reader.optional(name, |it| value::one_of(it, &sockets));
    let Some((unix, settings)) = unix.zip(settings) else { return };
    let is_socket = matches!(settings.servers, RedisServers::Single(RedisAddress::Unix(_)));
    match (unix, is_socket) {
        (false, true) => reader.reject(name, &others, "expected unix, as the URL names a socket"),
        (true, false) => reader.reject(
            name,
            &others,
            "expected tcp, as the URL names a host; a socket is written as an absolute path",
        ),
        _ => {}
    }
}

/// After how long without any answer since the start to give up; none means never.
pub(super) fn startup_timeout(reader: &mut SettingReader<'_>) -> Option<Duration> {
    let after = reader.value("REDIS_STARTUP_MAX_ELAPSED_TIME", value::duration);
    Some(after).filter(|it| !it.is_zero())
}
