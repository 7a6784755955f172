//! Explanations for environment variables that have no effect.

use super::table;

/// A variable of envoyproxy/ratelimit that tollgate ignores on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Ignored {
    /// The name of the variable; a `*` at the end matches any ending.
    pub name: &'static str,
    /// The reason, as a clause without a full stop.
    pub reason: &'static str,
}

const BATCHING: &str = "commands for Redis are always batched, without a timer";
const POOLING: &str = "there is one connection per Redis server and no pool, so that commands for \
                       the same counter share a batch";
const RECONNECTING: &str = "a Redis that is back is found within a second, also after the start";

/// All variables of envoyproxy/ratelimit that tollgate ignores on purpose.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "REDIS_PIPELINE_WINDOW", reason: BATCHING },
    Ignored { name: "REDIS_PIPELINE_LIMIT", reason: BATCHING },
    Ignored { name: "REDIS_CLUSTER_PIPELINE_PARALLELISM", reason: BATCHING },
    Ignored { name: "REDIS_PERSECOND_PIPELINE_WINDOW", reason: BATCHING },
    Ignored { name: "REDIS_PERSECOND_PIPELINE_LIMIT", reason: BATCHING },
    Ignored { name: "REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", reason: BATCHING },
    Ignored { name: "REDIS_POOL_SIZE", reason: POOLING },
    Ignored { name: "REDIS_PERSECOND_POOL_SIZE", reason: POOLING },
    Ignored { name: "REDIS_STARTUP_INITIAL_INTERVAL", reason: RECONNECTING },
    Ignored { name: "REDIS_STARTUP_MAX_INTERVAL", reason: RECONNECTING },
    Ignored { name: "REDIS_POOL_ON_EMPTY_BEHAVIOR", reason: POOLING },
    Ignored { name: "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", reason: POOLING },
    Ignored {
        name: "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        reason: "it has no effect in envoyproxy/ratelimit either",
    },
    Ignored { name: "MEMCACHE_*", reason: "counters are in memory or in Redis, not in Memcached" },
    Ignored { name: "PROMETHEUS_MAPPER_YAML", reason: "statistics have labels without a mapping" },
    Ignored {
        name: "GRPC_SERVER_TLS_CA_CERT",
        reason: "envoyproxy/ratelimit does not read it either; GRPC_CLIENT_TLS_CACERT is the CA \
                 for client certificates",
    },
];

/// Prefixes that belong to settings alone. `GRPC_` is not among them: gRPC
/// libraries read variables with this prefix, too.
const PREFIXES: &[&str] = &[
    "REDIS_",
    "GRPC_SERVER_",
    "GRPC_CLIENT_",
    "HTTP_SERVER_TLS_",
    "HTTP_CLIENT_TLS_",
    "GRPC_MAX_",
    "RUNTIME_",
    "CONFIG_GRPC_XDS_",
    "XDS_CLIENT_",
    "TRACING_",
    "DOG_STATSD_",
    "STATSD_",
    "PROMETHEUS_",
    "LIMIT_",
    "MEMCACHE_",
    "TOLLGATE_",
];

/// Shorter names are similar to too many others.
const MIN_SIMILAR_NAME: usize = 6;
/// Most typos between a variable and the setting that was meant.
const MAX_TYPOS: usize = 2;

/// Explanation for a variable that is not a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// tollgate ignores the variable on purpose, for this reason.
    Ignored(&'static str),
    /// The variable configures a DogStatsD mogrifier that is not in use.
    UnlistedMogrifier,
    /// The variable is unknown. Holds the setting with the most similar name, if
    /// one differs in at most two typos.
    Unknown(Option<&'static str>),
}

/// The reason for which tollgate ignores a variable of envoyproxy/ratelimit.
/// `None` if the variable has an effect or is unknown.
pub fn ignored(name: &str) -> Option<&'static str> {
    for ignored in IGNORED {
        let matches = match ignored.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == ignored.name,
        };
        if matches {
            return Some(ignored.reason);
        }
    }
    None
}

/// Explains a variable. `mogrifiers` are the names in `USE_DOG_STATSD_MOGRIFIERS`,
/// in capitals. Returns `None` for settings, for variables that Kubernetes or
/// OpenTelemetry defines, and for names that do not look like a setting.
pub fn hint(name: &str, value: &str, mogrifiers: &[String]) -> Option<Hint> {
    if value.is_empty() || name.starts_with("OTEL_") || table::find(name).is_some() {
        return None;
    }
    if let Some(rest) = name.strip_prefix("DOG_STATSD_MOGRIFIER_") {
        return mogrifier_hint(rest, mogrifiers);
    }
    if let Some(reason) = ignored(name) {
        return Some(Hint::Ignored(reason));
    }
    if is_service_link(name, value) {
        return None;
    }
    let similar = similar_setting(name);
    if similar.is_some() || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Hint::Unknown(similar))
    } else {
        None
    }
}

fn similar_setting(name: &str) -> Option<&'static str> {
    let mut best = None;
    let mut fewest = MAX_TYPOS + 1;
    for setting in table::settings() {
        // A difference in length is at least that many typos, and cheaper to compute.
        if setting.name.len() < MIN_SIMILAR_NAME
            || MAX_TYPOS < setting.name.len().abs_diff(name.len())
        {
            continue;
        }
        let typos = strsim::damerau_levenshtein(setting.name, name);
        if typos < fewest {
            (best, fewest) = (Some(setting.name), typos);
        }
    }
    best
}

/// `rest` is the name of a mogrifier and one of its properties, such as
/// `DOMAIN_PATTERN`.
fn mogrifier_hint(rest: &str, mogrifiers: &[String]) -> Option<Hint> {
    match rest.rsplit_once('_') {
        Some((mogrifier, "PATTERN" | "NAME" | "TAGS")) => {
            let is_listed = mogrifiers.iter().any(|listed| listed == mogrifier);
            if is_listed { None } else { Some(Hint::UnlistedMogrifier) }
        }
        _ => Some(Hint::Unknown(None)),
    }
}

/// Recognizes the variables that Kubernetes defines in every pod for each Service:
/// `NAME_SERVICE_HOST`, `NAME_PORT_6379_TCP_ADDR` and so on.
fn is_service_link(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && value.contains("://")
    {
        return true;
    }
    let words: Vec<_> = name.split('_').collect();
    for window in words.windows(3) {
        let [port, number, protocol] = window else { continue };
        if *port == "PORT"
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["TCP", "UDP", "SCTP"].contains(protocol)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_reported_and_variables_of_other_programs_are_not() {
        let hint = |name, value| hint(name, value, &[]);
        assert_eq!(hint("RUNTIME_ROTO", "x"), Some(Hint::Unknown(Some("RUNTIME_ROOT"))));
        assert_eq!(hint("GRPC_POT", "x"), Some(Hint::Unknown(Some("GRPC_PORT"))));
        assert_eq!(hint("REDIS_COLOUR", "x"), Some(Hint::Unknown(None)));
        for (name, value) in [
            ("RUNTIME_ROOT", "x"),
            ("REDIS_COLOUR", ""),
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("REDIS_SERVICE_HOST", "10.0.0.1"),
            ("GRPC_SERVICE_PORT_HTTP", "80"),
            ("REDIS_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("OTEL_SERVICE_NAME", "x"),
            ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "/etc/ssl/ca.pem"),
            ("POST", "x"),
            ("PATH", "/bin"),
        ] {
            assert_eq!(hint(name, value), None, "{name}");
        }
    }

    #[test]
    fn ignored_variables_have_a_reason() {
        for name in ["MEMCACHE_HOST_PORT", "REDIS_PIPELINE_LIMIT", "PROMETHEUS_MAPPER_YAML"] {
            assert!(matches!(hint(name, "8", &[]), Some(Hint::Ignored(_))), "{name}");
        }
    }

    #[test]
    fn mogrifiers_that_are_not_listed_are_reported() {
        let hint = |name: &str| hint(&format!("DOG_STATSD_{name}"), "x", &["MY_TAG".into()]);
        for part in ["PATTERN", "NAME", "TAGS"] {
            assert_eq!(hint(&format!("MOGRIFIER_MY_TAG_{part}")), None);
            assert_eq!(hint(&format!("MOGRIFIER_TAG_{part}")), Some(Hint::UnlistedMogrifier));
            assert_eq!(hint(&format!("MOGRIFIERS_MY_TAG_{part}")), Some(Hint::Unknown(None)));
        }
        assert_eq!(hint("MOGRIFIER_MY_TAG_PATERN"), Some(Hint::Unknown(None)));
    }
}
