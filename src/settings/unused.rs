//! Settings that are given and have no effect because of other settings.

use super::{
    model::{Settings, StoreSettings, Unused},
    reader::SettingReader,
    table,
};
use crate::{
    net::Address,
    rule_files::RuleSource,
    statsd::TagDialect,
    store::redis::{RedisServers, RedisSettings},
};

/// Settings that depend on others.
struct Dependent {
    /// Names of settings; a `*` at the end matches any ending.
    names: &'static [&'static str],
    is_unused: fn(&Settings) -> bool,
    reason: &'static str,
}

/// The first row that fits applies.
const DEPENDENT: &[Dependent] = &[
    Dependent {
        names: &[
            "REDIS_*",
            "LOCAL_CACHE_SIZE_IN_BYTES",
            "EXPIRATION_JITTER_MAX_SECONDS",
            "COUNTER_KEYS",
            "CACHE_KEY_PREFIX",
            "ON_ERROR",
            "STORE_DEADLINE",
            "LOCAL_SHARE",
        ],
        is_unused: |settings| matches!(settings.store, StoreSettings::Memory { .. }),
        reason: "the counters are in memory",
    },
    Dependent {
        names: &["REDIS_PERSECOND_*"],
        is_unused: |settings| {
            !matches!(settings.store, StoreSettings::Redis { per_second: Some(_), .. })
        },
        reason: "REDIS_PERSECOND is not true",
    },
    Dependent {
        names: &["REDIS_TLS_*"],
        is_unused: |settings| !any_redis(settings, |redis| redis.tls.is_some()),
        reason: "no connection to Redis uses TLS",
    },
    Dependent {
        names: &["REDIS_SENTINEL_AUTH", "REDIS_PERSECOND_SENTINEL_AUTH"],
        is_unused: |settings| {
            !any_redis(settings, |redis| matches!(redis.servers, RedisServers::Sentinel { .. }))
        },
        reason: "no Redis is found through Sentinels",
    },
    Dependent {
        names: &[
            "GRPC_SERVER_TLS_CERT",
            "GRPC_SERVER_TLS_KEY",
            "GRPC_CLIENT_TLS_CACERT",
            "GRPC_CLIENT_TLS_SAN",
        ],
        is_unused: |settings| settings.listeners.grpc_tls.is_none(),
        reason: "GRPC_SERVER_USE_TLS is not true, so gRPC is not encrypted",
    },
    Dependent {
        names: &[
            "HTTP_SERVER_TLS_CERT",
            "HTTP_SERVER_TLS_KEY",
            "HTTP_CLIENT_TLS_CACERT",
            "HTTP_CLIENT_TLS_SAN",
        ],
        is_unused: |settings| settings.listeners.http_tls.is_none(),
        reason: "HTTP_SERVER_USE_TLS is not true, so HTTP is not encrypted",
    },
    Dependent {
        names: &["GRPC_HOST", "GRPC_PORT"],
        is_unused: |settings| matches!(settings.listeners.grpc, Address::Unix(_)),
        reason: "GRPC_UDS is set",
    },
    Dependent {
        names: &["GRPC_MAX_CONNECTION_AGE_GRACE"],
        is_unused: |settings| settings.listeners.connections.max_age.is_none(),
        reason: "GRPC_MAX_CONNECTION_AGE is 0",
    },
    Dependent {
        names: &["TOLLGATE_CONFIG", "RUNTIME_*", "ALLOW_OUTSIDE_LINKS"],
        is_unused: |settings| settings.rules.xds.is_some(),
        reason: "the rules come from a management server",
    },
    Dependent {
        names: &["RUNTIME_*"],
        is_unused: |settings| matches!(settings.rules.source, RuleSource::Path(_)),
        reason: "TOLLGATE_CONFIG is set, or neither RUNTIME_ROOT nor RUNTIME_SUBDIRECTORY",
    },
    Dependent {
        names: &["CONFIG_GRPC_XDS_*", "XDS_CLIENT_*"],
        is_unused: |settings| settings.rules.xds.is_none(),
        reason: "CONFIG_TYPE is not GRPC_XDS_SOTW",
    },
    Dependent {
        names: &["CONFIG_GRPC_XDS_SERVER_TLS_*", "CONFIG_GRPC_XDS_CLIENT_TLS_*"],
        is_unused: |settings| settings.rules.xds.as_ref().is_some_and(|xds| xds.tls.is_none()),
        reason: "CONFIG_GRPC_XDS_SERVER_USE_TLS is not true",
    },
    Dependent {
        names: &["USE_PROMETHEUS", "PROMETHEUS_ADDR", "PROMETHEUS_PATH"],
        is_unused: |settings| settings.statistics.prometheus.is_none(),
        reason: "there is no separate port for Prometheus",
    },
    Dependent {
        names: &["USE_STATSD", "USE_DOG_STATSD", "STATSD_*", "STATS_FLUSH_INTERVAL"],
        is_unused: |settings| settings.statistics.sinks.is_empty(),
        reason: "no statistics are sent",
    },
    Dependent {
        names: &["STATSD_PROTOCOL"],
        is_unused: |settings| !any_sink(settings, |it| matches!(it, TagDialect::Statsd)),
        reason: "DogStatsD always uses UDP",
    },
    Dependent {
        names: &["USE_DOG_STATSD_MOGRIFIERS"],
        is_unused: |settings| !any_sink(settings, |it| matches!(it, TagDialect::DogStatsd(_))),
        reason: "no statistics are sent to DogStatsD",
    },
    Dependent {
        names: &["TRACING_*"],
        is_unused: |settings| settings.tracing.is_none(),
        reason: "TRACING_ENABLED is not true",
    },
    Dependent {
        names: &["LIMIT_LIMIT_HEADER", "LIMIT_REMAINING_HEADER", "LIMIT_RESET_HEADER"],
        is_unused: |settings| settings.answers.headers.is_none(),
        reason: "LIMIT_RESPONSE_HEADERS_ENABLED is not true",
    },
    Dependent {
        names: &["DECISION_LOG_*"],
        is_unused: |settings| settings.decision_log.is_none(),
        reason: "DECISION_LOG is not set",
    },
];

fn any_redis(settings: &Settings, fits: fn(&RedisSettings) -> bool) -> bool {
    match &settings.store {
        StoreSettings::Memory { .. } => false,
        StoreSettings::Redis { main, per_second, .. } => {
            fits(main) || per_second.as_deref().is_some_and(fits)
        }
    }
}

fn any_sink(settings: &Settings, fits: fn(&TagDialect) -> bool) -> bool {
    settings.statistics.sinks.iter().any(|sink| fits(&sink.dialect))
}

/// The settings that differ from their defaults and have no effect on `settings`, which
/// were read by `reader`.
pub(super) fn unused(reader: &SettingReader<'_>, settings: &Settings) -> Vec<Unused> {
    let mut all: Vec<Unused> = Vec::new();
    for setting in table::settings() {
        if !reader.is_changed(setting) {
            continue;
        }
        let Some(reason) = reason(setting.name, settings) else { continue };
        match all.iter_mut().find(|unused| unused.reason == reason) {
            Some(unused) => unused.names.push(setting.name),
            None => all.push(Unused { names: vec![setting.name], reason }),
        }
    }
    all
}

fn reason(name: &str, settings: &Settings) -> Option<&'static str> {
    for dependent in DEPENDENT {
        if dependent.names.iter().any(|pattern| matches(pattern, name))
            && (dependent.is_unused)(settings)
        {
            return Some(dependent.reason);
        }
    }
    None
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(pairs: &[(&str, &str)]) -> String {
        let env = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::read(|_| None, env).map_err(|error| error.to_string()).unwrap();
        let mut lines = String::new();
        for Unused { names, reason } in &settings.unused {
            lines += &format!("{}: {reason}\n", names.join(" "));
        }
        lines
    }

    #[test]
    fn settings_without_effect_are_listed_by_their_reason() {
        let listed = unused(&[
            ("REDIS_AUTH", "hunter2"),
            ("REDIS_TYPE", "cluster"),
            ("REDIS_PERSECOND_URL", "cache:6379"),
            ("LOCAL_CACHE_SIZE_IN_BYTES", "1000000"),
            ("COUNTER_KEYS", "reference"),
            ("TRACING_SAMPLING_RATE", "0.5"),
            ("DECISION_LOG_MAX_LINES", "5"),
        ]);
        let expected = "\
            LOCAL_CACHE_SIZE_IN_BYTES COUNTER_KEYS REDIS_AUTH REDIS_TYPE REDIS_PERSECOND_URL: the \
            counters are in memory\n\
            DECISION_LOG_MAX_LINES: DECISION_LOG is not set\n\
            TRACING_SAMPLING_RATE: TRACING_ENABLED is not true\n";
        assert_eq!(listed, expected);
    }

    #[test]
    fn settings_with_an_effect_and_default_values_are_not_listed() {
        for pairs in [
            &[][..],
            &[("REDIS_URL", "cache:6379"), ("REDIS_AUTH", "hunter2"), ("ON_ERROR", "allow")],
            &[("REDIS_TYPE", "single"), ("REDIS_TLS", "false"), ("TRACING_ENABLED", "0")],
            &[("STATSD_HOST", "statsd"), ("STATSD_PROTOCOL", "udp"), ("MEMORY_MAX_KEYS", "1000")],
            &[("RUNTIME_ROOT", "/data"), ("RUNTIME_SUBDIRECTORY", "rules")],
            &[("DECISION_LOG", "stdout"), ("DECISION_LOG_PASSED_SHARE", "1")],
        ] {
            assert_eq!(unused(pairs), "", "{pairs:?}");
        }
    }

    #[test]
    fn each_reason_has_an_example() {
        let redis = ("REDIS_URL", "cache:6379");
        let ca = ("REDIS_TLS_CACERT", "Cargo.toml");
        let xds = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("RUNTIME_ROOT", "/data")];
        let examples: &[(&[(&str, &str)], &str)] = &[
            (&[redis, ("REDIS_PERSECOND_AUTH", "a")], "REDIS_PERSECOND is not true"),
            (&[redis, ca], "no connection to Redis uses TLS"),
            (&[redis, ("REDIS_SENTINEL_AUTH", "a")], "no Redis is found through Sentinels"),
            (&[("GRPC_UDS", "/run/t.sock"), ("GRPC_PORT", "9")], "GRPC_UDS is set"),
            (&xds, "the rules come from a management server"),
            (&[("TOLLGATE_CONFIG", "a"), ("RUNTIME_ROOT", "b")], "TOLLGATE_CONFIG"),
            (&[("XDS_CLIENT_BACKOFF_JITTER", "no")], "CONFIG_TYPE is not GRPC_XDS_SOTW"),
            (
                &[xds[0], ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "a")],
                "CONFIG_GRPC_XDS_SERVER_USE_TLS is not true",
            ),
            (&[("PROMETHEUS_PATH", "/a")], "there is no separate port for Prometheus"),
            (&[("DISABLE_STATS", "1"), ("USE_STATSD", "1")], "no statistics are sent"),
            (&[("USE_DOG_STATSD", "1"), ("STATSD_PROTOCOL", "udp")], "DogStatsD always uses UDP"),
            (&[("LIMIT_RESET_HEADER", "x")], "LIMIT_RESPONSE_HEADERS_ENABLED is not true"),
            (
                &[("GRPC_MAX_CONNECTION_AGE", "0"), ("GRPC_MAX_CONNECTION_AGE_GRACE", "1s")],
                "GRPC_MAX_CONNECTION_AGE is 0",
            ),
        ];
        for (pairs, reason) in examples {
            let listed = unused(pairs);
            assert!(listed.contains(reason), "{pairs:?}: {listed:?}");
        }
    }
}
