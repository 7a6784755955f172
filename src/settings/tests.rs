use super::*;
use crate::{
    net::Address,
    store::redis::{RedisAddress, RedisServers},
};

mod docs;
mod values;
mod statistics;
mod tls;
mod jitter;
mod tracing;

use self::values::{ILLEGAL, LEGAL};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn lookup(pairs: Pairs<'_>) -> impl Fn(&str) -> Option<String> {
    move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn read(flags: Pairs<'_>, env: Pairs<'_>) -> Result<Settings, SettingsError> {
    Settings::read(lookup(flags), lookup(env))
}

/// The value read for one setting, in the notation of `Debug`.
fn show(settings: &Settings, name: &str) -> String {
    let Settings { rules, listeners, store, key_format, mode, near_limit_ratio, .. } = settings;
    let Settings { deny_cache_bytes, fallback, answers: response, log, drain, .. } = settings;
    let headers = response.headers.as_ref();
    match name {
        "TOLLGATE_CONFIG" => rules.source.to_string(),
        name if name.starts_with("RUNTIME_") => format!("{:?}", rules.source),
        "ALLOW_OUTSIDE_LINKS" => format!("{:?}", rules.links),
        "FORCE_START_WITHOUT_INITIAL_CONFIG" => rules.force_start.to_string(),
        "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED" => rules.unhealthy_without_domains.to_string(),
        name if name.starts_with("CONFIG_") || name.starts_with("XDS_") => show_xds(rules, name),
        "MERGE_DOMAIN_CONFIG" => rules.merge_domains.to_string(),
        "GRPC_HOST" | "GRPC_PORT" | "GRPC_UDS" => listeners.grpc.to_string(),
        name if name.contains("_TLS") && name.starts_with("GRPC_") => {
            format!("{:?}", listeners.grpc_tls.is_some())
        }
        name if name.contains("_TLS") && name.starts_with("HTTP_") => {
            format!("{:?}", listeners.http_tls.is_some())
        }
        "PROBE_ADDR" => format!("{:?}", listeners.probes.as_ref().map(ToString::to_string)),
        "HOST" | "PORT" => listeners.http.to_string(),
        "DEBUG_HOST" | "DEBUG_PORT" => listeners.debug.to_string(),
        name if name.starts_with("ADMIN_") => show_admin(settings, name),
        "MAX_CONNECTIONS" => listeners.bounds.most.to_string(),
        "MAX_CONNECTIONS_PER_PEER" => format!("{:?}", listeners.bounds.most_per_peer),
        "GRPC_MAX_CONNECTION_AGE" => format!("{:?}", listeners.connections.max_age),
        "GRPC_MAX_CONNECTION_AGE_GRACE" => format!("{:?}", listeners.connections.max_age_grace),
        "GRPC_MAX_STREAMS" => listeners.connections.max_streams.to_string(),
        "GRPC_STREAM_WINDOW_BYTES" => listeners.connections.stream_window.to_string(),
        "GRPC_CONNECTION_WINDOW_BYTES" => listeners.connections.connection_window.to_string(),
        "GRPC_MAX_HEADER_BYTES" => listeners.connections.max_header_bytes.to_string(),
        "GRPC_TRANSFER_TIMEOUT" => format!("{:?}", listeners.connections.transfer_timeout),
        "MAX_BYTES_IN_FLIGHT" => settings.max_bytes_in_flight.to_string(),
        "JSON_MAX_BYTES" => settings.json_max_bytes.to_string(),
        "LOCAL_CACHE_SIZE_IN_BYTES" => deny_cache_bytes.to_string(),
        "ON_ERROR" => format!("{:?}", fallback.on_error),
        "STORE_DEADLINE" => format!("{:?}", fallback.deadline),
        "LOCAL_SHARE" => fallback.local_share.to_string(),
        "CACHE_KEY_PREFIX" => key_format.prefix.clone(),
        "COUNTER_KEYS" => format!("{:?}", key_format.style),
        "SHADOW_MODE" => mode.shadow.to_string(),
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT" => mode.stop_counting.to_string(),
        "QUOTA_MODE" => mode.quota.to_string(),
        "MAX_DESCRIPTORS" => settings.max_descriptors.to_string(),
        "EXT_AUTHZ_DOMAIN" => format!("{:?}", settings.ext_authz_domain),
        "NEAR_LIMIT_RATIO" => near_limit_ratio.to_string(),
        "LIMIT_LIMIT_HEADER" => headers.map_or("off".into(), |names| names.limit.clone()),
        "LIMIT_REMAINING_HEADER" => headers.map_or("off".into(), |names| names.remaining.clone()),
        "LIMIT_RESET_HEADER" => headers.map_or("off".into(), |names| names.reset.clone()),
        "RESPONSE_DYNAMIC_METADATA" => format!("{:?}", response.metadata),
        "LOG_LEVEL" => log.level.to_string(),
        "LOG_FORMAT" => format!("{:?}", log.format),
        name if name.starts_with("DECISION_LOG") => show_decision_log(settings, name),
        name if table::STATISTICS.settings.iter().any(|setting| setting.name == name) => {
            statistics::show(&settings.statistics, name)
        }
        name if name.starts_with("TRACING_") => tracing::show(settings, name),
        "DRAIN_DELAY" => format!("{:?}", drain.delay),
        "DRAIN_TIMEOUT" => format!("{:?}", drain.timeout),
        _ => format!("{store:?}"),
    }
}

fn show_admin(settings: &Settings, name: &str) -> String {
    let admin = &settings.admin;
    match name {
        "ADMIN_NAMES" => admin.names.join(" "),
        "ADMIN_TOKENS_FILE" => format!("{:?}", admin.tokens_file),
        "ADMIN_TOKEN_FILE" => format!("{:?}", admin.token_file),
        _ => admin.address.to_string(),
    }
}

fn show_decision_log(settings: &Settings, name: &str) -> String {
    let Some(log) = &settings.decision_log else { return "None".to_owned() };
    match name {
        "DECISION_LOG_PASSED_SHARE" => format!("{:?}", log.passed_share),
        "DECISION_LOG_MAX_LINES" => log.max_lines.to_string(),
        _ => format!("{:?}", Some(&log.target)),
    }
}

fn show_xds(rules: &RuleSettings, name: &str) -> String {
    let Some(xds) = &rules.xds else { return rules.source.to_string() };
    let tls = xds.tls.as_ref();
    match name {
        "CONFIG_TYPE" => "xDS".to_owned(),
        "CONFIG_GRPC_XDS_SERVER_URL" => xds.server.to_string(),
        "CONFIG_GRPC_XDS_NODE_ID" => xds.subscriber.node.clone(),
        "CONFIG_GRPC_XDS_NODE_METADATA" => format!("{:?}", xds.subscriber.metadata),
        "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS" => format!("{:?}", xds.subscriber.headers),
        "CONFIG_GRPC_XDS_SERVER_TLS_CACERT" => format!("{:?}", tls.map(|tls| &tls.ca_file)),
        "CONFIG_GRPC_XDS_SERVER_TLS_SAN" => format!("{:?}", tls.map(|tls| &tls.name)),
        "CONFIG_GRPC_XDS_SERVER_USE_TLS" => tls.is_some().to_string(),
        "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES" => xds.subscriber.max_message.to_string(),
        _ => format!("{:?}", xds.backoff),
    }
}

fn legal() -> impl Iterator<Item = &'static (&'static str, Pairs<'static>)> {
    LEGAL.iter().chain(tracing::LEGAL)
}

fn illegal() -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    ILLEGAL.iter().chain(tracing::ILLEGAL)
}

#[test]
fn every_setting_has_legal_and_illegal_values() {
    let names: Vec<_> = table::settings().map(|setting| setting.name).collect();
    for name in &names {
        assert!(legal().any(|(legal, _)| legal == name), "{name} has no legal value");
        assert!(illegal().any(|(illegal, _)| illegal == name), "{name} has no illegal value");
    }
    assert_eq!(names.len(), legal().count());
}

#[test]
fn every_legal_value_is_accepted() {
    for &(name, values) in legal() {
        for &(value, expected) in values {
            let mut env = vec![(name, value), ("LIMIT_RESPONSE_HEADERS_ENABLED", "true")];
            if name.starts_with("PROMETHEUS_") {
                env.push(("USE_PROMETHEUS", "true"));
            }
            if name.contains("XDS_") {
                env.push(("CONFIG_TYPE", "GRPC_XDS_SOTW"));
            }
            if name.starts_with("DECISION_LOG_") {
                env.push(("DECISION_LOG", "stdout"));
            }
            if name.starts_with("TRACING_") {
                env.push(("TRACING_ENABLED", "true"));
            }
            let settings = read(&[], &env).map_err(|error| error.to_string()).unwrap();
            assert_eq!(show(&settings, name), expected, "{name}={value:?}");
        }
    }
}

#[test]
fn every_illegal_value_is_rejected_with_its_place() {
    for &(name, values) in illegal() {
        let setting = table::find(name).unwrap();
        for value in values {
            let variable = read(&[], &[(name, value)]).unwrap_err().to_string();
            let flag = read(&[(name, value)], &[]).unwrap_err().to_string();
            let shown = match setting.value {
                table::ValueKind::Secret(_) => " (not shown): ".to_owned(),
                table::ValueKind::Text(_) | table::ValueKind::Switch => format!("={value:?}: "),
            };
            assert_eq!(variable.lines().count(), 2, "{variable}");
            assert!(variable.contains(&format!("\n  {name}{shown}")), "{variable}");
            assert!(flag.contains(&format!("\n  --{}{shown}", setting.flag())), "{flag}");
        }
    }
}

#[test]
fn all_errors_are_reported_together() {
    let flags = [("GRPC_PORT", "x"), ("REDIS_TIMEOUT", "soon")];
    let env = [
        ("PORT", "tcp://10.0.0.1:80"),
        ("BACKEND_TYPE", "memcache"),
        ("REDIS_URL", "redis://:hunter2@cache:port"),
        ("REDIS_TYPE", "double"),
        ("LOG_LEVEL", "loud"),
    ];
    assert_eq!(
        read(&flags, &env).unwrap_err().to_string(),
        r#"these settings cannot be used:
  --grpc-port="x": expected a port from 0 to 65535
  PORT="tcp://10.0.0.1:80": expected a port from 0 to 65535; Kubernetes sets such a value for a Service of that name, unless the pod's spec has `enableServiceLinks: false`
  BACKEND_TYPE="memcache": tollgate does not count in Memcached; use redis to count across instances, or memory
  --redis-timeout="soon": expected a duration such as 500ms, 10s or 1h30m (units ns, us, ms, s, m and h), of at most 290 years
  REDIS_TYPE="double": expected single or sentinel or cluster
  REDIS_URL (not shown): the Redis address cannot be understood (Redis URL did not parse - InvalidClientConfig); expected host:port, redis://user:password@host:port/database, rediss:// for TLS, /path or unix:///path
  LOG_LEVEL="loud": expected error or warn or info or debug or trace"#
    );
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_overrides_the_default() {
    let port = |flags, env| match read(flags, env).unwrap().listeners.grpc {
        Address::Tcp(address) => address.port,
        Address::Unix(_) => unreachable!(),
    };
    let (flag, variable) = (&[("GRPC_PORT", "1")], &[("GRPC_PORT", "2")]);
    assert_eq!(port(flag, variable), 1);
    assert_eq!(port(&[], variable), 2);
    assert_eq!(port(&[], &[]), 8081);
    assert_eq!(port(&[], &[("GRPC_PORT", "")]), 8081);
    assert_eq!(port(&[("GRPC_PORT", "")], variable), 8081, "an empty flag selects the default");
    assert_eq!(
        port(flag, &[("GRPC_PORT", "x")]),
        1,
        "a variable that a flag overrides is not read"
    );
}

#[test]
fn redis_is_chosen_by_its_url() {
    let redis =
        |env: Pairs<'_>| matches!(read(&[], env).unwrap().store, StoreSettings::Redis { .. });
    assert!(redis(&[("REDIS_URL", "cache:6379")]));
    assert!(redis(&[("REDIS_URL", "cache:6379"), ("BACKEND_TYPE", "REDIS")]));
    assert!(!redis(&[("REDIS_URL", "cache:6379"), ("BACKEND_TYPE", "memory")]));
    assert!(!redis(&[("REDIS_URL", "")]));
    assert_eq!(
        read(&[], &[("BACKEND_TYPE", "redis")]).unwrap_err().to_string(),
        "these settings cannot be used:\n  \
         BACKEND_TYPE=\"redis\": expected REDIS_URL to be set, too"
    );
}

#[test]
fn the_socket_type_must_agree_with_the_url() {
    let read = |kind, url| read(&[], &[("REDIS_SOCKET_TYPE", kind), ("REDIS_URL", url)]);
    let address = |kind, url| match read(kind, url).unwrap().store {
        StoreSettings::Redis { main, .. } => match main.servers {
            RedisServers::Single(address) => address,
            _ => unreachable!(),
        },
        StoreSettings::Memory { .. } => unreachable!(),
    };
    assert_eq!(address("unix", "/run/redis.sock"), RedisAddress::Unix("/run/redis.sock".into()));
    assert_eq!(address("UNIX", "unix:///run/it"), RedisAddress::Unix("/run/it".into()));
    assert!(matches!(address("tcp", "cache:6379"), RedisAddress::Tcp { .. }));
    for (kind, url, expected) in [("tcp", "/run/redis.sock", "unix"), ("unix", "cache:1", "tcp")] {
        let error = read(kind, url).unwrap_err().to_string();
        assert!(error.contains(&format!("TYPE={kind:?}: expected {expected}")), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let env = [("REDIS_URL", "redis://ann:hunter1@cache:6379"), ("REDIS_AUTH", "hunter2")];
    let settings = format!("{:#?}", read(&[], &env).unwrap());
    assert!(settings.contains("cache") && !settings.contains("hunter"), "{settings}");
    let env = [("REDIS_URL", "redis://ann:hunter1@cache:port"), ("REDIS_AUTH", "hunter2")];
    let error = format!("{0} {0:?}", read(&[], &env).unwrap_err());
    assert!(error.contains("REDIS_URL") && !error.contains("hunter"), "{error}");
}

#[test]
fn headers_are_off_unless_enabled() {
    assert_eq!(read(&[], &[("LIMIT_LIMIT_HEADER", "x")]).unwrap().answers.headers, None);
}

#[test]
fn the_settings_of_rules_can_be_read_alone() {
    let env = [("TOLLGATE_CONFIG", "rules"), ("MERGE_DOMAIN_CONFIG", "yes"), ("PORT", "x")];
    let rules = RuleSettings::read(|_| None, lookup(&env)).unwrap();
    assert_eq!((rules.source.to_string().as_str(), rules.merge_domains), ("rules", true));
}

#[test]
fn listeners_with_the_same_port_are_rejected() {
    let problem = |env| read(&[], env).unwrap_err().to_string();
    assert_eq!(
        problem(&[("PORT", "9000"), ("DEBUG_PORT", "9000"), ("GRPC_PORT", "6070")]),
        "these settings cannot be used:\n  \
         DEBUG_PORT=\"9000\": expected another port than that of PORT"
    );
    // The error names a port that was set, not one that has its default.
    let one = problem(&[("GRPC_PORT", "8080")]);
    assert!(one.ends_with("GRPC_PORT=\"8080\": expected another port than that of PORT"), "{one}");
    let one = problem(&[("USE_PROMETHEUS", "true"), ("GRPC_PORT", "9090")]);
    assert!(one.ends_with("expected another port than that of PROMETHEUS_ADDR"), "{one}");
    let one = problem(&[("ADMIN_TOKEN_FILE", "/run/token"), ("ADMIN_PORT", "8080")]);
    assert!(one.ends_with("ADMIN_PORT=\"8080\": expected another port than that of PORT"), "{one}");
    let one = problem(&[("PROBE_ADDR", ":8080")]);
    assert!(
        one.ends_with("PROBE_ADDR=\":8080\": expected another port than that of PORT"),
        "{one}"
    );
    for distinct in [
        &[("PORT", "9090"), ("DEBUG_PORT", "0")][..],
        &[("GRPC_PORT", "8080"), ("GRPC_UDS", "/run/t.sock")],
        // Closed, because nobody has a token.
        &[("ADMIN_PORT", "8080")],
        &[("PORT", "1"), ("HOST", "127.0.0.1"), ("DEBUG_PORT", "1"), ("DEBUG_HOST", "127.0.0.2")],
    ] {
        assert!(read(&[], distinct).is_ok(), "{distinct:?}");
    }
}

#[test]
fn the_admin_api_leaves_this_host_only_with_a_file_of_tokens() {
    for host in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST"] {
        let settings = read(&[], &[("ADMIN_HOST", host)]).unwrap();
        assert!(!settings.admin.is_open(), "{host}");
    }
    for host in ["0.0.0.0", "::", "10.0.0.1", "admin.example.com", "localhost.example.com"] {
        let error = read(&[], &[("ADMIN_HOST", host)]).unwrap_err().to_string();
        let expected = "expected a loopback address, or ADMIN_TOKENS_FILE to be set, too";
        assert!(error.contains(expected), "{host}: {error}");
        let file = [("ADMIN_HOST", host), ("ADMIN_TOKENS_FILE", "Cargo.toml")];
        assert!(read(&[], &file).unwrap().admin.is_open(), "{host}");
    }
}

#[test]
fn windows_above_their_bounds_are_rejected() {
    let problem = |env| read(&[], env).unwrap_err().to_string();
    assert_eq!(
        problem(&[
            ("GRPC_STREAM_WINDOW_BYTES", "4194305"),
            ("GRPC_CONNECTION_WINDOW_BYTES", "4194304"),
            ("MAX_BYTES_IN_FLIGHT", "2097152"),
        ]),
        "these settings cannot be used:\n  \
         GRPC_STREAM_WINDOW_BYTES=\"4194305\": expected no more than \
         GRPC_CONNECTION_WINDOW_BYTES, which is 4194304\n  \
         GRPC_CONNECTION_WINDOW_BYTES=\"4194304\": expected no more than MAX_BYTES_IN_FLIGHT, \
         which is 2097152"
    );
    // An invalid value is reported once.
    let one = problem(&[("GRPC_CONNECTION_WINDOW_BYTES", "0")]);
    assert_eq!(one.lines().count(), 2, "{one}");
}

#[test]
fn errors_about_sizes_name_the_range_and_the_unit() {
    for (name, value, expected) in [
        (
            "MEMORY_MAX_BYTES",
            "18446744073709551616",
            "expected a whole number of bytes from 1048576 to 18446744073709551615, without a unit",
        ),
        ("MEMORY_MAX_KEYS", "4294967296", "expected a whole number from 256 to 4294967295"),
        ("MAX_DESCRIPTORS", "1001", "expected a whole number from 1 to 1000"),
    ] {
        let error = read(&[], &[(name, value)]).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name}={value:?}: {expected}")), "{error}");
    }
}
