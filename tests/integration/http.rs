//! The pages and decisions that are served over HTTP.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};
use testkit::{
    grpc::{self, request_for},
    http::{self, Reply},
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};

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

fn post(to: SocketAddr, body: &str) -> Reply {
    let json = ("content-type", &b"application/json"[..]);
    http::send(to, "POST", "/json", &[json], body.as_bytes())
}

/// A request with a descriptor for each entry.
fn about(entries: &[(&str, &str)]) -> String {
    let descriptor =
        |(key, value): &(&str, &str)| json!({ "entries": [{ "key": key, "value": value }] });
    let descriptors: Vec<_> = entries.iter().map(descriptor).collect();
    json!({ "domain": "shop", "descriptors": descriptors }).to_string()
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn a_decision_is_200_or_429_with_rate_limit_headers() {
    let service = Tollgate::start(RULES, &[]);
    let user = unique_value();
    for remaining in [2, 1, 0] {
        let reply = post(service.http, &about(&[("user", &user)]));
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type").unwrap(), "application/json");
        let status = &body(&reply)["statuses"][0];
        assert_eq!(status.get("limitRemaining").map_or(0, |it| it.as_u64().unwrap()), remaining);
        assert_eq!(reply.header("retry-after"), None);
    }
    post(service.http, &about(&[("once", &user)]));
    let reply = post(service.http, &about(&[("user", &user), ("free", ""), ("once", &user)]));
    assert_eq!(reply.status, 429);
    assert_eq!(body(&reply)["overallCode"], "OVER_LIMIT");
    let reset = |at: usize| {
        let reset = body(&reply)["statuses"][at]["durationUntilReset"].clone();
        reset.as_str().unwrap().strip_suffix('s').unwrap().parse::<u64>().unwrap()
    };
    // The longest wait of the refusing limits.
    assert_eq!(reply.header("retry-after").unwrap(), reset(0).max(reset(2)).to_string());
    let policy = r#""per_user";q=3;w=31536000, "limit-3";q=1;w=2592000"#;
    assert_eq!(reply.header("ratelimit-policy").unwrap(), policy);
    let standing = format!(r#""per_user";r=0;t={}, "limit-3";r=0;t={}"#, reset(0), reset(2));
    assert_eq!(reply.header("ratelimit").unwrap(), standing);
}

#[test]
fn client_headers_are_those_of_the_decision() {
    let service = Tollgate::start(RULES, &[("LIMIT_RESPONSE_HEADERS_ENABLED", "true")]);
    let reply = post(service.http, &about(&[("user", &unique_value())]));
    assert_eq!(reply.header("ratelimit-limit").unwrap(), "3");
    assert_eq!(reply.header("ratelimit-remaining").unwrap(), "2");
    assert!(reply.header("ratelimit-reset").unwrap().parse::<u64>().unwrap() > 0);
}

#[test]
fn an_invalid_request_is_400_with_the_reason() {
    let service = Tollgate::start(RULES, &[]);
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
        (limited(json!({})), "descriptors[0].limit.unit is 0, expected"),
    ] {
        let reply = post(service.http, &request);
        assert_eq!(reply.status, 400, "{request}");
        let text = reply.text();
        assert!(text.starts_with("Bad Request: ") && text.contains(reason), "{request}: {text}");
        assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
        assert_eq!(reply.header("x-content-type-options").unwrap(), "nosniff");
    }
}

#[test]
fn a_body_has_a_maximum_length() {
    const LARGEST: usize = 4 << 20;
    let service = Tollgate::start(RULES, &[]);
    let mut request = about(&[("user", &unique_value())]);
    request += &" ".repeat(LARGEST - request.len());
    assert_eq!(post(service.http, &request).status, 200);
    assert_eq!(post(service.http, &(request + " ")).status, 413);
}

#[test]
fn other_methods_and_unknown_pages_are_rejected() {
    let service = Tollgate::start(RULES, &[]);
    for (method, path, status) in [
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/json/", 404),
        ("POST", "/nothing", 404),
    ] {
        let reply = http::send(service.http, method, path, &[], b"");
        assert_eq!(reply.status, status, "{method} {path}");
    }
    assert_eq!(http::get(service.http, "/nothing", &[]).text(), "404 page not found\n");
}

#[test]
fn the_debug_port_shows_rules_and_statistics() {
    let service = Tollgate::start(RULES, &[]);
    post(service.http, &about(&[("user", "ann"), ("path", "/a\nb")]));
    let rules = "shop.user: unit=YEAR requests_per_unit=3, shadow_mode: false, quota_mode: false\n\
        shop.once: unit=MONTH requests_per_unit=1, shadow_mode: false, quota_mode: false\n\
        shop.path: unit=YEAR requests_per_unit=1000, shadow_mode: false, quota_mode: false\n\
        shop.trial: unit=YEAR requests_per_unit=0, shadow_mode: true, quota_mode: false\n\
        shop.free: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false\n";
    for port in [service.http, service.debug] {
        assert_eq!(http::get(port, "/rlconfig", &[]).text(), rules);
    }
    let stats = http::get(service.debug, "/stats", &[]).text();
    for line in ["shop.user.total_hits: 1", "shop.path_/a_b.within_limit: 1"] {
        let line = format!("ratelimit.service.rate_limit.{line}");
        assert!(stats.lines().any(|it| it == line), "{line} in {stats}");
    }
    for path in ["/", "/nothing"] {
        let index = http::get(service.debug, path, &[]);
        assert_eq!(index.status, 200);
        assert!(index.text().contains("/rlconfig: ") && index.text().contains("/stats: "));
    }
    assert_eq!(http::get(service.debug, "/json", &[]).status, 200);
}

/// A port that refuses connections.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn without_redis_decisions_are_503_and_the_service_is_not_ready() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url)]);
    let reply = post(service.http, &about(&[("user", "ann")]));
    assert_eq!(reply.status, 503);
    assert!(reply.text().starts_with("Service Unavailable: the counter store"), "{}", reply.text());
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
    assert_eq!(metrics.value("tollgate_store_failures", &[]), 2.0);
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
    assert_eq!(post(service.http, &about(&[("user", "ann")])).status, 200);
    // Otherwise all instances would become unready at the same time.
    redis.stop();
    assert_eq!(post(service.http, &about(&[("user", "ann")])).status, 503);
    assert_eq!((page("/ready").status, page("/healthcheck").status), (200, 200));

    service.terminate();
    eventually("the drain", || page("/ready").status == 503);
    assert_eq!(page("/ready").text(), "the process is shutting down\n");
    assert_eq!(page("/healthcheck").status, 500);
    service.terminate();
    service.wait_for_exit();
}

#[test]
fn metrics_count_a_known_sequence() {
    let service = Tollgate::start(RULES, &[]);
    let user = unique_value();
    (0..5).for_each(|_| drop(post(service.http, &about(&[("user", &user)]))));
    (0..2).for_each(|_| drop(post(service.http, &about(&[("trial", ""), ("free", "")]))));
    let values = ["plain", "a\"b", "a\\b", "a\nb", "a\\nb", "ü \u{2028}\u{0}", "{}=,# "];
    for value in values {
        post(service.http, &about(&[("path", value)]));
    }
    post(service.http, "{}");
    post(service.http, &about(&[("user", "x")]).replace("shop", "nobody's"));
    let metrics = service.metrics();
    let rule = |statistic: &str, key1: &str| {
        let name = format!("ratelimit_service_rate_limit_{statistic}");
        metrics.value(&name, &[("domain", "shop"), ("key1", key1)])
    };
    let of =
        |key1| ["total_hits", "within_limit", "near_limit", "over_limit"].map(|it| rule(it, key1));
    assert_eq!(of("user"), [5.0, 3.0, 1.0, 2.0]);
    assert_eq!(of("trial"), [2.0, 0.0, 0.0, 2.0]);
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
        ("tollgate_series_folded", &[], 0.0),
        ("tollgate_store_seconds_count", &[], 14.0),
        ("tollgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ] {
        assert_eq!(metrics.value(name, labels), expected, "{name}");
    }
}

#[test]
fn many_values_create_a_bounded_number_of_series() {
    const MOST: usize = 10_000;
    let rules = "
domain: shop
descriptors:
- key: user
  detailed_metric: true
  rate_limit: { unit: year, requests_per_unit: 1 }
";
    let service = Tollgate::start(rules, &[("MAX_DESCRIPTORS", "1000")]);
    post(service.http, "{}");
    let before = service.metrics().samples.len();
    let ask_about = |domain: &str, of: &dyn Fn(usize) -> Value| {
        for batch in 0..20 {
            let descriptors: Vec<_> = (0..1000).map(|it| of(batch * 1000 + it)).collect();
            let request = json!({ "domain": domain, "descriptors": descriptors });
            assert_ne!(post(service.http, &request.to_string()).status, 400);
        }
    };
    let entry = |it: usize| json!([{ "key": "user", "value": it.to_string() }]);
    // Overrides share one series for each domain.
    let limit = json!({ "requests_per_unit": 1, "unit": "HOUR" });
    for batch in 0..10_000 / 500 {
        let domain = format!("unknown{batch}");
        let descriptors = vec![json!({ "entries": entry(batch), "limit": limit }); 500];
        let request = json!({ "domain": domain, "descriptors": descriptors });
        assert_eq!(post(service.http, &request.to_string()).status, 200);
    }
    ask_about("shop", &|it| json!({ "entries": entry(it), "limit": limit }));
    let metrics = service.metrics();
    assert_eq!(metrics.samples.len(), before + 7);
    let total = "ratelimit_service_rate_limit_total_hits";
    let labels = [("domain", "shop"), ("key1", "override")];
    assert_eq!(metrics.value(total, &labels), 20_000.0);
    assert_eq!(metrics.value("ratelimit_service_rate_limit_domain_not_found", &[]), 10_000.0);

    ask_about("shop", &|it| json!({ "entries": entry(it) }));
    let metrics = service.metrics();
    let series = metrics.samples.iter().filter(|((name, labels), value)| {
        name == total && labels["key1"].starts_with("user_") && **value > 0.0
    });
    // `override` is one of the series.
    assert_eq!(series.clone().count(), MOST - 1);
    let other = metrics.value(total, &[("domain", "shop"), ("key1", "other")]);
    assert_eq!(series.map(|(_, value)| value).sum::<f64>() + other, 20_000.0);
    assert_eq!(metrics.value("tollgate_series_folded", &[]), other);
}
