//! Every variable of Envoy's reference service, with a valid, an invalid and an empty
//! value.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use rcgen::{CertificateParams, KeyPair};
use testkit::{http, redis::RedisServer, tollgate::Tollgate};

/// A variable, a valid value, and an invalid one if there is any. `@name` in a value is
/// replaced by the test.
type Variable = (&'static str, &'static str, Option<&'static str>);

/// All variables that have an invalid value, with it.
fn invalid_settings() -> Vec<(&'static str, &'static str)> {
    let mut settings = Vec::new();
    for (name, _, invalid) in VARIABLES {
        if let Some(invalid) = invalid {
            settings.push((*name, *invalid));
        }
    }
    settings
}

const SWITCH: Option<&str> = Some("maybe");
const DURATION: Option<&str> = Some("soon");
const NUMBER: Option<&str> = Some("many");
const PORT: Option<&str> = Some("70000");
const HOST: Option<&str> = Some("no host");
const FILE: Option<&str> = Some("/nowhere/at/all.pem");
/// Any text is valid.
const TEXT: Option<&str> = None;
/// The variable has no effect.
const IGNORED: Option<&str> = None;

const VARIABLES: &[Variable] = &[
    ("HOST", "127.0.0.1", HOST),
    ("PORT", "0", PORT),
    ("DEBUG_HOST", "127.0.0.1", HOST),
    ("DEBUG_PORT", "0", PORT),
    ("GRPC_HOST", "127.0.0.1", HOST),
    ("GRPC_PORT", "0", PORT),
    ("GRPC_MAX_CONNECTION_AGE", "24h", DURATION),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", "1h", DURATION),
    ("GRPC_SERVER_USE_TLS", "true", SWITCH),
    ("GRPC_SERVER_TLS_CERT", "@cert", FILE),
    ("GRPC_SERVER_TLS_KEY", "@key", FILE),
    ("GRPC_CLIENT_TLS_CACERT", "@cert", FILE),
    ("GRPC_CLIENT_TLS_SAN", "client.example", Some("no name")),
    ("LOG_LEVEL", "Info", Some("loud")),
    ("LOG_FORMAT", "JSON", Some("xml")),
    ("CONFIG_TYPE", "FILE", Some("CARRIER_PIGEON")),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "T", SWITCH),
    ("CONFIG_GRPC_XDS_NODE_ID", "node", TEXT),
    ("CONFIG_GRPC_XDS_NODE_METADATA", "a=b,c=d", Some("a:b")),
    ("CONFIG_GRPC_XDS_SERVER_URL", "localhost:18000", Some("localhost")),
    ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "3s", IGNORED),
    ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "a:b,c:d", Some("a=b")),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "1", SWITCH),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "@cert", FILE),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "@key", FILE),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "@cert", FILE),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.example", HOST),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "10s", DURATION),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "60s", DURATION),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "0.5", Some("2")),
    ("XDS_CLIENT_BACKOFF_JITTER", "True", SWITCH),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "0", NUMBER),
    ("USE_DOG_STATSD", "true", SWITCH),
    ("USE_DOG_STATSD_MOGRIFIERS", "hits", TEXT),
    ("DOG_STATSD_MOGRIFIER_HITS_PATTERN", r"^ratelimit\.(.*)$", Some("(")),
    ("DOG_STATSD_MOGRIFIER_HITS_NAME", "limits.$1", TEXT),
    ("DOG_STATSD_MOGRIFIER_HITS_TAGS", "rest:$1", Some("untidy")),
    ("USE_STATSD", "true", SWITCH),
    ("STATSD_HOST", "127.0.0.1", HOST),
    ("STATSD_PORT", "@statsd", PORT),
    ("STATSD_PROTOCOL", "udp", Some("smoke")),
    ("EXTRA_TAGS", "foo:bar,a:b", Some("foo")),
    ("STATS_FLUSH_INTERVAL", "10s", Some("0")),
    ("DISABLE_STATS", "false", SWITCH),
    ("USE_PROMETHEUS", "true", SWITCH),
    ("PROMETHEUS_ADDR", "127.0.0.1:0", Some("nowhere")),
    ("PROMETHEUS_PATH", "/metrics", Some("metrics")),
    ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml", IGNORED),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "f", SWITCH),
    ("RUNTIME_ROOT", "@rules", TEXT),
    ("RUNTIME_SUBDIRECTORY", "ratelimit", Some("../elsewhere")),
    ("RUNTIME_APPDIRECTORY", "config", Some("a/../b")),
    ("RUNTIME_IGNOREDOTFILES", "TRUE", SWITCH),
    ("RUNTIME_WATCH_ROOT", "FALSE", SWITCH),
    ("EXPIRATION_JITTER_MAX_SECONDS", "300", NUMBER),
    ("LOCAL_CACHE_SIZE_IN_BYTES", "1000", NUMBER),
    ("NEAR_LIMIT_RATIO", "0.8", Some("1.5")),
    ("CACHE_KEY_PREFIX", "prefix:", TEXT),
    ("BACKEND_TYPE", "redis", Some("memcache")),
    ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true", SWITCH),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", "true", SWITCH),
    ("LIMIT_LIMIT_HEADER", "X-Limit", Some("a header")),
    ("LIMIT_REMAINING_HEADER", "X-Remaining", Some("a header")),
    ("LIMIT_RESET_HEADER", "X-Reset", Some("a header")),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true", SWITCH),
    ("REDIS_SOCKET_TYPE", "tcp", Some("pigeon")),
    ("REDIS_TYPE", "SINGLE", Some("double")),
    ("REDIS_URL", "@redis", Some("redis://:port")),
    ("REDIS_POOL_SIZE", "10", IGNORED),
    ("REDIS_AUTH", "", TEXT),
    ("REDIS_TLS", "false", SWITCH),
    ("REDIS_TLS_CLIENT_CERT", "@cert", FILE),
    ("REDIS_TLS_CLIENT_KEY", "@key", FILE),
    ("REDIS_TLS_CACERT", "@cert", FILE),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "false", SWITCH),
    ("REDIS_PIPELINE_WINDOW", "0", IGNORED),
    ("REDIS_PIPELINE_LIMIT", "0", IGNORED),
    ("REDIS_CLUSTER_PIPELINE_PARALLELISM", "1", IGNORED),
    ("REDIS_PERSECOND", "true", SWITCH),
    ("REDIS_PERSECOND_SOCKET_TYPE", "tcp", Some("pigeon")),
    ("REDIS_PERSECOND_TYPE", "single", Some("double")),
    ("REDIS_PERSECOND_URL", "@redis", Some("redis://:port")),
    ("REDIS_PERSECOND_POOL_SIZE", "10", IGNORED),
    ("REDIS_PERSECOND_AUTH", "", TEXT),
    ("REDIS_PERSECOND_TLS", "false", SWITCH),
    ("REDIS_SENTINEL_AUTH", "user:secret", TEXT),
    ("REDIS_PERSECOND_SENTINEL_AUTH", "secret", TEXT),
    ("REDIS_PERSECOND_PIPELINE_WINDOW", "0", IGNORED),
    ("REDIS_PERSECOND_PIPELINE_LIMIT", "0", IGNORED),
    ("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", "1", IGNORED),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true", SWITCH),
    ("REDIS_TIMEOUT", "10s", DURATION),
    ("REDIS_PERSECOND_TIMEOUT", "10s", DURATION),
    ("REDIS_POOL_ON_EMPTY_BEHAVIOR", "WAIT", IGNORED),
    ("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", "CREATE", IGNORED),
    ("REDIS_STARTUP_INITIAL_INTERVAL", "1s", IGNORED),
    ("REDIS_STARTUP_MAX_INTERVAL", "30s", IGNORED),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", "0", DURATION),
    ("MEMCACHE_HOST_PORT", "localhost:11211", IGNORED),
    ("MEMCACHE_MAX_IDLE_CONNS", "2", IGNORED),
    ("MEMCACHE_SRV", "_memcache._tcp.example", IGNORED),
    ("MEMCACHE_SRV_REFRESH", "1m", IGNORED),
    ("MEMCACHE_TLS", "true", IGNORED),
    ("MEMCACHE_TLS_CLIENT_CERT", "/c", IGNORED),
    ("MEMCACHE_TLS_CLIENT_KEY", "/k", IGNORED),
    ("MEMCACHE_TLS_CACERT", "/a", IGNORED),
    ("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", "true", IGNORED),
    ("SHADOW_MODE", "false", SWITCH),
    ("QUOTA_MODE", "false", SWITCH),
    ("RESPONSE_DYNAMIC_METADATA", "true", SWITCH),
    ("MERGE_DOMAIN_CONFIG", "true", SWITCH),
    ("TRACING_ENABLED", "true", SWITCH),
    ("TRACING_SERVICE_NAME", "RateLimit", TEXT),
    ("TRACING_SERVICE_NAMESPACE", "edge", TEXT),
    ("TRACING_SERVICE_INSTANCE_ID", "one", TEXT),
    ("TRACING_EXPORTER_PROTOCOL", "http", Some("pigeon")),
    ("TRACING_SAMPLING_RATE", "0.5", Some("2")),
];

/// The variables that tests set to an address of their own.
const LISTENERS: [&str; 7] =
    ["HOST", "PORT", "GRPC_HOST", "GRPC_PORT", "DEBUG_HOST", "DEBUG_PORT", "PROMETHEUS_ADDR"];

const RULES: &str = "domain: shop\ndescriptors:\n- key: user\n  \
                     rate_limit: { unit: year, requests_per_unit: 1 }\n";

#[test]
fn all_invalid_values_are_reported_before_a_port_opens() {
    // The port is in use, so opening it would be an error as well.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut invalid = invalid_settings();
    invalid.retain(|(name, _)| *name != "GRPC_PORT");
    let mut settings = invalid.clone();
    // The variables of a mogrifier are only read if it is used.
    settings.extend([("GRPC_PORT", port.as_str()), ("USE_DOG_STATSD_MOGRIFIERS", "hits")]);
    let mut process = Tollgate::launch(RULES, &settings);
    let status = process.wait_for_exit();
    assert_eq!(status.code(), Some(2));
    let log = process.log();
    assert!(!log.contains("listen"), "{log}");
    for (name, value) in invalid {
        let line = line_about(&log, name);
        assert!(line.contains("expected") || line.contains("use redis"), "{line}");
        assert!(line.contains(value) || line.contains("(not shown)"), "{line}");
    }
}

/// The line of the log that begins with the name of the variable.
fn line_about<'a>(log: &'a str, name: &str) -> &'a str {
    for line in log.lines() {
        if let Some(rest) = line.trim().strip_prefix(name)
            && rest.starts_with(['=', ' ', ':'])
        {
            return line;
        }
    }
    panic!("{name} is not named in\n{log}")
}

#[test]
fn each_invalid_value_ends_the_process() {
    for (name, value) in invalid_settings() {
        // The variables of a mogrifier are only read if it is used.
        let mut settings = Vec::new();
        if name.starts_with("DOG_STATSD_MOGRIFIER_HITS_") {
            for (name, valid, _) in &VARIABLES[32..37] {
                settings.push((*name, *valid));
            }
        }
        settings.push((name, value));
        let mut process = Tollgate::launch(RULES, &settings);
        let status = process.wait_for_exit();
        let log = process.log();
        assert_eq!(status.code(), Some(2), "{name}: {log}");
        assert!(log.contains(name) && !log.contains("listening"), "{name}: {log}");
    }
}

#[test]
fn empty_values_are_equivalent_to_unset_ones() {
    let mut settings = Vec::new();
    for (name, ..) in VARIABLES {
        // Without these, the process would use default ports.
        if !LISTENERS.contains(name) {
            settings.push((*name, ""));
        }
    }
    settings.push(("LOG_FORMAT", "json"));
    let empty = Tollgate::start(RULES, &settings);
    // `Tollgate` sets this one otherwise.
    let unset = Tollgate::start(RULES, &[("REDIS_TIMEOUT", "")]);
    for path in ["/rlconfig", "/ready", "/healthcheck"] {
        let one = http::get(empty.http, path, &[]);
        let other = http::get(unset.http, path, &[]);
        assert_eq!((one.status, one.text()), (other.status, other.text()), "{path}");
    }
    assert_eq!(log_messages(&empty), log_messages(&unset));
}

fn log_messages(service: &Tollgate) -> Vec<String> {
    let mut messages = Vec::new();
    for line in service.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        messages.push(line["@message"].to_string());
    }
    messages
}

#[test]
fn all_valid_values_work_together_and_ignored_ones_are_logged_once() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(path("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(path("tls.key"), key.serialize_pem()).unwrap();
    std::fs::create_dir_all(path("root/ratelimit/config")).unwrap();
    std::fs::write(path("root/ratelimit/config/rules.yaml"), RULES).unwrap();
    let redis = RedisServer::start();
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let expand = |value: &str| match value {
        "@cert" => path("tls.crt"),
        "@key" => path("tls.key"),
        "@rules" => path("root"),
        "@redis" => format!("127.0.0.1:{}", redis.port()),
        "@statsd" => sink.local_addr().unwrap().port().to_string(),
        value => value.to_owned(),
    };
    let mut valid = Vec::new();
    for &(name, value, _) in VARIABLES {
        if !LISTENERS.contains(&name) {
            valid.push((name, expand(value)));
        }
    }
    let mut settings = Vec::new();
    for (name, value) in &valid {
        settings.push((*name, value.as_str()));
    }
    settings.push(("TOLLGATE_CONFIG", ""));
    let service = Tollgate::start("", &settings);
    service.wait_until_healthy();
    let body = br#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}"#;
    let reply = http::send(service.http, "POST", "/json", &[], body);
    assert_eq!((reply.status, reply.header("x-limit").as_deref()), (200, Some("1")));
    let log = service.log();
    for &(name, value, invalid) in VARIABLES {
        let messages = log.matches(&format!("\"{name} is ignored: ")).count();
        let ignored = invalid.is_none() && is_ignored(name);
        assert_eq!(messages, usize::from(ignored && !value.is_empty()), "{name}: {log}");
        assert!(!log.contains(&format!("\"{name} is not a setting")), "{name}: {log}");
    }
}

/// Whether the variable is deliberately ignored.
fn is_ignored(name: &str) -> bool {
    name.starts_with("MEMCACHE_")
        || name.contains("_POOL_")
        || name.contains("_PIPELINE_")
        || name.ends_with("_INTERVAL") && name.starts_with("REDIS_STARTUP_")
        || ["PROMETHEUS_MAPPER_YAML", "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL"]
            .contains(&name)
}
