//! What to say about variables that are not settings.

use super::table::GROUPS;

/// A variable of Envoy's reference service that has no effect here.
#[derive(Clone, Copy, Debug)]
pub struct Ignored {
    /// Its name; with a `*` at the end, all that begin so.
    pub name: &'static str,
    /// Why it has no effect.
    pub reason: &'static str,
}

const BATCHES: &str = "calls that wait for Redis always go together, without a timer";
const POOL: &str = "all calls share one connection per server, so that hits on one counter go \
                    together; none waits for a free one";
const STARTUP: &str = "a Redis that comes back is found within a second, also after the start";

/// The variables of the reference service that have no effect, on purpose.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "REDIS_PIPELINE_WINDOW", reason: BATCHES },
    Ignored { name: "REDIS_PIPELINE_LIMIT", reason: BATCHES },
    Ignored { name: "REDIS_CLUSTER_PIPELINE_PARALLELISM", reason: BATCHES },
    Ignored { name: "REDIS_PERSECOND_PIPELINE_WINDOW", reason: BATCHES },
    Ignored { name: "REDIS_PERSECOND_PIPELINE_LIMIT", reason: BATCHES },
    Ignored { name: "REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", reason: BATCHES },
    Ignored { name: "REDIS_POOL_SIZE", reason: POOL },
    Ignored { name: "REDIS_PERSECOND_POOL_SIZE", reason: POOL },
    Ignored { name: "REDIS_STARTUP_INITIAL_INTERVAL", reason: STARTUP },
    Ignored { name: "REDIS_STARTUP_MAX_INTERVAL", reason: STARTUP },
    Ignored { name: "REDIS_POOL_ON_EMPTY_BEHAVIOR", reason: POOL },
    Ignored { name: "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", reason: POOL },
    Ignored {
        name: "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        reason: "it has no effect in the reference service either",
    },
    Ignored { name: "MEMCACHE_*", reason: "hits are counted in memory or in Redis" },
    Ignored { name: "PROMETHEUS_MAPPER_YAML", reason: "statistics have labels without a mapping" },
    Ignored {
        name: "GRPC_SERVER_TLS_CA_CERT",
        reason: "the reference service does not know it either; GRPC_CLIENT_TLS_CACERT names the \
                 authority of clients",
    },
];

/// How the names of settings begin, where nobody else's do: gRPC's libraries
/// read variables that begin with `GRPC_`, too.
const PREFIXES: &[&str] = &[
    "REDIS_",
    "GRPC_SERVER_",
    "GRPC_CLIENT_",
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

/// What can be said about a variable that is not a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It is ignored on purpose, for this reason.
    Ignored(&'static str),
    /// It is of a mogrifier of DogStatsD that is not used.
    Unlisted,
    /// It is unknown; the setting whose name is nearest, if one is near.
    Unknown(Option<&'static str>),
}

/// Why a variable of Envoy's reference service has no effect, if it is one
/// that has none.
pub fn ignored(name: &str) -> Option<&'static str> {
    let is = |it: &&Ignored| match it.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == it.name,
    };
    IGNORED.iter().find(is).map(|it| it.reason)
}

/// What to say about a variable, where these `mogrifiers` are used; nothing about
/// settings, nor about what Kubernetes, OpenTelemetry or anybody else has set.
pub fn hint(name: &str, value: &str, mogrifiers: &[String]) -> Option<Hint> {
    let mut known = GROUPS.iter().flat_map(|it| it.settings).map(|it| it.name);
    let dynamic = name.starts_with("OTEL_");
    if value.is_empty() || dynamic || known.clone().any(|it| it == name) {
        return None;
    }
    if let Some(variable) = name.strip_prefix("DOG_STATSD_MOGRIFIER_") {
        return of_mogrifier(variable, mogrifiers);
    }
    if let Some(reason) = ignored(name) {
        return Some(Hint::Ignored(reason));
    }
    if is_service_link(name, value) {
        return None;
    }
    // Short names are near to everything.
    let near = |it: &&str| 6 <= it.len() && strsim::damerau_levenshtein(it, name) <= 2;
    match known.find(near) {
        None if !PREFIXES.iter().any(|it| name.starts_with(it)) => None,
        near => Some(Hint::Unknown(near)),
    }
}

/// `variable` is the part of the name behind what all of them have.
fn of_mogrifier(variable: &str, mogrifiers: &[String]) -> Option<Hint> {
    let Some((mogrifier, "PATTERN" | "NAME" | "TAGS")) = variable.rsplit_once('_') else {
        return Some(Hint::Unknown(None));
    };
    (!mogrifiers.iter().any(|it| it == mogrifier)).then_some(Hint::Unlisted)
}

/// Whether this is one of the variables by which Kubernetes tells pods of
/// services: `NAME_SERVICE_HOST`, `NAME_PORT_6379_TCP_ADDR` and so on.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocol = |it: &str| ["TCP", "UDP", "SCTP"].contains(&it);
    let parts: Vec<_> = name.split('_').collect();
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && value.contains("://")
        || parts.windows(3).any(|it| {
            it[0] == "PORT" && it[1].bytes().all(|it| it.is_ascii_digit()) && protocol(it[2])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_noticed_and_what_others_set_is_not() {
        let hint = |name, value| hint(name, value, &[]);
        assert_eq!(hint("RUNTIME_ROTO", "x"), Some(Hint::Unknown(Some("RUNTIME_ROOT"))));
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
    fn what_is_ignored_on_purpose_has_a_reason() {
        for name in ["MEMCACHE_HOST_PORT", "REDIS_PIPELINE_LIMIT", "PROMETHEUS_MAPPER_YAML"] {
            assert!(matches!(hint(name, "8", &[]), Some(Hint::Ignored(_))), "{name}");
        }
    }

    #[test]
    fn a_mogrifier_that_is_not_listed_is_noticed() {
        let hint = |name: &str| hint(&format!("DOG_STATSD_{name}"), "x", &["MY_TAG".into()]);
        for part in ["PATTERN", "NAME", "TAGS"] {
            assert_eq!(hint(&format!("MOGRIFIER_MY_TAG_{part}")), None);
            assert_eq!(hint(&format!("MOGRIFIER_TAG_{part}")), Some(Hint::Unlisted));
            assert_eq!(hint(&format!("MOGRIFIERS_MY_TAG_{part}")), Some(Hint::Unknown(None)));
        }
        assert_eq!(hint("MOGRIFIER_MY_TAG_PATERN"), Some(Hint::Unknown(None)));
    }
}
