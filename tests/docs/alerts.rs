//! Checks the alerts in `examples/prometheus`.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, sync::LazyLock};

use regex::Regex;
use tempfile::TempDir;
use testkit::{
    certificates::CertificateAuthority, http, network::free_port, redis::RedisServer,
    tollgate::Tollgate,
};

use crate::test_tool;

static METRIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(tollgate|ratelimit)_[a-z_]+\b").unwrap());

fn read(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The values behind `key` in the lines of the alerts.
fn values(key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for line in read("examples/prometheus/alerts.yaml").lines() {
        if let Some((_, value)) = line.split_once(key) {
            values.push(value.to_owned());
        }
    }
    assert!(!values.is_empty());
    values
}

#[test]
fn each_alert_is_in_the_documentation() {
    let mut documented = Vec::new();
    for line in read("docs/operate.md").lines() {
        if let Some(row) = line.strip_prefix("| `Tollgate") {
            documented.push(format!("Tollgate{}", row.split_once('`').unwrap().0));
        }
    }
    assert_eq!(documented, values("- alert: "));
}

#[test]
fn each_metric_of_an_alert_exists() {
    let files = TempDir::new().unwrap();
    CertificateAuthority::new().write(files.path(), "localhost");
    let [certificate, key] =
        ["tls.crt", "tls.key"].map(|name| files.path().join(name).display().to_string());
    let (redis, per_second) = (RedisServer::start(), RedisServer::start());
    let service = Tollgate::start(
        "",
        &[
            ("REDIS_URL", &redis.url()),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", &per_second.url()),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &certificate),
            ("GRPC_SERVER_TLS_KEY", &key),
            ("TOLLGATE_CONFIG", ""),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", &format!("localhost:{}", free_port())),
        ],
    );
    let page = http::get(service.http, "/metrics", &[]).text();
    let mut missing = BTreeSet::new();
    for expression in values(" expr: ") {
        for metric in METRIC.find_iter(&expression) {
            let is_shown = |line: &str| line.starts_with(&format!("# TYPE {} ", metric.as_str()));
            if !page.lines().any(is_shown) {
                missing.insert(metric.as_str().to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?} of\n{page}");
}

#[test]
fn prometheus_accepts_its_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus/prometheus.yaml");
    let check = Command::new(test_tool("prometheus/usr/bin/promtool"))
        .args(["check", "config", file])
        .output()
        .expect("tests/setup.sh installs promtool");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
