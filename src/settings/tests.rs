use super::*;
use crate::store::redis::{RedisAddress, RedisServers};

mod docs;
mod statistics;
mod tls;
mod jitter;
mod tracing;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn lookup(pairs: Pairs<'_>) -> impl Fn(&str) -> Option<String> {
    move |name| pairs.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
}

fn read(flags: Pairs<'_>, env: Pairs<'_>) -> Result<Settings, SettingsError> {
    Settings::read(lookup(flags), lookup(env))
}

fn settings() -> impl Iterator<Item = &'static table::Setting> {
    table::GROUPS.iter().flat_map(|it| it.settings)
}

/// What one setting came to, in the notation of `Debug`.
fn show(settings: &Settings, name: &str) -> String {
    let Settings { rules, listeners, store, keys, mode, near_limit_ratio, .. } = settings;
    let Settings { deny_cache, fallback, response, log, drain, .. } = settings;
    let headers = response.headers.as_ref();
    match name {
        "TOLLGATE_CONFIG" => rules.source.to_string(),
        name if name.starts_with("RUNTIME_") => format!("{:?}", rules.source),
        "FORCE_START_WITHOUT_INITIAL_CONFIG" => rules.force_start.to_string(),
        "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED" => rules.needs_domain.to_string(),
        name if name.starts_with("CONFIG_") || name.starts_with("XDS_") => show_xds(rules, name),
        "MERGE_DOMAIN_CONFIG" => rules.merge_domains.to_string(),
        "GRPC_HOST" | "GRPC_PORT" | "GRPC_UDS" => listeners.grpc.to_string(),
        name if name.contains("_TLS") && name.starts_with("GRPC_") => {
            format!("{:?}", listeners.tls.is_some())
        }
        "HOST" | "PORT" => listeners.http.to_string(),
        "DEBUG_HOST" | "DEBUG_PORT" => listeners.debug.to_string(),
        "MAX_CONNECTIONS" => listeners.max_connections.to_string(),
        "GRPC_MAX_CONNECTION_AGE" => format!("{:?}", listeners.max_age),
        "GRPC_MAX_CONNECTION_AGE_GRACE" => format!("{:?}", listeners.max_age_grace),
        "LOCAL_CACHE_SIZE_IN_BYTES" => deny_cache.to_string(),
        "ON_ERROR" => format!("{:?}", fallback.on_error),
        "STORE_DEADLINE" => format!("{:?}", fallback.deadline),
        "LOCAL_SHARE" => fallback.local_share.to_string(),
        "CACHE_KEY_PREFIX" => keys.prefix.clone(),
        "COUNTER_KEYS" => format!("{:?}", keys.style),
        "SHADOW_MODE" => mode.shadow.to_string(),
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT" => mode.stop.to_string(),
        "QUOTA_MODE" => mode.quota.to_string(),
        "NEAR_LIMIT_RATIO" => near_limit_ratio.to_string(),
        "LIMIT_LIMIT_HEADER" => headers.map_or("off".into(), |it| it.limit.clone()),
        "LIMIT_REMAINING_HEADER" => headers.map_or("off".into(), |it| it.remaining.clone()),
        "LIMIT_RESET_HEADER" => headers.map_or("off".into(), |it| it.reset.clone()),
        "RESPONSE_DYNAMIC_METADATA" => format!("{:?}", response.metadata),
        "LOG_LEVEL" => log.level.to_string(),
        "LOG_FORMAT" => format!("{:?}", log.format),
        name if table::STATISTICS.settings.iter().any(|it| it.name == name) => {
            statistics::show(&settings.statistics, name)
        }
        name if name.starts_with("TRACING_") => tracing::show(settings, name),
        "DRAIN_DELAY" => format!("{:?}", drain.delay),
        "DRAIN_TIMEOUT" => format!("{:?}", drain.timeout),
        _ => format!("{store:?}"),
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
        "CONFIG_GRPC_XDS_SERVER_TLS_CACERT" => format!("{:?}", tls.map(|it| &it.authorities)),
        "CONFIG_GRPC_XDS_SERVER_TLS_SAN" => format!("{:?}", tls.map(|it| &it.server_name)),
        "CONFIG_GRPC_XDS_SERVER_USE_TLS" => tls.is_some().to_string(),
        "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES" => xds.subscriber.max_message.to_string(),
        _ => format!("{:?}", xds.backoff),
    }
}

/// What counts where nothing else is said.
const MEMORY: &str = "Memory { max_keys: 1000000 }";

/// A setting, values for it, and what each comes to.
const LEGAL: &[(&str, Pairs<'_>)] = &[
    ("TOLLGATE_CONFIG", &[("", "config/"), ("/etc/rules.yaml", "/etc/rules.yaml")]),
    (
        "RUNTIME_ROOT",
        &[
            ("", "Path(\"config/\")"),
            (
                "/data/",
                "Runtime(RuntimeLayout { root: \"/data/\", subdirectory: \"\", app_directory: \
                 \"config\", watch_root: true, ignore_dot_files: false })",
            ),
        ],
    ),
    (
        "RUNTIME_SUBDIRECTORY",
        &[
            ("", "Path(\"config/\")"),
            (
                "ratelimit",
                "Runtime(RuntimeLayout { root: \"/srv/runtime_data/current\", subdirectory: \
                 \"ratelimit\", app_directory: \"config\", watch_root: true, ignore_dot_files: \
                 false })",
            ),
        ],
    ),
    ("RUNTIME_APPDIRECTORY", &[("", "Path(\"config/\")"), ("rules", "Path(\"config/\")")]),
    ("RUNTIME_WATCH_ROOT", &[("", "Path(\"config/\")"), ("false", "Path(\"config/\")")]),
    ("RUNTIME_IGNOREDOTFILES", &[("", "Path(\"config/\")"), ("true", "Path(\"config/\")")]),
    ("CONFIG_TYPE", &[("", "config/"), ("file", "config/"), ("GRPC_XDS_SOTW", "xDS")]),
    (
        "CONFIG_GRPC_XDS_SERVER_URL",
        &[
            ("", "localhost:18000"),
            ("envoy-gateway:18001", "envoy-gateway:18001"),
            ("dns:///[::1]:18001", "[::1]:18001"),
        ],
    ),
    ("CONFIG_GRPC_XDS_NODE_ID", &[("", "default"), ("envoy-ratelimit", "envoy-ratelimit")]),
    (
        "CONFIG_GRPC_XDS_NODE_METADATA",
        &[("", "[]"), ("a=b, c==,d=,", r#"[("a", "b"), ("c", "="), ("d", "")]"#)],
    ),
    (
        "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
        &[("", "[]"), ("Authorization:Bearer a:b", r#"[("authorization", Sensitive)]"#)],
    ),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", &[("", "false"), ("true", "true")]),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &[]),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &[]),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &[("", "None"), ("Cargo.toml", "None")]),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", &[("", "None"), ("gateway", "None")]),
    (
        "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
        &[
            ("", "BackoffSettings { initial: 10s, max: 60s, jitter: 0.5 }"),
            ("60s", "BackoffSettings { initial: 60s, max: 60s, jitter: 0.5 }"),
        ],
    ),
    (
        "XDS_CLIENT_BACKOFF_MAX_INTERVAL",
        &[("10s", "BackoffSettings { initial: 10s, max: 10s, jitter: 0.5 }")],
    ),
    (
        "XDS_CLIENT_BACKOFF_JITTER",
        &[("false", "BackoffSettings { initial: 10s, max: 60s, jitter: 0.0 }")],
    ),
    (
        "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
        &[("1", "BackoffSettings { initial: 10s, max: 60s, jitter: 1.0 }")],
    ),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", &[("", "4194304"), ("0", "4194304"), ("1", "1")]),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", &[("", "false"), ("true", "true")]),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", &[("", "false"), ("T", "true")]),
    (
        "MERGE_DOMAIN_CONFIG",
        &[("", "false"), ("1", "true"), ("T", "true"), ("True", "true"), ("yes", "true")],
    ),
    ("GRPC_HOST", &[("", "0.0.0.0:8081"), ("::", "[::]:8081"), ("[::1]", "[::1]:8081")]),
    ("GRPC_PORT", &[("", "0.0.0.0:8081"), ("0", "0.0.0.0:0"), ("65535", "0.0.0.0:65535")]),
    (
        "HOST",
        &[("", "0.0.0.0:8080"), ("localhost", "localhost:8080"), ("a-b.c_d.", "a-b.c_d.:8080")],
    ),
    ("PORT", &[("", "0.0.0.0:8080"), ("08080", "0.0.0.0:8080")]),
    ("DEBUG_HOST", &[("", "0.0.0.0:6070"), ("127.0.0.1", "127.0.0.1:6070")]),
    ("DEBUG_PORT", &[("", "0.0.0.0:6070"), ("1", "0.0.0.0:1")]),
    ("MAX_CONNECTIONS", &[("", "10000"), ("1", "1"), ("4294967295", "4294967295")]),
    ("GRPC_MAX_CONNECTION_AGE", &[("", "Some(86400s)"), ("0", "None"), ("1h30m", "Some(5400s)")]),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", &[("", "Some(3600s)"), ("0s", "None"), ("1ns", "Some(1ns)")]),
    ("BACKEND_TYPE", &[("", MEMORY), ("Memory", MEMORY)]),
    (
        "LOCAL_CACHE_SIZE_IN_BYTES",
        &[("", "0"), ("1000", "524288"), ("524289", "524289"), ("4294967295", "4294967295")],
    ),
    ("MEMORY_MAX_KEYS", &[("", MEMORY), ("256", "Memory { max_keys: 256 }")]),
    (
        "REDIS_URL",
        &[
            ("", MEMORY),
            (
                "redis://:hunter2@cache:6380",
                "Redis { main: RedisSettings { servers: Single(Tcp { host: \"cache\", port: 6380 }), \
                 login: Login { username: None, .. }, sentinel_login: Login { username: None, .. }, \
                 database: 0, tls: None, timeout: 500ms, jitter: Jitter { bound: 0 } }, per_second: None, give_up: None, health: false }",
            ),
        ],
    ),
    ("REDIS_AUTH", &[("hunter2", MEMORY)]),
    ("REDIS_TLS", &[("no", MEMORY), ("true", MEMORY)]),
    ("GRPC_UDS", &[("", "0.0.0.0:8081"), ("/run/t.sock", "unix:/run/t.sock")]),
    ("GRPC_SERVER_USE_TLS", &[("", "false"), ("false", "false")]),
    // The rest is in `tls`.
    ("GRPC_SERVER_TLS_CERT", &[("", "false")]),
    ("GRPC_SERVER_TLS_KEY", &[("", "false")]),
    ("GRPC_CLIENT_TLS_CACERT", &[("", "false")]),
    ("GRPC_CLIENT_TLS_SAN", &[("", "false")]),
    ("REDIS_TYPE", &[("SINGLE", MEMORY), ("Sentinel", MEMORY), ("cluster", MEMORY)]),
    ("REDIS_TLS_CLIENT_CERT", &[]),
    ("REDIS_TLS_CLIENT_KEY", &[]),
    ("REDIS_TLS_CACERT", &[("Cargo.toml", MEMORY)]),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", &[("true", MEMORY)]),
    ("REDIS_SENTINEL_AUTH", &[("hunter2", MEMORY)]),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", &[("0", MEMORY), ("5s", MEMORY)]),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", &[("true", MEMORY)]),
    ("REDIS_PERSECOND", &[("false", MEMORY)]),
    ("REDIS_PERSECOND_URL", &[("cache", MEMORY)]),
    ("REDIS_PERSECOND_TYPE", &[("cluster", MEMORY)]),
    ("REDIS_PERSECOND_AUTH", &[("hunter2", MEMORY)]),
    ("REDIS_PERSECOND_TLS", &[("true", MEMORY)]),
    ("REDIS_PERSECOND_SENTINEL_AUTH", &[("hunter2", MEMORY)]),
    ("REDIS_PERSECOND_SOCKET_TYPE", &[("tcp", MEMORY)]),
    ("REDIS_PERSECOND_TIMEOUT", &[("1s", MEMORY)]),
    ("REDIS_SOCKET_TYPE", &[("tcp", MEMORY)]),
    ("REDIS_TIMEOUT", &[("1s", MEMORY)]),
    (
        "ON_ERROR",
        &[
            ("", "None"),
            ("error", "None"),
            ("Allow", "Some(Allow)"),
            ("deny", "Some(Deny)"),
            ("local", "Some(Local)"),
        ],
    ),
    ("STORE_DEADLINE", &[("", "15ms"), ("1h", "3600s")]),
    ("LOCAL_SHARE", &[("", "1"), ("0.25", "0.25"), ("1e-9", "0.000000001")]),
    ("CACHE_KEY_PREFIX", &[("", ""), (" a:{b} ", " a:{b} ")]),
    (
        "COUNTER_KEYS",
        &[("", "Unambiguous"), ("unambiguous", "Unambiguous"), ("Reference", "Reference")],
    ),
    (
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
        &[("", "false"), ("true", "true"), ("1", "true"), ("False", "false")],
    ),
    ("EXPIRATION_JITTER_MAX_SECONDS", &[("", MEMORY), ("300", MEMORY), ("-1", MEMORY)]),
    ("SHADOW_MODE", &[("", "false"), ("on", "true"), ("t", "true"), ("TRUE", "true")]),
    (
        "QUOTA_MODE",
        &[("0", "false"), ("f", "false"), ("NO", "false"), ("Off", "false"), ("false", "false")],
    ),
    ("NEAR_LIMIT_RATIO", &[("", "0.8"), ("1", "1"), ("0.05", "0.05")]),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", &[]),
    ("LIMIT_LIMIT_HEADER", &[("", "RateLimit-Limit"), ("x-limit", "x-limit")]),
    (
        "LIMIT_REMAINING_HEADER",
        &[("", "RateLimit-Remaining"), ("!#$%&'*+-.^_`|~09azAZ", "!#$%&'*+-.^_`|~09azAZ")],
    ),
    ("LIMIT_RESET_HEADER", &[("", "RateLimit-Reset"), ("X", "X")]),
    (
        "RESPONSE_DYNAMIC_METADATA",
        &[
            ("", "Refused"),
            ("refused", "Refused"),
            ("Always", "Always"),
            ("true", "Always"),
            ("never", "Never"),
            ("0", "Never"),
        ],
    ),
    (
        "LOG_LEVEL",
        &[
            ("", "INFO"),
            ("panic", "ERROR"),
            ("FATAL", "ERROR"),
            ("error", "ERROR"),
            ("Warn", "WARN"),
            ("WARNING", "WARN"),
            ("info", "INFO"),
            ("debug", "DEBUG"),
            ("trace", "TRACE"),
        ],
    ),
    ("LOG_FORMAT", &[("", "Text"), ("text", "Text"), ("JSON", "Json")]),
    ("DISABLE_STATS", &[("", "[]"), ("true", "[]")]),
    (
        "EXTRA_TAGS",
        &[
            ("", "[]"),
            ("foo:bar,a:b", r#"[("a", "b"), ("foo", "bar")]"#),
            (" foo : b a , empty: ,", r#"[("foo", "b a")]"#),
        ],
    ),
    ("STATS_FLUSH_INTERVAL", &[("", "10s"), ("100ms", "100ms"), ("1h", "3600s")]),
    ("USE_STATSD", &[("", "[]"), ("true", "[tcp localhost:8125]"), ("false", "[]")]),
    ("STATSD_HOST", &[("", "[]"), ("::1", "[tcp [::1]:8125]")]),
    ("STATSD_PORT", &[("", "[]"), ("9125", "[tcp localhost:9125]")]),
    (
        "STATSD_PROTOCOL",
        &[("", "[]"), ("TCP", "[tcp localhost:8125]"), ("udp", "[udp localhost:8125]")],
    ),
    ("USE_DOG_STATSD", &[("", "[]"), ("true", "[dog localhost:8125]")]),
    ("USE_DOG_STATSD_MOGRIFIERS", &[("", "[]"), (" , ", "[]")]),
    ("USE_PROMETHEUS", &[("", "None"), ("true", "Some(\"[::]:9090/metrics\")")]),
    (
        "PROMETHEUS_ADDR",
        &[
            ("", "Some(\"[::]:9090/metrics\")"),
            (":19001", "Some(\"[::]:19001/metrics\")"),
            ("127.0.0.1:0", "Some(\"127.0.0.1:0/metrics\")"),
            ("stats.local:1", "Some(\"stats.local:1/metrics\")"),
            ("[::1]:9090", "Some(\"[::1]:9090/metrics\")"),
        ],
    ),
    ("PROMETHEUS_PATH", &[("/", "Some(\"[::]:9090/\")"), ("/a/{b}", "Some(\"[::]:9090/a/{b}\")")]),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &[("", "false"), ("1", "true")]),
    ("DRAIN_DELAY", &[("", "3s"), ("0", "0ns"), ("150ms", "150ms")]),
    ("DRAIN_TIMEOUT", &[("", "20s"), ("2m", "120s")]),
];

/// A setting, and values that it refuses.
const ILLEGAL: &[(&str, &[&str])] = &[
    // Every text is a path, a password and a prefix.
    ("TOLLGATE_CONFIG", &[]),
    ("RUNTIME_ROOT", &[]),
    ("RUNTIME_SUBDIRECTORY", &["/ratelimit", "../a"]),
    ("RUNTIME_APPDIRECTORY", &["/config", "a/../b"]),
    ("RUNTIME_WATCH_ROOT", &["root"]),
    ("RUNTIME_IGNOREDOTFILES", &["2"]),
    ("CONFIG_TYPE", &["GRPC_XDS", "xds"]),
    (
        "CONFIG_GRPC_XDS_SERVER_URL",
        &["a", "a:0", "a:b", ":1", "http://a:1", "::1:80", "dns://a:1", "a:1/b", "unix:/a"],
    ),
    ("CONFIG_GRPC_XDS_NODE_ID", &[]),
    ("CONFIG_GRPC_XDS_NODE_METADATA", &["a", "a=b,c", "a:b"]),
    (
        "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
        &["a", "a=b", ":a", "a b:c", "grpc-timeout:1", "a-bin:b", "a:\u{7f}"],
    ),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", &["tls"]),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &["/no/such/file", "Cargo.toml"]),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &["/no/such/file", "Cargo.toml"]),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &["/no/such/file"]),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", &["a:1", "*.a"]),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", &["0", "10"]),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &["0", "9s"]),
    ("XDS_CLIENT_BACKOFF_JITTER", &["0.5"]),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &["-0.1", "1.1", "nan", "half"]),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", &["-1", "4MiB"]),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", &["maybe"]),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", &["one"]),
    ("REDIS_AUTH", &[]),
    ("CACHE_KEY_PREFIX", &[]),
    ("MERGE_DOMAIN_CONFIG", &["2", "maybe", " true"]),
    ("GRPC_HOST", &["[::", "[127.0.0.1]", "::1]", "a b", "localhost:80", "http://a"]),
    ("GRPC_PORT", &["65536", "-1", "+1", "0x10", "80 ", "http", "tcp://10.0.0.1:80"]),
    ("HOST", &["256.0.0.1", "1.2.3", "a..b", ".", "ä", "a/b"]),
    ("PORT", &["8_080", "1e3"]),
    ("DEBUG_HOST", &["*", "0"]),
    ("DEBUG_PORT", &["6070/tcp"]),
    ("MAX_CONNECTIONS", &["0", "4294967296", "many"]),
    ("GRPC_MAX_CONNECTION_AGE", &["1", "24 h", "1d", "-1s", "h", ".s", "1.2.3s", "1s2"]),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", &["9999999999h", "18446744073709551615s", "00"]),
    ("BACKEND_TYPE", &["memcache", "postgres", "redis"]),
    ("MEMORY_MAX_KEYS", &["255", "1,000,000"]),
    ("LOCAL_CACHE_SIZE_IN_BYTES", &["-1", "16MiB"]),
    ("REDIS_URL", &["redis://host:port"]),
    ("REDIS_TLS", &["maybe"]),
    ("REDIS_TLS_CLIENT_CERT", &["/no/such/file"]),
    ("REDIS_TLS_CLIENT_KEY", &["/no/such/file"]),
    ("REDIS_TLS_CACERT", &["/no/such/file"]),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", &["maybe"]),
    ("REDIS_SENTINEL_AUTH", &[]),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", &["5", "-1s"]),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", &["sometimes"]),
    ("REDIS_PERSECOND", &["2", "true"]),
    ("REDIS_PERSECOND_URL", &["redis://host:port"]),
    ("REDIS_PERSECOND_TYPE", &["double"]),
    ("REDIS_PERSECOND_AUTH", &[]),
    ("REDIS_PERSECOND_TLS", &["maybe"]),
    ("REDIS_PERSECOND_SENTINEL_AUTH", &[]),
    ("REDIS_PERSECOND_SOCKET_TYPE", &["udp"]),
    ("REDIS_PERSECOND_TIMEOUT", &["0"]),
    (
        "GRPC_UDS",
        &[
            "@t",
            "/a/path/that/is/longer/than/those/which/the/system/can/hold/in/the/\
        address/of/a/unix/socket/which/is/not/very/long",
        ],
    ),
    ("GRPC_SERVER_USE_TLS", &["TRUE", "tls"]),
    ("GRPC_SERVER_TLS_CERT", &["Cargo.toml"]),
    ("GRPC_SERVER_TLS_KEY", &["Cargo.toml"]),
    ("GRPC_CLIENT_TLS_CACERT", &["/no/such/file", "Cargo.toml"]),
    ("GRPC_CLIENT_TLS_SAN", &["a"]),
    ("REDIS_TYPE", &["double"]),
    ("REDIS_SOCKET_TYPE", &["udp"]),
    ("REDIS_TIMEOUT", &["0", "0s", "soon"]),
    ("ON_ERROR", &["open", "true"]),
    ("STORE_DEADLINE", &["0", "15"]),
    ("LOCAL_SHARE", &["0", "1.01", "-1", "1/4", "nan"]),
    ("COUNTER_KEYS", &["ours"]),
    ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", &["si", "2"]),
    ("EXPIRATION_JITTER_MAX_SECONDS", &["5m", "1.5", "4294967296", "-", "--1", "+1"]),
    ("SHADOW_MODE", &["si"]),
    ("QUOTA_MODE", &["-1"]),
    ("NEAR_LIMIT_RATIO", &["0", "1.1", "-0.5", "nan", "inf", "80%"]),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", &["RateLimit"]),
    ("LIMIT_LIMIT_HEADER", &["a b", "a:", "ä"]),
    ("LIMIT_REMAINING_HEADER", &["a\r\nb", "(a)"]),
    ("LIMIT_RESET_HEADER", &[":status", "\"a\""]),
    ("RESPONSE_DYNAMIC_METADATA", &["sometimes"]),
    ("LOG_LEVEL", &["loud", "0"]),
    ("LOG_FORMAT", &["xml"]),
    ("DISABLE_STATS", &["none"]),
    ("EXTRA_TAGS", &["a", ":b", "a:b:c", "a=b", "a:b,a:c", "a.b:1,a-b:2"]),
    ("STATS_FLUSH_INTERVAL", &["0", "10", "99ms", "-1s"]),
    ("USE_STATSD", &["tcp"]),
    ("STATSD_HOST", &["a:1", "udp://a"]),
    ("STATSD_PORT", &["0", "65536", "tcp://10.0.0.1:8125"]),
    ("STATSD_PROTOCOL", &["unix", "true"]),
    ("USE_DOG_STATSD", &["udp"]),
    ("USE_DOG_STATSD_MOGRIFIERS", &["a b", "a,b,A", "a-b", "ä"]),
    ("USE_PROMETHEUS", &["9090"]),
    ("PROMETHEUS_ADDR", &["9090", "a", "::1:80", ":x", "http://a:1", "a:1/metrics", ":"]),
    ("PROMETHEUS_PATH", &["metrics", "/a b", "/a?b", "/ä"]),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &["ms"]),
    ("DRAIN_DELAY", &["3"]),
    ("DRAIN_TIMEOUT", &["20sec"]),
];

fn legal() -> impl Iterator<Item = &'static (&'static str, Pairs<'static>)> {
    LEGAL.iter().chain(tracing::LEGAL)
}

fn illegal() -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    ILLEGAL.iter().chain(tracing::ILLEGAL)
}

#[test]
fn every_setting_is_tried() {
    let names: Vec<_> = settings().map(|it| it.name).collect();
    for name in &names {
        assert!(legal().any(|(it, _)| it == name), "{name} has no legal value");
        assert!(illegal().any(|(it, _)| it == name), "{name} has no illegal value");
    }
    assert_eq!(names.len(), legal().count());
}

#[test]
fn every_legal_value_is_understood() {
    for &(name, values) in legal() {
        for &(value, expected) in values {
            let mut env = vec![(name, value), ("LIMIT_RESPONSE_HEADERS_ENABLED", "true")];
            if name.starts_with("PROMETHEUS_") {
                env.push(("USE_PROMETHEUS", "true"));
            }
            if name.contains("XDS_") {
                env.push(("CONFIG_TYPE", "GRPC_XDS_SOTW"));
            }
            if name.starts_with("TRACING_") {
                env.push(("TRACING_ENABLED", "true"));
            }
            let settings = read(&[], &env).map_err(|it| it.to_string()).unwrap();
            assert_eq!(show(&settings, name), expected, "{name}={value:?}");
        }
    }
}

#[test]
fn every_illegal_value_is_refused_with_its_place() {
    for &(name, values) in illegal() {
        let setting = settings().find(|it| it.name == name).unwrap();
        for value in values {
            let variable = read(&[], &[(name, value)]).unwrap_err().to_string();
            let flag = read(&[(name, value)], &[]).unwrap_err().to_string();
            let shown = match setting.value {
                table::Value::Secret(_) => " (not shown): ".to_owned(),
                table::Value::Text(_) | table::Value::Switch => format!("={value:?}: "),
            };
            assert_eq!(variable.lines().count(), 2, "{variable}");
            assert!(variable.contains(&format!("\n  {name}{shown}")), "{variable}");
            assert!(flag.contains(&format!("\n  --{}{shown}", setting.flag())), "{flag}");
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
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
  PORT="tcp://10.0.0.1:80": expected a port from 0 to 65535; Kubernetes sets such a value for a Service of that name, unless the pod says `enableServiceLinks: false`
  BACKEND_TYPE="memcache": tollgate does not count in Memcached; use redis to count across instances, or memory
  --redis-timeout="soon": expected a duration such as 500ms, 10s or 1h30m (units ns, us, ms, s, m and h), of at most 290 years
  REDIS_TYPE="double": expected single or sentinel or cluster
  REDIS_URL (not shown): the Redis address cannot be understood (Redis URL did not parse - InvalidClientConfig); expected host:port, redis://user:password@host:port/database, rediss:// for TLS, /path or unix:///path
  LOG_LEVEL="loud": expected error or warn or info or debug or trace"#
    );
}

#[test]
fn a_flag_counts_before_a_variable_and_a_variable_before_the_default() {
    let port = |flags, env| match read(flags, env).unwrap().listeners.grpc {
        Place::Tcp(address) => address.port,
        Place::Unix(_) => unreachable!(),
    };
    let (flag, variable) = (&[("GRPC_PORT", "1")], &[("GRPC_PORT", "2")]);
    assert_eq!(port(flag, variable), 1);
    assert_eq!(port(&[], variable), 2);
    assert_eq!(port(&[], &[]), 8081);
    assert_eq!(port(&[], &[("GRPC_PORT", "")]), 8081);
    assert_eq!(port(&[("GRPC_PORT", "")], variable), 8081, "an empty flag asks for the default");
    assert_eq!(port(flag, &[("GRPC_PORT", "x")]), 1, "what a flag hides does not matter");
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
fn the_kind_of_socket_has_to_agree_with_the_url() {
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
    assert_eq!(read(&[], &[("LIMIT_LIMIT_HEADER", "x")]).unwrap().response.headers, None);
}

#[test]
fn the_rules_settings_can_be_read_alone() {
    let env = [("TOLLGATE_CONFIG", "rules"), ("MERGE_DOMAIN_CONFIG", "yes"), ("PORT", "x")];
    let rules = RuleSettings::read(|_| None, lookup(&env)).unwrap();
    assert_eq!((rules.source.to_string().as_str(), rules.merge_domains), ("rules", true));
}
