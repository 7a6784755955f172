use super::tls::client_certificate;
use crate::{
    settings::{reader::SettingReader, value},
    store::redis::{Jitter, Login, RedisAddress, RedisServers, RedisSettings, RedisType},
    trust::{ClientTls, ExpectedName},
};

const TYPES: [(&str, RedisType); 3] = [
    ("single", RedisType::Single),
    ("sentinel", RedisType::Sentinel),
    ("cluster", RedisType::Cluster),
];

/// The Redis servers to connect to. Both are `None` unless their URL is set.
pub(super) struct RedisPair {
    pub(super) main: Option<RedisSettings>,
    /// A separate Redis for limits per second.
    pub(super) per_second: Option<RedisSettings>,
}

pub(super) fn redis(reader: &mut SettingReader<'_>, key_prefix: &str) -> RedisPair {
    let tls = tls(reader);
    let jitter = Jitter::below(reader.value("EXPIRATION_JITTER_MAX_SECONDS", value::seconds));
    let main = server(reader, &tls, "REDIS");
    let use_per_second = reader.value("REDIS_PERSECOND", value::boolean);
    let per_second = server(reader, &tls, "REDIS_PERSECOND");
    if use_per_second {
        reader.require("REDIS_PERSECOND", "REDIS_PERSECOND_URL");
    }
    let mut servers =
        RedisPair { main, per_second: if use_per_second { per_second } else { None } };
    for server in [&mut servers.main, &mut servers.per_second].into_iter().flatten() {
        server.jitter = jitter;
        key_prefix.clone_into(&mut server.key_prefix);
    }
    servers
}

/// The names of the settings of one Redis.
struct Names {
    url: String,
    kind: String,
    tls: String,
    socket_type: String,
}

/// `prefix` is the start of the names of its settings.
fn server(
    reader: &mut SettingReader<'_>,
    tls: &ClientTls,
    prefix: &'static str,
) -> Option<RedisSettings> {
    let names = Names {
        url: format!("{prefix}_URL"),
        kind: format!("{prefix}_TYPE"),
        tls: format!("{prefix}_TLS"),
        socket_type: format!("{prefix}_SOCKET_TYPE"),
    };
    let timeout = reader.value(&format!("{prefix}_TIMEOUT"), value::positive_duration);
    let auth_name = format!("{prefix}_AUTH");
    let auth = reader.optional(&auth_name, value::text);
    let kind = reader.choice(&names.kind, &TYPES);
    let settings = reader.optional_related(&names.url, &[&names.kind, &auth_name], |url| {
        RedisSettings::from_url(kind, url, auth.as_deref(), timeout)
            .map_err(|problem| problem.replace("REDIS_TYPE", &names.kind))
    });
    let use_tls = reader.value(&names.tls, value::boolean);
    let sentinel_login =
        reader.optional(&format!("{prefix}_SENTINEL_AUTH"), |text| Ok(Login::parse(text)));
    check_socket_type(reader, &names, settings.as_ref());
    let mut settings = settings?;
    settings.setting_prefix = prefix;
    if use_tls || settings.tls.is_some() {
        settings.tls = Some(tls.clone());
        if is_socket(&settings) {
            reader.reject(
                &names.tls,
                &[&names.url, &names.kind],
                "expected false, as the URL names a socket",
            );
        }
    }
    if let Some(login) = sentinel_login {
        settings.sentinel_login = login;
    }
    Some(settings)
}

fn tls(reader: &mut SettingReader<'_>) -> ClientTls {
    let identity = client_certificate(reader, "REDIS_TLS_CLIENT_CERT", "REDIS_TLS_CLIENT_KEY");
    let ca_file = reader.optional("REDIS_TLS_CACERT", value::readable_file);
    let allows_any_name = reader.value("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", value::boolean);
    let name = if allows_any_name { ExpectedName::Any } else { ExpectedName::Host };
    ClientTls { identity, ca_file, name }
}

fn check_socket_type(
    reader: &mut SettingReader<'_>,
    names: &Names,
    settings: Option<&RedisSettings>,
) {
    let words = [("tcp", "tcp"), ("unix", "unix")];
    let socket_type = reader.optional(&names.socket_type, |text| value::one_of(text, &words));
    let (Some(socket_type), Some(settings)) = (socket_type, settings) else { return };
    let problem = match (socket_type, is_socket(settings)) {
        ("tcp", true) => "expected unix, as the URL names a socket",
        ("unix", false) => {
            "expected tcp, as the URL names a host; a socket is written as an absolute path"
        }
        _ => return,
    };
    reader.reject(&names.socket_type, &[&names.url, &names.kind], problem);
}

fn is_socket(settings: &RedisSettings) -> bool {
    matches!(settings.servers, RedisServers::Single(RedisAddress::Unix(_)))
}
