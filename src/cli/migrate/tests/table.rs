//! Compares the checks with the table of differences in `docs/settings.md`.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use super::*;

const PROXY: &str = "`REDIS_URL` or `REDIS_PERSECOND_URL` of a proxy or a node of a cluster, with \
                     `REDIS_TYPE=single`";

const CERTIFICATES: &str = "`REDIS_TLS`, `REDIS_PERSECOND_TLS`, `GRPC_CLIENT_TLS_CACERT`, `CONFIG_GRPC_XDS_SERVER_USE_TLS`";

/// For each row of the table: an environment with that difference, and the
/// variable that the finding is about.
const ROWS: &[(&str, &str, &str)] = &[
    ("`BACKEND_TYPE`", "BACKEND_TYPE=memcache", "BACKEND_TYPE"),
    ("`REDIS_URL`", "", "REDIS_URL"),
    (PROXY, "REDIS_URL=/var/run/nutcracker/ratelimit.sock", "REDIS_URL"),
    (PROXY, "REDIS_URL=redis-cluster:1", "REDIS_URL"),
    (
        PROXY,
        "REDIS_URL=a:1\nREDIS_PERSECOND=true\nREDIS_PERSECOND_URL=b:22121",
        "REDIS_PERSECOND_URL",
    ),
    ("`REDIS_URL`", "REDIS_URL=a", "REDIS_URL"),
    ("`REDIS_URL`", "REDIS_URL=rediss://a:1", "REDIS_URL"),
    (
        "`REDIS_URL`",
        "REDIS_URL=a:1\nREDIS_PERSECOND=true\nREDIS_PERSECOND_URL=b",
        "REDIS_PERSECOND_URL",
    ),
    ("`REDIS_SOCKET_TYPE`", "REDIS_URL=a:1", "REDIS_SOCKET_TYPE"),
    ("`REDIS_SOCKET_TYPE`", "REDIS_URL=a:1\nREDIS_SOCKET_TYPE=TCP", "REDIS_SOCKET_TYPE"),
    (CERTIFICATES, "REDIS_URL=a:1\nREDIS_TLS=true", "REDIS_TLS"),
    (
        "`REDIS_TIMEOUT`, `REDIS_PERSECOND_TIMEOUT`",
        "REDIS_URL=a:1\nREDIS_TIMEOUT=1ms\nREDIS_PERSECOND=true\nREDIS_PERSECOND_URL=b:1",
        "REDIS_TIMEOUT",
    ),
    (
        "`REDIS_POOL_ON_EMPTY_BEHAVIOR`, `REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR`",
        "REDIS_POOL_ON_EMPTY_BEHAVIOR=ERROR",
        "REDIS_POOL_ON_EMPTY_BEHAVIOR",
    ),
    ("`COUNTER_KEYS`", "REDIS_URL=a:1", "COUNTER_KEYS"),
    (
        "`COUNTER_KEYS`",
        "REDIS_URL=a:1\nREDIS_TYPE=cluster\nCOUNTER_KEYS=reference\n\
         STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT=true",
        "COUNTER_KEYS",
    ),
    ("`RESPONSE_DYNAMIC_METADATA`", "", "RESPONSE_DYNAMIC_METADATA"),
    ("`LOG_LEVEL`", "", "LOG_LEVEL"),
    ("`RUNTIME_ROOT`, `RUNTIME_SUBDIRECTORY`", "RUNTIME_ROOT=/a", "RUNTIME_SUBDIRECTORY"),
    ("`RUNTIME_ROOT`, `RUNTIME_SUBDIRECTORY`", "", "RUNTIME_ROOT"),
    (
        "`RUNTIME_APPDIRECTORY`",
        "RUNTIME_SUBDIRECTORY=a\nRUNTIME_APPDIRECTORY=a/b",
        "RUNTIME_APPDIRECTORY",
    ),
    ("`RUNTIME_WATCH_ROOT`", "RUNTIME_SUBDIRECTORY=a", "RUNTIME_WATCH_ROOT"),
    ("`TOLLGATE_CONFIG`", "RUNTIME_SUBDIRECTORY=a\nTOLLGATE_CONFIG=b", "TOLLGATE_CONFIG"),
    (
        "`FORCE_START_WITHOUT_INITIAL_CONFIG`",
        "FORCE_START_WITHOUT_INITIAL_CONFIG=true",
        "FORCE_START_WITHOUT_INITIAL_CONFIG",
    ),
    (
        "`XDS_CLIENT_BACKOFF_MAX_INTERVAL`",
        "CONFIG_TYPE=GRPC_XDS_SOTW",
        "XDS_CLIENT_BACKOFF_MAX_INTERVAL",
    ),
    (
        "`XDS_CLIENT_BACKOFF_RANDOM_FACTOR`",
        "CONFIG_TYPE=GRPC_XDS_SOTW\nXDS_CLIENT_BACKOFF_RANDOM_FACTOR=0.5",
        "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
    ),
    (
        "`GRPC_CLIENT_TLS_CACERT`",
        "GRPC_SERVER_USE_TLS=true\nGRPC_CLIENT_TLS_CACERT=/a",
        "GRPC_CLIENT_TLS_CACERT",
    ),
    ("`GRPC_CLIENT_TLS_SAN`", "GRPC_CLIENT_TLS_SAN=a", "GRPC_CLIENT_TLS_SAN"),
    ("`USE_STATSD`", "", "USE_STATSD"),
    ("`USE_STATSD`", "USE_STATSD=true\nUSE_PROMETHEUS=true", "USE_STATSD"),
    ("`USE_STATSD` is false, and no other place is set", "USE_STATSD=false", "USE_STATSD"),
    ("`PROMETHEUS_MAPPER_YAML`", "PROMETHEUS_MAPPER_YAML=/a", "PROMETHEUS_MAPPER_YAML"),
    ("`EXTRA_TAGS`", "EXTRA_TAGS=a:b\nUSE_PROMETHEUS=true", "EXTRA_TAGS"),
    ("`DISABLE_STATS`", "DISABLE_STATS=true", "DISABLE_STATS"),
    ("`STATS_FLUSH_INTERVAL`", "STATS_FLUSH_INTERVAL=1ms", "STATS_FLUSH_INTERVAL"),
    (
        "`DOG_STATSD_MOGRIFIER_*`",
        "USE_DOG_STATSD_MOGRIFIERS=A\nPATTERN=a\nNAME=b",
        "DOG_STATSD_MOGRIFIER_A_PATTERN",
    ),
    ("`OTEL_EXPORTER_OTLP_ENDPOINT`", "TRACING_ENABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ("empty variables", "QUOTA_MODE=", "QUOTA_MODE"),
    ("`EXPIRATION_JITTER_MAX_SECONDS`", "REDIS_URL=a:1", "EXPIRATION_JITTER_MAX_SECONDS"),
    (
        "`STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT`",
        "REDIS_URL=a:1\nSTOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT=true",
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
    ),
    (
        "`LOCAL_CACHE_SIZE_IN_BYTES`",
        "REDIS_URL=a:1\nLOCAL_CACHE_SIZE_IN_BYTES=1\nUSE_PROMETHEUS=true",
        "LOCAL_CACHE_SIZE_IN_BYTES",
    ),
    ("`PORT`, `GRPC_PORT`, `DEBUG_PORT`", "PORT=1\nDEBUG_PORT=1", "DEBUG_PORT"),
    ("numbers", "PORT=010", "PORT"),
    ("true and false, and some words", "SHADOW_MODE=yes", "SHADOW_MODE"),
    ("true and false, and some words", "REDIS_URL=a:1\nBACKEND_TYPE=Redis", "BACKEND_TYPE"),
];

/// The row for a check of manifests, not of environments.
const POD_ROW: &str = "`RUNTIME_IGNOREDOTFILES`";

/// The first cell of each row.
fn table() -> BTreeSet<String> {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let document = fs::read_to_string(PATH).unwrap();
    let (_, rest) = document.split_once("These differ:\n").unwrap();
    let rows = rest.trim_start().lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect()
}

#[test]
fn every_row_of_the_table_has_a_finding() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.0).chain([POD_ROW]).collect();
    let table = table();
    assert_eq!(rows, table.iter().map(String::as_str).collect());
    for (row, environment, variable) in ROWS {
        let about_it: Vec<_> = found(environment)
            .into_iter()
            .filter(|finding| finding.variable == *variable)
            .collect();
        assert!(!about_it.is_empty(), "{row}: no finding");
        assert!(
            about_it.iter().all(|finding| !finding.title.ends_with("means the same")),
            "{row}: {about_it:?}"
        );
    }
}

/// All tests of the repository, by the names of their functions and of their files.
fn tests(directory: &Path, names: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            names.push_str(&fs::read_to_string(&path).unwrap());
        } else if let Some(name) = path.file_stem() {
            writeln!(names, "fn {}(", name.display()).unwrap();
        }
    }
}

#[test]
fn every_general_difference_is_documented_with_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/migrate.md")).unwrap();
    let (_, section) = document.split_once("## What still differs\n").unwrap();
    let section = section.split("\n##").next().unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut general = Vec::new();
    behaviour::general_differences(&Environment::default(), &mut general);
    assert_eq!(rows.len(), general.len());
    let mut sources = String::new();
    for directory in ["src", "tests"] {
        tests(&root.join(directory), &mut sources);
    }
    for finding in general.iter().filter(|finding| finding.variable.is_empty()) {
        let Finding { title, reference, tollgate, .. } = finding;
        let row = format!("| {title} | {reference} | {tollgate} | ");
        assert!(rows.iter().any(|line| line.starts_with(&row)), "no row {row}");
    }
    for row in rows {
        let test = row.split(" | ").last().unwrap();
        for name in test.split('`').skip(1).step_by(2) {
            assert!(sources.contains(&format!("fn {name}(")), "{row}: no such test");
        }
    }
}

#[test]
fn every_check_has_a_row_in_the_table() {
    let table = table();
    let environments: Vec<_> =
        ROWS.iter().map(|(_, environment, _)| env_file::parse("a", environment).unwrap()).collect();
    for (index, check) in checks().into_iter().enumerate() {
        let finding = environments.iter().find_map(check);
        let finding = finding.unwrap_or_else(|| unreachable!("no row has check {index}"));
        let name = format!("`{}`", finding.variable);
        assert!(table.iter().any(|row| row.contains(&name)), "{name}");
    }
    let mut findings = Vec::new();
    environments.iter().for_each(|env| defaults::defaults(env, &mut findings));
    for finding in findings {
        let name = format!("`{}`", finding.variable);
        assert!(table.iter().any(|row| row.contains(&name)), "{name}");
    }
}
