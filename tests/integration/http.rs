//! The pages and decisions that are served over HTTP.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};
use testkit::{
    grpc::{self, request_for},
    http::{self, Reply, json_request},
    redis::RedisServer,
    tollgate::Tollgate,
    wait::eventually,
};

use crate::in_process::InProcess;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3, name: per_user }
- key: once
  rate_limit: { unit: month, requests_per_unit: 1 }
- key: path
  value_to_metric: true
  rate_limit: { unit: year, requests_per_unit: 1000 }
- key: trial
  shadow_mode: true
  rate_limit: { unit: year, requests_per_unit: 0 }
- key: free
  rate_limit: { unlimited: true }
";

/// A request with a descriptor for each entry.
fn about(entries: &[(&str, &str)]) -> String {
    json_request("shop", entries)
}

/// The seconds until the window of a status ends.
fn reset(reply: &Reply, status: usize) -> u64 {
    let reset = reply.json()["statuses"][status]["durationUntilReset"].clone();
    reset.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_200_or_429_with_rate_limit_headers() {
    let service = InProcess::start(RULES, &[]).await;
    for remaining in [2, 1, 0] {
        let reply = service.post_json(&about(&[("user", "ann")])).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type").unwrap(), "application/json");
        let status = &reply.json()["statuses"][0];
        assert_eq!(status["limitRemaining"].as_u64().unwrap_or(0), remaining);
        assert_eq!(reply.header("retry-after"), None);
    }
    service.post_json(&about(&[("once", "ann")])).await;
    let request = about(&[("user", "ann"), ("free", ""), ("once", "ann")]);
    let reply = service.post_json(&request).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["overallCode"], "OVER_LIMIT");
    let (year, month) = (reset(&reply, 0), reset(&reply, 2));
    // The longest wait of the refusing limits.
    assert_eq!(reply.header("retry-after").unwrap(), year.max(month).to_string());
    let policy = r#""per_user";q=3;w=31536000, "limit-3";q=1;w=2592000"#;
    assert_eq!(reply.header("ratelimit-policy").unwrap(), policy);
    let standing = format!(r#""per_user";r=0;t={year}, "limit-3";r=0;t={month}"#);
    assert_eq!(reply.header("ratelimit").unwrap(), standing);
}

#[tokio::test(start_paused = true)]
async fn client_headers_are_those_of_the_decision() {
    let service = InProcess::start(RULES, &[("LIMIT_RESPONSE_HEADERS_ENABLED", "true")]).await;
    let reply = service.post_json(&about(&[("user", "ann")])).await;
    assert_eq!(reply.header("ratelimit-limit").unwrap(), "3");
    assert_eq!(reply.header("ratelimit-remaining").unwrap(), "2");
    assert_eq!(reply.header("ratelimit-reset").unwrap(), reset(&reply, 0).to_string());
    assert!(reset(&reply, 0) > 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_is_400_with_the_reason() {
    let service = InProcess::start(RULES, &[]).await;
    let mut expected = 0.0;
    let limited = |limit: Value| {
        json!({ "domain": "shop", "descriptors": [{ "entries": [], "limit": limit }] }).to_string()
    };
    for (request, reason) in [
        (String::new(), "EOF while parsing"),
        ("{".to_owned(), "EOF while parsing"),
        ("[]".to_owned(), "invalid"),
        (about(&[("user", "a")]) + "x", "trailing characters at line 1"),
        (r#"{"domian":"shop"}"#.to_owned(), "unknown field `domian`, expected one of `domain`"),
        (r#"{"domain":7}"#.to_owned(), "expected a string at line 1 column 11"),
        ("{}".to_owned(), "rate limit domain must not be empty"),
        (r#"{"domain":"shop"}"#.to_owned(), "rate limit descriptor list must not be empty"),
        (limited(json!({ "unit": "EON" })), r#""EON", expected SECOND, MINUTE"#),
        (limited(json!({ "unit": 8 })), "descriptors[0].limit.unit is 8, expected SECOND (1)"),
        (limited(json!({})), "descriptors[0].limit.unit is missing or UNKNOWN (0), expected"),
    ] {
        let reply = service.post_json(&request).await;
        assert_eq!(reply.status, 400, "{request}");
        let text = reply.text();
        assert!(text.starts_with("Bad Request: ") && text.contains(reason), "{request}: {text}");
        assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
        assert_eq!(reply.header("x-content-type-options").unwrap(), "nosniff");
        expected += 1.0;
        assert_eq!(service.service_errors().await, expected, "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_maximum_length() {
    const LARGEST: usize = 1 << 20;
    let service = InProcess::start(RULES, &[]).await;
    let mut request = about(&[("user", "ann")]);
    request += &" ".repeat(LARGEST - request.len());
    assert_eq!(service.post_json(&request).await.status, 200);
    assert_eq!(service.service_errors().await, 0.0);
    assert_eq!(service.post_json(&(request + " ")).await.status, 413);
    assert_eq!(service.service_errors().await, 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_malformed_json_quotes_little_of_it() {
    let service = InProcess::start(RULES, &[]).await;
    let long = "x".repeat(1 << 19);
    for request in
        [json!({ &*long: 1 }), json!({ "domain": [&long] }), json!({ "hitsAddend": &long })]
    {
        let reply = service.post_json(&request.to_string()).await;
        let text = reply.text();
        assert_eq!(reply.status, 400);
        assert!(text.len() < 700 && text.contains(" at line 1 column "), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn heads_of_requests_have_a_maximum_length() {
    let service = InProcess::start(RULES, &[]).await;
    let long = "x".repeat(150_000).into_bytes();
    assert_eq!(service.http("GET", "/ready", &[("x", &long)], b"").await.status, 431);
    let many = [("x", &b"y"[..]); 257];
    assert_eq!(service.http("GET", "/ready", &many, b"").await.status, 431);
    let some = [("x", &long[..400]); 250];
    assert_eq!(service.http("GET", "/ready", &some, b"").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn other_methods_and_unknown_pages_are_rejected() {
    let service = InProcess::start(RULES, &[]).await;
    for (method, path, status) in [
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/json/", 404),
        ("POST", "/nothing", 404),
    ] {
        let reply = service.http(method, path, &[], b"").await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
    assert_eq!(service.get("/nothing").await.text(), "404 page not found\n");
}

#[tokio::test(start_paused = true)]
async fn the_debug_port_shows_rules_and_statistics() {
    let service = InProcess::start(RULES, &[]).await;
    service.post_json(&about(&[("user", "ann"), ("path", "/a\nb")])).await;
    let rules = "shop.user: unit=YEAR requests_per_unit=3, shadow_mode: false, quota_mode: false, \
        name: per_user\n\
        shop.once: unit=MONTH requests_per_unit=1, shadow_mode: false, quota_mode: false\n\
        shop.path: unit=YEAR requests_per_unit=1000, shadow_mode: false, quota_mode: false, \
        value_to_metric: true\n\
        shop.trial: unit=YEAR requests_per_unit=0, shadow_mode: true, quota_mode: false\n\
        shop.free: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false, \
        unlimited: true\n";
    assert_eq!(service.get("/rlconfig").await.text(), rules);
    assert_eq!(service.debug("/rlconfig").await.text(), rules);
    let stats = service.debug("/stats").await.text();
    for line in ["shop.user.total_hits: 1", "shop.path_/a_b.within_limit: 1"] {
        let line = format!("\nratelimit.service.rate_limit.{line}\n");
        assert!(stats.contains(&line), "{line} in {stats}");
    }
    for path in ["/", "/nothing"] {
        let index = service.debug(path).await;
        assert_eq!(index.status, 200);
        assert!(index.text().contains("/rlconfig: ") && index.text().contains("/stats: "));
    }
    assert_eq!(service.debug("/json").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn names_of_statistics_do_not_grow_with_overrides_and_unknown_domains() {
    let service = InProcess::start(RULES, &[("EXTRA_TAGS", "region:eu")]).await;
    for name in ["ann", "ben"] {
        let entries = json!([{ "key": "user", "value": name }]);
        let limit = json!({ "requestsPerUnit": 5, "unit": "DAY" });
        let descriptors = json!([{ "entries": entries, "limit": limit }]);
        let request = json!({ "domain": "shop", "descriptors": descriptors });
        service.post_json(&request.to_string()).await;
        let request = json!({ "domain": name, "descriptors": [{ "entries": entries }] });
        service.post_json(&request.to_string()).await;
    }
    let stats = service.debug("/stats").await.text();
    for line in ["shop.|override|.total_hits: 2", "domain_not_found: 2"] {
        let line = format!("\nratelimit.service.rate_limit.{line}\n");
        assert!(stats.contains(&line), "{line} in {stats}");
    }
    assert!(!stats.contains("region") && !stats.contains("ann"), "{stats}");
}

/// A port that refuses connections.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn without_redis_decisions_are_503_and_the_service_is_not_ready() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url)]);
    let reply = service.post_json(&about(&[("user", "ann")]));
    assert_eq!(reply.status, 503);
    let text = "Service Unavailable: the counter store did not decide; the log has the reason\n";
    assert_eq!(reply.text(), text);
    let mut client = grpc::connect(service.grpc).await;
    let error =
        client.should_rate_limit(request_for("shop", &[("user", "ann")])).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let ready = http::get(service.http, "/ready", &[]);
    assert_eq!(ready.status, 503);
    assert!(ready.text().starts_with("the counter store does not decide: "), "{}", ready.text());
    let health = http::get(service.http, "/healthcheck", &[]);
    assert_eq!((health.status, health.text().as_str()), (500, ""));
    let metrics = service.metrics();
    let errors = "ratelimit_service_should_rate_limit_error";
    assert_eq!(metrics.value(errors, &[("err_type", "redis_error")]), 2.0);
    assert_eq!(metrics.value("tollgate_store_failures_total", &[]), 2.0);
}

#[test]
fn the_service_is_ready_from_the_first_reply_of_redis_until_shutdown() {
    let mut redis = RedisServer::start();
    redis.stop();
    let url = redis.url();
    let mut service = Tollgate::start(RULES, &[("REDIS_URL", &url), ("DRAIN_DELAY", "60s")]);
    let page = |path| http::get(service.http, path, &[]);
    assert_eq!((page("/ready").status, page("/healthcheck").status), (503, 500));
    redis.restart();
    eventually("readiness", || page("/ready").status == 200);
    assert_eq!(page("/ready").text(), "ready\n");
    assert_eq!((page("/healthcheck").status, page("/healthcheck").text().as_str()), (200, "OK"));
    assert_eq!(service.post_json(&about(&[("user", "ann")])).status, 200);
    // Otherwise all instances would become unready at the same time.
    redis.stop();
    assert_eq!(service.post_json(&about(&[("user", "ann")])).status, 503);
    assert_eq!((page("/ready").status, page("/healthcheck").status), (200, 200));

    service.terminate();
    eventually("the drain", || page("/ready").status == 503);
    assert_eq!(page("/ready").text(), "the process is shutting down\n");
    assert_eq!(page("/healthcheck").status, 500);
    service.terminate();
    service.wait_for_exit();
}

#[tokio::test(start_paused = true)]
async fn metrics_count_a_known_sequence() {
    let service = InProcess::start(RULES, &[]).await;
    for _ in 0..5 {
        service.post_json(&about(&[("user", "ann")])).await;
    }
    for _ in 0..2 {
        service.post_json(&about(&[("trial", ""), ("free", "")])).await;
    }
    let values = ["plain", "a\"b", "a\\b", "a\nb", "a\\nb", "ü \u{2028}\u{0}", "{}=,# "];
    for value in values {
        service.post_json(&about(&[("path", value)])).await;
    }
    service.post_json("{}").await;
    service.post_json(&json_request("nobody's", &[("user", "x")])).await;
    let metrics = service.metrics().await;
    let rule = |statistic: &str, key1: &str| {
        let name = format!("ratelimit_service_rate_limit_{statistic}");
        metrics.value(&name, &[("domain", "shop"), ("key1", key1)])
    };
    for (key, expected) in [("user", [5.0, 3.0, 1.0, 2.0]), ("trial", [2.0, 0.0, 0.0, 2.0])] {
        let found = ["total_hits", "within_limit", "near_limit", "over_limit"];
        assert_eq!(found.map(|it| rule(it, key)), expected, "{key}");
    }
    assert_eq!(rule("shadow_mode", "trial"), 2.0);
    assert_eq!(rule("shadow_mode", "user"), 0.0);
    for value in values {
        assert_eq!(rule("total_hits", &format!("path_{value}")), 1.0, "{value:?}");
    }
    for (name, labels, expected) in [
        ("ratelimit_service_config_load_success", &[][..], 1.0),
        ("ratelimit_service_config_load_error", &[], 0.0),
        ("ratelimit_service_global_shadow_mode", &[], 0.0),
        ("ratelimit_service_rate_limit_domain_not_found", &[], 1.0),
        ("ratelimit_service_should_rate_limit_error", &[("err_type", "service_error")], 1.0),
        ("ratelimit_service_total_requests", &[("grpc_method", "json")], 16.0),
        ("ratelimit_service_response_time_seconds_count", &[("grpc_method", "json")], 16.0),
        ("tollgate_rules", &[], 5.0),
        ("tollgate_rules_rejected", &[], 0.0),
        ("tollgate_memory_counters", &[], 9.0),
        ("tollgate_series_folded_total", &[], 0.0),
        ("tollgate_store_seconds_count", &[], 14.0),
        ("tollgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), expected, "{name}");
    }
}

/// 1,000 descriptors for different users, from `first` on.
fn users(first: usize, limit: Option<&Value>) -> String {
    let mut descriptors = Vec::new();
    for user in first..first + 1_000 {
        let entries = json!([{ "key": "user", "value": user.to_string() }]);
        let mut descriptor = json!({ "entries": entries });
        if let Some(limit) = limit {
            descriptor["limit"] = limit.clone();
        }
        descriptors.push(descriptor);
    }
    json!({ "domain": "shop", "descriptors": descriptors }).to_string()
}

#[tokio::test(start_paused = true)]
async fn many_values_create_a_bounded_number_of_series() {
    const MOST: usize = 10_000;
    let rules = "
domain: shop
descriptors:
- key: user
  detailed_metric: true
  rate_limit: { unit: year, requests_per_unit: 1 }
";
    let service = InProcess::start(rules, &[("MAX_DESCRIPTORS", "1000")]).await;
    service.post_json("{}").await;
    let before = service.metrics().await.samples.len();
    // Overrides share one series for each domain.
    let limit = json!({ "requests_per_unit": 1, "unit": "HOUR" });
    for batch in 0..10_000 / 500 {
        let domain = format!("unknown{batch}");
        let entries = json!([{ "key": "user", "value": batch.to_string() }]);
        let descriptors = vec![json!({ "entries": entries, "limit": limit }); 500];
        let request = json!({ "domain": domain, "descriptors": descriptors });
        assert_eq!(service.post_json(&request.to_string()).await.status, 200);
    }
    for first in (0..20_000).step_by(1_000) {
        assert_eq!(service.post_json(&users(first, Some(&limit))).await.status, 200);
    }
    let metrics = service.metrics().await;
    assert_eq!(metrics.samples.len(), before + 7);
    let total = "ratelimit_service_rate_limit_total_hits";
    let labels = [("domain", "shop"), ("key1", "|override|")];
    assert_eq!(metrics.value(total, &labels), 20_000.0);
    assert_eq!(metrics.value("ratelimit_service_rate_limit_domain_not_found", &[]), 10_000.0);

    for first in (0..20_000).step_by(1_000) {
        assert_eq!(service.post_json(&users(first, None)).await.status, 200);
    }
    let metrics = service.metrics().await;
    let (mut series, mut sum) = (0, 0.0);
    for ((name, labels), value) in &metrics.samples {
        if name == total && labels["key1"].starts_with("user_") && *value > 0.0 {
            series += 1;
            sum += value;
        }
    }
    // `|override|` is one of the series.
    assert_eq!(series, MOST - 1);
    let other = metrics.value(total, &[("domain", "shop"), ("key1", "|other|")]);
    assert_eq!(sum + other, 20_000.0);
    assert_eq!(metrics.value("tollgate_series_folded_total", &[]), other);
}
