//! The environment variables of Envoy's reference service, and its parsing of
//! their values.

use crate::duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct ReferenceVariable {
    pub(super) name: &'static str,
    pub(super) syntax: Syntax,
    /// Empty if there is no default.
    pub(super) default: &'static str,
}

const fn variable(name: &'static str, syntax: Syntax, default: &'static str) -> ReferenceVariable {
    ReferenceVariable { name, syntax, default }
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Bool,
    Int,
    Float,
    Duration,
    Text,
    /// Texts separated by commas.
    List,
    /// `name:value` pairs separated by commas.
    Map,
}
use self::Syntax::{Bool, Duration, Float, Int, List, Map, Text};

impl Syntax {
    /// The reference does not start with an empty value of any other syntax.
    pub(super) fn allows_empty(self) -> bool {
        matches!(self, Text | List | Map)
    }
}

pub(super) fn find(name: &str) -> Option<&'static ReferenceVariable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// A variable with a fixed set of values.
struct WordList {
    name: &'static str,
    case: LetterCase,
    words: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetterCase {
    Any,
    Exact,
}

const LOG_LEVELS: &[&str] =
    &["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];
const NETWORKS: &[&str] = &["tcp", "tcp4", "tcp6", "unix"];
const REDIS_TYPES: &[&str] = &["single", "sentinel", "cluster"];

const WORD_LISTS: &[WordList] = &[
    WordList { name: "LOG_LEVEL", case: LetterCase::Any, words: LOG_LEVELS },
    WordList { name: "CONFIG_TYPE", case: LetterCase::Exact, words: &["FILE", "GRPC_XDS_SOTW"] },
    WordList { name: "BACKEND_TYPE", case: LetterCase::Exact, words: &["redis", "memcache"] },
    WordList { name: "REDIS_SOCKET_TYPE", case: LetterCase::Exact, words: NETWORKS },
    WordList { name: "REDIS_PERSECOND_SOCKET_TYPE", case: LetterCase::Exact, words: NETWORKS },
    WordList { name: "REDIS_TYPE", case: LetterCase::Any, words: REDIS_TYPES },
    WordList { name: "REDIS_PERSECOND_TYPE", case: LetterCase::Any, words: REDIS_TYPES },
    WordList {
        name: "TRACING_EXPORTER_PROTOCOL",
        case: LetterCase::Exact,
        words: &["http", "grpc"],
    },
];

fn find_word_list(name: &str) -> Option<&'static WordList> {
    WORD_LISTS.iter().find(|list| list.name == name)
}

fn find_ignoring_case(words: &[&'static str], text: &str) -> Option<&'static str> {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text))
}

/// The value that means for the reference the same as `text` for tollgate.
pub(super) fn equivalent(variable: &ReferenceVariable, text: &str) -> Option<&'static str> {
    if let Some(list) = find_word_list(variable.name) {
        return find_ignoring_case(list.words, text);
    }
    if variable.syntax != Bool {
        return None;
    }
    if find_ignoring_case(&["yes", "on", "true"], text).is_some() {
        return Some("true");
    }
    if find_ignoring_case(&["no", "off", "false"], text).is_some() {
        return Some("false");
    }
    None
}

/// The reaction of the reference to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Accepted,
    /// The value of an integer, which may be octal or hexadecimal.
    Integer(i64),
    /// The reference does not start.
    Rejected,
    /// The reference checks the value in a way that is not modelled here.
    Unknown,
}

/// Parses `text` as the reference does.
pub(super) fn read(variable: &ReferenceVariable, text: &str) -> Reading {
    let is_accepted = if let Some(list) = find_word_list(variable.name) {
        if list.words.contains(&text) {
            return Reading::Unknown;
        }
        if list.case == LetterCase::Any && find_ignoring_case(list.words, text).is_some() {
            return Reading::Unknown;
        }
        false
    } else {
        match variable.syntax {
            Bool => BOOL_WORDS.contains(&text),
            Int => match parse_int(text) {
                Some(number) => return Reading::Integer(number),
                None => false,
            },
            Float => text.parse::<f64>().is_ok(),
            Duration => duration::parse(text.trim_start_matches(['+', '-'])).is_some(),
            Text | List | Map => return Reading::Unknown,
        }
    };
    if is_accepted { Reading::Accepted } else { Reading::Rejected }
}

/// The words that Go's `strconv.ParseBool` accepts.
const BOOL_WORDS: [&str; 12] =
    ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];

/// Parses an integer literal of Go: hexadecimal with the prefix `0x`, octal
/// with `0o` or `0`, binary with `0b`.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.replace('_', "").to_ascii_lowercase();
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    // A second sign would be accepted below.
    if !digits.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// All variables that the reference reads, without the `DOG_STATSD_MOGRIFIER_*`
/// variables, which have a name chosen by the operator.
pub(super) const VARIABLES: &[ReferenceVariable] = &[
    variable("HOST", Text, "0.0.0.0"),
    variable("PORT", Int, "8080"),
    variable("DEBUG_HOST", Text, "0.0.0.0"),
    variable("DEBUG_PORT", Int, "6070"),
    variable("GRPC_UDS", Text, ""),
    variable("GRPC_HOST", Text, "0.0.0.0"),
    variable("GRPC_PORT", Int, "8081"),
    variable("GRPC_MAX_CONNECTION_AGE", Duration, "24h"),
    variable("GRPC_MAX_CONNECTION_AGE_GRACE", Duration, "1h"),
    variable("GRPC_SERVER_USE_TLS", Bool, "false"),
    variable("GRPC_SERVER_TLS_CERT", Text, ""),
    variable("GRPC_SERVER_TLS_KEY", Text, ""),
    variable("GRPC_CLIENT_TLS_CACERT", Text, ""),
    variable("GRPC_CLIENT_TLS_SAN", Text, ""),
    variable("LOG_LEVEL", Text, "WARN"),
    variable("LOG_FORMAT", Text, "text"),
    variable("CONFIG_TYPE", Text, "FILE"),
    variable("FORCE_START_WITHOUT_INITIAL_CONFIG", Bool, "false"),
    variable("CONFIG_GRPC_XDS_NODE_ID", Text, "default"),
    variable("CONFIG_GRPC_XDS_NODE_METADATA", Text, ""),
    variable("CONFIG_GRPC_XDS_SERVER_URL", Text, "localhost:18000"),
    variable("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", Duration, "3s"),
    variable("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", Map, ""),
    variable("CONFIG_GRPC_XDS_SERVER_USE_TLS", Bool, "false"),
    variable("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", Text, ""),
    variable("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", Text, ""),
    variable("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", Text, ""),
    variable("CONFIG_GRPC_XDS_SERVER_TLS_SAN", Text, ""),
    variable("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", Duration, "10s"),
    variable("XDS_CLIENT_BACKOFF_MAX_INTERVAL", Duration, "60s"),
    variable("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", Float, "0.5"),
    variable("XDS_CLIENT_BACKOFF_JITTER", Bool, "true"),
    variable("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", Int, "0"),
    variable("USE_DOG_STATSD", Bool, "false"),
    variable("USE_DOG_STATSD_MOGRIFIERS", List, ""),
    variable("USE_STATSD", Bool, "true"),
    variable("STATSD_HOST", Text, "localhost"),
    variable("STATSD_PORT", Int, "8125"),
    variable("EXTRA_TAGS", Map, ""),
    variable("STATS_FLUSH_INTERVAL", Duration, "10s"),
    variable("DISABLE_STATS", Bool, "false"),
    variable("USE_PROMETHEUS", Bool, "false"),
    variable("PROMETHEUS_ADDR", Text, ":9090"),
    variable("PROMETHEUS_PATH", Text, "/metrics"),
    variable("PROMETHEUS_MAPPER_YAML", Text, ""),
    variable("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", Bool, "false"),
    variable("RUNTIME_ROOT", Text, "/srv/runtime_data/current"),
    variable("RUNTIME_SUBDIRECTORY", Text, ""),
    variable("RUNTIME_APPDIRECTORY", Text, "config"),
    variable("RUNTIME_IGNOREDOTFILES", Bool, "false"),
    variable("RUNTIME_WATCH_ROOT", Bool, "true"),
    variable("EXPIRATION_JITTER_MAX_SECONDS", Int, "300"),
    variable("LOCAL_CACHE_SIZE_IN_BYTES", Int, "0"),
    variable("NEAR_LIMIT_RATIO", Float, "0.8"),
    variable("CACHE_KEY_PREFIX", Text, ""),
    variable("BACKEND_TYPE", Text, "redis"),
    variable("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", Bool, "false"),
    variable("LIMIT_RESPONSE_HEADERS_ENABLED", Bool, "false"),
    variable("LIMIT_LIMIT_HEADER", Text, "RateLimit-Limit"),
    variable("LIMIT_REMAINING_HEADER", Text, "RateLimit-Remaining"),
    variable("LIMIT_RESET_HEADER", Text, "RateLimit-Reset"),
    variable("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", Bool, "false"),
    variable("REDIS_SOCKET_TYPE", Text, "unix"),
    variable("REDIS_TYPE", Text, "SINGLE"),
    variable("REDIS_URL", Text, "/var/run/nutcracker/ratelimit.sock"),
    variable("REDIS_POOL_SIZE", Int, "10"),
    variable("REDIS_AUTH", Text, ""),
    variable("REDIS_TLS", Bool, "false"),
    variable("REDIS_TLS_CLIENT_CERT", Text, ""),
    variable("REDIS_TLS_CLIENT_KEY", Text, ""),
    variable("REDIS_TLS_CACERT", Text, ""),
    variable("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", Bool, "false"),
    variable("REDIS_PIPELINE_WINDOW", Duration, "0"),
    variable("REDIS_PIPELINE_LIMIT", Int, "0"),
    variable("REDIS_CLUSTER_PIPELINE_PARALLELISM", Int, "1"),
    variable("REDIS_PERSECOND", Bool, "false"),
    variable("REDIS_PERSECOND_SOCKET_TYPE", Text, "unix"),
    variable("REDIS_PERSECOND_TYPE", Text, "SINGLE"),
    variable("REDIS_PERSECOND_URL", Text, "/var/run/nutcracker/ratelimitpersecond.sock"),
    variable("REDIS_PERSECOND_POOL_SIZE", Int, "10"),
    variable("REDIS_PERSECOND_AUTH", Text, ""),
    variable("REDIS_PERSECOND_TLS", Bool, "false"),
    variable("REDIS_SENTINEL_AUTH", Text, ""),
    variable("REDIS_PERSECOND_SENTINEL_AUTH", Text, ""),
    variable("REDIS_PERSECOND_PIPELINE_WINDOW", Duration, "0"),
    variable("REDIS_PERSECOND_PIPELINE_LIMIT", Int, "0"),
    variable("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", Int, "1"),
    variable("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Bool, "false"),
    variable("REDIS_TIMEOUT", Duration, "10s"),
    variable("REDIS_PERSECOND_TIMEOUT", Duration, "10s"),
    variable("REDIS_POOL_ON_EMPTY_BEHAVIOR", Text, "WAIT"),
    variable("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", Text, "WAIT"),
    variable("REDIS_STARTUP_INITIAL_INTERVAL", Duration, "1s"),
    variable("REDIS_STARTUP_MAX_INTERVAL", Duration, "30s"),
    variable("REDIS_STARTUP_MAX_ELAPSED_TIME", Duration, "0"),
    variable("MEMCACHE_HOST_PORT", List, ""),
    variable("MEMCACHE_MAX_IDLE_CONNS", Int, "2"),
    variable("MEMCACHE_SRV", Text, ""),
    variable("MEMCACHE_SRV_REFRESH", Duration, "0"),
    variable("MEMCACHE_TLS", Bool, "false"),
    variable("MEMCACHE_TLS_CLIENT_CERT", Text, ""),
    variable("MEMCACHE_TLS_CLIENT_KEY", Text, ""),
    variable("MEMCACHE_TLS_CACERT", Text, ""),
    variable("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", Bool, "false"),
    variable("SHADOW_MODE", Bool, "false"),
    variable("QUOTA_MODE", Bool, "false"),
    variable("RESPONSE_DYNAMIC_METADATA", Bool, "false"),
    variable("MERGE_DOMAIN_CONFIG", Bool, "false"),
    variable("TRACING_ENABLED", Bool, "false"),
    variable("TRACING_SERVICE_NAME", Text, "RateLimit"),
    variable("TRACING_SERVICE_NAMESPACE", Text, ""),
    variable("TRACING_SERVICE_INSTANCE_ID", Text, ""),
    variable("TRACING_EXPORTER_PROTOCOL", Text, "http"),
    variable("TRACING_SAMPLING_RATE", Float, "1"),
    variable("STATSD_PROTOCOL", Text, "tcp"),
];
