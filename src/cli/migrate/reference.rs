//! What Envoy's reference service makes of its environment.

use crate::duration;

/// A variable that it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What applies where it is not set; empty for nothing.
    pub(super) default: &'static str,
}

impl Variable {
    const fn new(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self { name, kind, default }
    }
}

/// How it reads the text of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Duration,
    Text,
    /// Texts with commas between them.
    List,
    /// `name:value` with commas between them.
    Map,
}
use self::Kind::{Bool, Duration, Float, Int, List, Map, Text};

impl Kind {
    /// Whether it takes an empty text, too; it does not start with one
    /// otherwise.
    pub(super) fn may_be_empty(self) -> bool {
        matches!(self, Text | List | Map)
    }
}

/// The variable called `name`, if it reads one.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|it| it.name == name)
}

/// Variables of which it knows a few words alone, in any case or as they are.
const WORDS: &[(&str, bool, &[&str])] = &[
    ("LOG_LEVEL", true, &["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"]),
    ("CONFIG_TYPE", false, &["FILE", "GRPC_XDS_SOTW"]),
    ("BACKEND_TYPE", false, &["redis", "memcache"]),
    ("REDIS_TYPE", true, &["single", "sentinel", "cluster"]),
    ("REDIS_PERSECOND_TYPE", true, &["single", "sentinel", "cluster"]),
    ("TRACING_EXPORTER_PROTOCOL", false, &["http", "grpc"]),
];

/// Whether it does not start with `text` as the value of `variable`.
pub(super) fn refuses(variable: &Variable, text: &str) -> bool {
    reading(variable, text).is_some_and(|it| it == REFUSED)
}

/// What it would take in place of `text`.
pub(super) fn alike(variable: &Variable, text: &str) -> Option<&'static str> {
    let is = |it: &&str| it.eq_ignore_ascii_case(text);
    if let Some((.., words)) = WORDS.iter().find(|it| it.0 == variable.name) {
        return words.iter().copied().find(|it| is(it));
    }
    match variable.kind {
        Bool if ["yes", "on", "true"].iter().any(is) => Some("true"),
        Bool if ["no", "off", "false"].iter().any(is) => Some("false"),
        _ => None,
    }
}

const REFUSED: &str = "does not start with this either";

/// What it makes of `text` as the value of `variable`, as far as that can be
/// told.
pub(super) fn reading(variable: &Variable, text: &str) -> Option<String> {
    if let Some((_, any_case, words)) = WORDS.iter().find(|it| it.0 == variable.name) {
        let is = |it: &&str| if *any_case { it.eq_ignore_ascii_case(text) } else { *it == text };
        return (!words.iter().any(is)).then(|| REFUSED.into());
    }
    let read = match variable.kind {
        Bool => {
            let words = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false"];
            words.contains(&text) || text == "False"
        }
        Int => return Some(int(text).map_or_else(|| REFUSED.into(), |it| format!("reads {it}"))),
        Float => text.parse::<f64>().is_ok(),
        Duration => duration::parse(text.trim_start_matches(['+', '-'])).is_some(),
        Text | List | Map => return None,
    };
    Some(if read { "accepts this".into() } else { REFUSED.into() })
}

/// A whole number as Go writes them in source text: hexadecimal behind `0x`,
/// octal behind `0o` or a bare `0`, binary behind `0b`.
pub(super) fn int(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.replace('_', "").to_ascii_lowercase();
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_alphanumeric()) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Every variable that it reads, but for those whose names have a part that an
/// operator chooses.
pub(super) const VARIABLES: &[Variable] = &[
    Variable::new("HOST", Text, "0.0.0.0"),
    Variable::new("PORT", Int, "8080"),
    Variable::new("DEBUG_HOST", Text, "0.0.0.0"),
    Variable::new("DEBUG_PORT", Int, "6070"),
    Variable::new("GRPC_UDS", Text, ""),
    Variable::new("GRPC_HOST", Text, "0.0.0.0"),
    Variable::new("GRPC_PORT", Int, "8081"),
    Variable::new("GRPC_MAX_CONNECTION_AGE", Duration, "24h"),
    Variable::new("GRPC_MAX_CONNECTION_AGE_GRACE", Duration, "1h"),
    Variable::new("GRPC_SERVER_USE_TLS", Bool, "false"),
    Variable::new("GRPC_SERVER_TLS_CERT", Text, ""),
    Variable::new("GRPC_SERVER_TLS_KEY", Text, ""),
    Variable::new("GRPC_CLIENT_TLS_CACERT", Text, ""),
    Variable::new("GRPC_CLIENT_TLS_SAN", Text, ""),
    Variable::new("LOG_LEVEL", Text, "WARN"),
    Variable::new("LOG_FORMAT", Text, "text"),
    Variable::new("CONFIG_TYPE", Text, "FILE"),
    Variable::new("FORCE_START_WITHOUT_INITIAL_CONFIG", Bool, "false"),
    Variable::new("CONFIG_GRPC_XDS_NODE_ID", Text, "default"),
    Variable::new("CONFIG_GRPC_XDS_NODE_METADATA", Text, ""),
    Variable::new("CONFIG_GRPC_XDS_SERVER_URL", Text, "localhost:18000"),
    Variable::new("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", Duration, "3s"),
    Variable::new("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", Map, ""),
    Variable::new("CONFIG_GRPC_XDS_SERVER_USE_TLS", Bool, "false"),
    Variable::new("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", Text, ""),
    Variable::new("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", Text, ""),
    Variable::new("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", Text, ""),
    Variable::new("CONFIG_GRPC_XDS_SERVER_TLS_SAN", Text, ""),
    Variable::new("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", Duration, "10s"),
    Variable::new("XDS_CLIENT_BACKOFF_MAX_INTERVAL", Duration, "60s"),
    Variable::new("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", Float, "0.5"),
    Variable::new("XDS_CLIENT_BACKOFF_JITTER", Bool, "true"),
    Variable::new("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", Int, "0"),
    Variable::new("USE_DOG_STATSD", Bool, "false"),
    Variable::new("USE_DOG_STATSD_MOGRIFIERS", List, ""),
    Variable::new("USE_STATSD", Bool, "true"),
    Variable::new("STATSD_HOST", Text, "localhost"),
    Variable::new("STATSD_PORT", Int, "8125"),
    Variable::new("EXTRA_TAGS", Map, ""),
    Variable::new("STATS_FLUSH_INTERVAL", Duration, "10s"),
    Variable::new("DISABLE_STATS", Bool, "false"),
    Variable::new("USE_PROMETHEUS", Bool, "false"),
    Variable::new("PROMETHEUS_ADDR", Text, ":9090"),
    Variable::new("PROMETHEUS_PATH", Text, "/metrics"),
    Variable::new("PROMETHEUS_MAPPER_YAML", Text, ""),
    Variable::new("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", Bool, "false"),
    Variable::new("RUNTIME_ROOT", Text, "/srv/runtime_data/current"),
    Variable::new("RUNTIME_SUBDIRECTORY", Text, ""),
    Variable::new("RUNTIME_APPDIRECTORY", Text, "config"),
    Variable::new("RUNTIME_IGNOREDOTFILES", Bool, "false"),
    Variable::new("RUNTIME_WATCH_ROOT", Bool, "true"),
    Variable::new("EXPIRATION_JITTER_MAX_SECONDS", Int, "300"),
    Variable::new("LOCAL_CACHE_SIZE_IN_BYTES", Int, "0"),
    Variable::new("NEAR_LIMIT_RATIO", Float, "0.8"),
    Variable::new("CACHE_KEY_PREFIX", Text, ""),
    Variable::new("BACKEND_TYPE", Text, "redis"),
    Variable::new("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", Bool, "false"),
    Variable::new("LIMIT_RESPONSE_HEADERS_ENABLED", Bool, "false"),
    Variable::new("LIMIT_LIMIT_HEADER", Text, "RateLimit-Limit"),
    Variable::new("LIMIT_REMAINING_HEADER", Text, "RateLimit-Remaining"),
    Variable::new("LIMIT_RESET_HEADER", Text, "RateLimit-Reset"),
    Variable::new("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", Bool, "false"),
    Variable::new("REDIS_SOCKET_TYPE", Text, "unix"),
    Variable::new("REDIS_TYPE", Text, "SINGLE"),
    Variable::new("REDIS_URL", Text, "/var/run/nutcracker/ratelimit.sock"),
    Variable::new("REDIS_POOL_SIZE", Int, "10"),
    Variable::new("REDIS_AUTH", Text, ""),
    Variable::new("REDIS_TLS", Bool, "false"),
    Variable::new("REDIS_TLS_CLIENT_CERT", Text, ""),
    Variable::new("REDIS_TLS_CLIENT_KEY", Text, ""),
    Variable::new("REDIS_TLS_CACERT", Text, ""),
    Variable::new("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", Bool, "false"),
    Variable::new("REDIS_PIPELINE_WINDOW", Duration, "0"),
    Variable::new("REDIS_PIPELINE_LIMIT", Int, "0"),
    Variable::new("REDIS_CLUSTER_PIPELINE_PARALLELISM", Int, "1"),
    Variable::new("REDIS_PERSECOND", Bool, "false"),
    Variable::new("REDIS_PERSECOND_SOCKET_TYPE", Text, "unix"),
    Variable::new("REDIS_PERSECOND_TYPE", Text, "SINGLE"),
    Variable::new("REDIS_PERSECOND_URL", Text, "/var/run/nutcracker/ratelimitpersecond.sock"),
    Variable::new("REDIS_PERSECOND_POOL_SIZE", Int, "10"),
    Variable::new("REDIS_PERSECOND_AUTH", Text, ""),
    Variable::new("REDIS_PERSECOND_TLS", Bool, "false"),
    Variable::new("REDIS_SENTINEL_AUTH", Text, ""),
    Variable::new("REDIS_PERSECOND_SENTINEL_AUTH", Text, ""),
    Variable::new("REDIS_PERSECOND_PIPELINE_WINDOW", Duration, "0"),
    Variable::new("REDIS_PERSECOND_PIPELINE_LIMIT", Int, "0"),
    Variable::new("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", Int, "1"),
    Variable::new("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Bool, "false"),
    Variable::new("REDIS_TIMEOUT", Duration, "10s"),
    Variable::new("REDIS_PERSECOND_TIMEOUT", Duration, "10s"),
    Variable::new("REDIS_POOL_ON_EMPTY_BEHAVIOR", Text, "WAIT"),
    Variable::new("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", Text, "WAIT"),
    Variable::new("REDIS_STARTUP_INITIAL_INTERVAL", Duration, "1s"),
    Variable::new("REDIS_STARTUP_MAX_INTERVAL", Duration, "30s"),
    Variable::new("REDIS_STARTUP_MAX_ELAPSED_TIME", Duration, "0"),
    Variable::new("MEMCACHE_HOST_PORT", List, ""),
    Variable::new("MEMCACHE_MAX_IDLE_CONNS", Int, "2"),
    Variable::new("MEMCACHE_SRV", Text, ""),
    Variable::new("MEMCACHE_SRV_REFRESH", Duration, "0"),
    Variable::new("MEMCACHE_TLS", Bool, "false"),
    Variable::new("MEMCACHE_TLS_CLIENT_CERT", Text, ""),
    Variable::new("MEMCACHE_TLS_CLIENT_KEY", Text, ""),
    Variable::new("MEMCACHE_TLS_CACERT", Text, ""),
    Variable::new("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", Bool, "false"),
    Variable::new("SHADOW_MODE", Bool, "false"),
    Variable::new("QUOTA_MODE", Bool, "false"),
    Variable::new("RESPONSE_DYNAMIC_METADATA", Bool, "false"),
    Variable::new("MERGE_DOMAIN_CONFIG", Bool, "false"),
    Variable::new("TRACING_ENABLED", Bool, "false"),
    Variable::new("TRACING_SERVICE_NAME", Text, "RateLimit"),
    Variable::new("TRACING_SERVICE_NAMESPACE", Text, ""),
    Variable::new("TRACING_SERVICE_INSTANCE_ID", Text, ""),
    Variable::new("TRACING_EXPORTER_PROTOCOL", Text, "http"),
    Variable::new("TRACING_SAMPLING_RATE", Float, "1"),
    Variable::new("STATSD_PROTOCOL", Text, "tcp"),
];
