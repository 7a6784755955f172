//! An operator sees which requests are refused, and why others are not.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    grpc::{self, Client, request_for},
    prometheus::Metrics,
    tollgate::Tollgate,
    wait::eventually,
};

use crate::in_process::InProcess;

const RULES: &str = "
domain: shop
descriptors:
- {key: user, rate_limit: {unit: year, requests_per_unit: 1}}
- {key: plan, descriptors: [{key: user, rate_limit: {unit: year, requests_per_unit: 1}}]}
";

async fn ask(client: &mut Client, domain: &str, entries: &[(&str, &str)]) {
    client.should_rate_limit(request_for(domain, entries)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_debug_each_descriptor_is_one_bounded_line_with_its_rule_or_the_reason() {
    let service = Tollgate::start(RULES, &[("LOG_LEVEL", "debug"), ("LOG_FORMAT", "json")]);
    let mut client = grpc::connect(service.grpc).await;
    let long = "\u{1b}[2J\n".repeat(12_000);
    ask(&mut client, "shop", &[("user", "ann")]).await;
    ask(&mut client, "shop", &[("user", "ann"), ("path", "/")]).await;
    ask(&mut client, "shop", &[("usr", &long)]).await;
    ask(&mut client, "shpo", &[("user", "ann")]).await;
    service.wait_for_log("domain shpo");
    let log = service.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("\"domain sh")).collect();
    assert_eq!(lines.len(), 4, "{lines:.300?}");
    for (line, expected) in lines.iter().zip([
        "domain shop: user=ann: OK, 1 per year, 0 remaining",
        "no rules are below user, so none matches path=/",
        "no rule matches usr=\\\\u{1b}[2J\\\\n",
        "domain shpo: user=ann: OK, no limit: no rules define this domain",
    ]) {
        assert!(line.contains(expected) && line.len() < 2_000, "{expected}: {line:.3000}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_written_to_standard_output_as_json() {
    let service = Tollgate::start(RULES, &[("DECISION_LOG", "stdout")]);
    let mut client = grpc::connect(service.grpc).await;
    for _ in 0..3 {
        ask(&mut client, "shop", &[("user", "ann")]).await;
    }
    let lines = || {
        let log = service.log();
        let json = |line: &str| serde_json::from_str::<Value>(line).ok();
        log.lines().filter_map(json).filter(|line| line["rule"].is_string()).collect::<Vec<_>>()
    };
    eventually("two refusals", || lines().len() == 2);
    for line in lines() {
        assert_eq!((&line["rule"], &line["code"]), (&"shop.user".into(), &"OVER_LIMIT".into()));
    }
    assert!(!service.log().contains("domain shop"), "the level is info");
}

#[tokio::test]
async fn the_last_decisions_are_written_before_the_process_ends() {
    let files = TempDir::new().unwrap();
    let path = files.path().join("decisions");
    let settings = [("DECISION_LOG", path.to_str().unwrap()), ("DRAIN_DELAY", "0s")];
    let service = InProcess::start(RULES, &settings).await;
    let mut client = service.grpc().await;
    for _ in 0..2 {
        ask(&mut client, "shop", &[("user", "ann")]).await;
    }
    service.remote.terminate();
    drop(client);
    service.ended().await;
    let text = fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["entries"], serde_json::json!([{"key": "user", "value": "ann"}]));
    assert_eq!(line["requestCode"], "OVER_LIMIT");
}

fn unmatched(metrics: &Metrics, domain: &str) -> f64 {
    metrics.value("tollgate_unmatched_descriptors_total", &[("domain", domain)])
}

#[tokio::test(start_paused = true)]
async fn requests_that_nothing_limits_are_counted_by_known_domains() {
    let replacing = "{unit: year, requests_per_unit: 1, replaces: [{name: it}]}";
    let rules = format!(
        "{RULES}- {{key: named, rate_limit: {{unit: year, requests_per_unit: 1, name: it}}}}\n\
         - {{key: replacing, rate_limit: {replacing}}}\n"
    );
    let service = InProcess::start(&rules, &[]).await;
    let metrics = service.metrics().await;
    assert_eq!(unmatched(&metrics, "shop"), 0.0, "it exists from the start");
    let mut client = service.grpc().await;
    ask(&mut client, "shop", &[("user", "ann")]).await;
    for entries in [&[("usr", "ann")][..], &[("plan", "a")], &[("user", "ann"), ("path", "/")]] {
        ask(&mut client, "shop", entries).await;
    }
    for domain in ["shpo", "a\nb", "shpo"] {
        ask(&mut client, domain, &[("user", "ann")]).await;
    }
    let mut request = request_for("shop", &[("named", "x")]);
    request.descriptors.extend(request_for("shop", &[("replacing", "x")]).descriptors);
    client.should_rate_limit(request).await.unwrap();
    let metrics = service.metrics().await;
    assert_eq!(unmatched(&metrics, "shop"), 3.0, "a replaced rule has matched");
    assert_eq!(metrics.value("tollgate_unknown_domain_requests_total", &[]), 3.0);
    let page = service.get("/metrics").await.text();
    assert!(!page.contains("shpo"), "a client must not choose labels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_without_effect_are_listed_at_the_start() {
    let settings = [("REDIS_AUTH", "hunter2"), ("TRACING_SAMPLING_RATE", "0.5")];
    let limit = "{unit: year, requests_per_unit: 1000, accuracy: {lease: 1%}}";
    let rules = format!("{RULES}- {{key: leased, rate_limit: {limit}}}\n");
    let service = Tollgate::start(&rules, &settings);
    service.wait_for_log("the `accuracy` of 1 rules has no effect: the counters are in memory");
    // The test sets two more.
    service.wait_for_log(
        "these settings are given and have no effect: REDIS_AUTH, REDIS_TIMEOUT (the counters are \
         in memory); PROMETHEUS_ADDR (there is no separate port for Prometheus); \
         TRACING_SAMPLING_RATE (TRACING_ENABLED is not true)",
    );
    assert!(!service.log().contains("hunter2"));
}
