//! The HTTP check, asked directly.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::{
    grpc::{self, request_for},
    http::{self, Reply, json_request},
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::in_process::{InProcess, START, TokioClock};

mod hostile;

const EDGE: &str = "
domain: edge
http:
  descriptors:
  - [{header: x-api-key, key: api_key}]
  - [path, remote_address]
  - [method, {header: x-user, key: user}]
descriptors:
- key: api_key
  rate_limit: {unit: day, requests_per_unit: 5, name: per_key}
- key: path
  value: /login
  descriptors:
  - key: remote_address
    rate_limit: {unit: day, requests_per_unit: 3, name: login}
- key: method
  value: DELETE
  descriptors:
  - key: user
    rate_limit: {unit: day, requests_per_unit: 2}
";

/// Its name has to be escaped in a path.
const TEAM: &str = "
domain: team/a b
http:
  descriptors: [[{header: x-api-key, key: api_key}]]
descriptors:
- key: api_key
  rate_limit: {unit: day, requests_per_unit: 1}
";

/// Refuses everything: a check that reaches it shows.
const TRAP: &str = "
domain: trap
http:
  descriptors: [[{key: all, value: x}]]
descriptors:
- key: all
  rate_limit: {unit: day, requests_per_unit: 0}
";

/// Without `http`.
const PLAIN: &str = "
domain: plain
descriptors:
- key: user
  rate_limit: {unit: day, requests_per_unit: 1}
";

async fn start() -> InProcess {
    let files = [("a.yaml", EDGE), ("b.yaml", TEAM), ("c.yaml", TRAP), ("d.yaml", PLAIN)];
    let clock = Arc::new(TokioClock::starting_at(START));
    InProcess::start_with_files(clock, &files, &[]).await
}

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// The headers of a check of `GET /` from one address, and `more`.
fn forwarded<'a>(more: &[(&'a str, &'a str)]) -> Headers<'a> {
    let mut headers: Headers<'a> = Vec::new();
    for (name, value) in
        [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/"), ("x-forwarded-for", "192.0.2.1")]
    {
        if more.iter().all(|(other, _)| *other != name) {
            headers.push((name, value.as_bytes()));
        }
    }
    headers.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    headers
}

async fn check(service: &InProcess, more: &[(&str, &str)]) -> Reply {
    service.http("GET", "/check/forwarded/edge", &forwarded(more), b"").await
}

/// The statuses of so many equal checks.
async fn statuses<const N: usize>(service: &InProcess, more: &[(&str, &str)]) -> [u16; N] {
    let mut statuses = [0; N];
    for status in &mut statuses {
        *status = check(service, more).await.status;
    }
    statuses
}

async fn checks(service: &InProcess, dialect: &str, domain: &str, result: &str) -> f64 {
    let labels = [("dialect", dialect), ("domain", domain), ("result", result)];
    service.metrics().await.find("tollgate_checks_total", &labels).unwrap_or_default()
}

async fn misconfigured(service: &InProcess, reason: &str) -> f64 {
    let metrics = service.metrics().await;
    metrics.value("tollgate_check_misconfigured_total", &[("reason", reason)])
}

#[tokio::test(start_paused = true)]
async fn a_check_that_passes_is_an_empty_200() {
    let service = start().await;
    let reply = check(&service, &[("x-api-key", "k"), ("x-forwarded-uri", "/login?a=b")]).await;
    assert_eq!((reply.status, reply.text()), (200, String::new()));
    assert_eq!(reply.header("content-length").unwrap(), "0");
    assert_eq!(reply.header("cache-control").unwrap(), "no-store");
    assert_eq!(reply.header("content-type"), None);
    assert_eq!(reply.header("retry-after"), None);
    let policy = r#""login";q=3;w=86400, "per_key";q=5;w=86400"#;
    assert_eq!(reply.header("ratelimit-policy").unwrap(), policy);
    assert_eq!(reply.header("ratelimit").unwrap(), r#""login";r=2;t=86400, "per_key";r=4;t=86400"#);
    let free = check(&service, &[]).await;
    assert_eq!((free.status, free.header("ratelimit")), (200, None));
    assert_eq!(checks(&service, "forwarded", "edge", "allowed").await, 2.0);
    let labels = [("grpc_method", "check")];
    let metrics = service.metrics().await;
    assert_eq!(metrics.value("ratelimit_service_total_requests", &labels), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_the_client_when_to_come_back_and_nothing_of_the_rules() {
    let service = start().await;
    let key = ("x-api-key", "secret-key");
    assert_eq!(statuses::<5>(&service, &[key]).await, [200; 5]);
    tokio::time::advance(Duration::from_millis(400)).await;
    for (dialect, status) in [("forwarded", 429), ("nginx", 403), ("ingress-nginx", 403)] {
        let path = format!("/check/{dialect}/edge");
        let described = [
            ("x-original-method", &b"GET"[..]),
            ("x-original-uri", b"/"),
            ("x-original-url", b"https://shop.example/"),
        ];
        let headers = [forwarded(&[key]), described.to_vec()].concat();
        let reply = service.http("GET", &path, &headers, b"").await;
        assert_eq!(reply.status, status, "{dialect}");
        assert_eq!(reply.header("cache-control").unwrap(), "no-store");
        assert_eq!(reply.header("content-type").unwrap(), "application/problem+json");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(wait, 86_400);
        assert_eq!(reply.header("ratelimit").unwrap(), format!(r#""per_key";r=0;t={wait}"#));
        assert_eq!(reply.header("ratelimit-policy").unwrap(), r#""per_key";q=5;w=86400"#);
        let expected = json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": status,
            "violated-policies": ["per_key"],
        });
        assert_eq!(reply.json(), expected);
        assert_eq!(checks(&service, dialect, "edge", "refused").await, 1.0);
    }
    let headers = [("x-forwarded-for", &b"192.0.2.1"[..]), ("x-api-key", b"secret-key")];
    let reply = service.http("PUT", "/check/envoy/edge/login?a", &headers, b"").await;
    assert_eq!(reply.status, 429);
    let head = service.http("HEAD", "/check/forwarded/edge", &forwarded(&[key]), b"").await;
    assert_eq!((head.status, head.text()), (429, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_leads_to_no_rules_is_404() {
    let service = start().await;
    for (path, reason) in [
        ("/check", "unknown_dialect"),
        ("/check/", "unknown_dialect"),
        ("/check/forwarded", "unknown_domain"),
        ("/check/forwarded/", "unknown_domain"),
        ("/check/forwarded/egde", "unknown_domain"),
        ("/check/forwarded/%FF", "unknown_domain"),
        ("/check/apache/edge", "unknown_dialect"),
        ("/check/forwarded/plain", "no_http"),
        ("/check/forwarded/team/a%20b", "unexpected_path"),
    ] {
        let before = misconfigured(&service, reason).await;
        for method in ["GET", "OPTIONS", "BREW"] {
            let reply = service.http(method, path, &forwarded(&[]), b"").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            assert_eq!(reply.header("content-type").unwrap(), "application/problem+json");
            assert_eq!(reply.header("cache-control").unwrap(), "no-store");
            let problem = reply.json();
            assert_eq!(
                (&problem["type"], &problem["status"]),
                (&json!("about:blank"), &json!(404))
            );
            assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
        }
        assert_eq!(misconfigured(&service, reason).await, before + 3.0, "{path}");
    }
    assert_eq!(service.service_errors().await, 27.0);
    assert_eq!(checks(&service, "forwarded", "plain", "misconfigured").await, 3.0);
    let text = service.get("/metrics").await.text();
    assert!(!text.contains("egde"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_check_without_what_the_rules_need_is_400() {
    let service = start().await;
    let whole = forwarded(&[]);
    for (missing, reason) in [
        ("x-forwarded-method", "no_method"),
        ("x-forwarded-uri", "no_uri"),
        ("x-forwarded-for", "no_address"),
    ] {
        let mut headers = whole.clone();
        headers.retain(|(name, _)| *name != missing);
        // Those of another dialect, which the client may have sent.
        headers.push(("x-original-method", b"GET"));
        headers.push(("x-original-uri", b"/"));
        headers.push(("x-real-ip", b"192.0.2.1"));
        headers.push(("x_forwarded_uri", b"/"));
        headers.push(("x-user", b"ann"));
        let reply = service.http("GET", "/check/forwarded/edge", &headers, b"").await;
        assert_eq!(reply.status, 400, "{missing}: {}", reply.text());
        let problem = reply.json();
        assert_eq!(problem["status"], 400);
        let detail = problem["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains(missing), "{detail}");
        assert_eq!(misconfigured(&service, reason).await, 1.0);
    }
    let bad = check(&service, &[("x-forwarded-for", "192.0.2.1, unknown")]).await;
    assert_eq!(bad.status, 400);
    assert!(!bad.text().contains("unknown"), "{}", bad.text());
    assert_eq!(misconfigured(&service, "bad_address").await, 1.0);
    for name in ["x-forwarded-method", "x-forwarded-uri"] {
        let headers = [forwarded(&[]), vec![(name, b"/free")]].concat();
        let reply = service.http("GET", "/check/forwarded/edge", &headers, b"").await;
        assert_eq!(reply.status, 400, "{name}");
    }
    assert_eq!(misconfigured(&service, "repeated_header").await, 2.0);
    assert_eq!(checks(&service, "forwarded", "edge", "misconfigured").await, 6.0);
}

#[tokio::test(start_paused = true)]
async fn only_the_headers_of_the_dialect_describe_the_request() {
    let service = start().await;
    let forged = [
        ("x-forwarded-uri", "/login"),
        ("x-original-uri", "/free"),
        ("x-original-url", "http://a/free"),
        ("x_forwarded_uri", "/free"),
        ("x-rewrite-url", "/free"),
        ("x-original-method", "HEAD"),
        ("x-http-method-override", "HEAD"),
        ("x-real-ip", "198.51.100.7"),
        ("forwarded", "for=198.51.100.7"),
    ];
    assert_eq!(statuses::<4>(&service, &forged).await, [200, 200, 200, 429]);
    // The same of nginx.
    let headers = [
        ("x-original-method", &b"DELETE"[..]),
        ("x-original-uri", b"/"),
        ("x-forwarded-method", b"GET"),
        ("x-forwarded-for", b"192.0.2.1"),
        ("x-user", b"ann"),
    ];
    for status in [200, 200, 403] {
        assert_eq!(service.http("GET", "/check/nginx/edge", &headers, b"").await.status, status);
    }
    // An absolute URL is the same resource as its path.
    let headers = [
        ("x-original-method", &b"GET"[..]),
        ("x-original-url", b"https://shop.example/a/../login?x"),
        ("x-original-uri", b"/free"),
        ("x-forwarded-for", b"192.0.2.1"),
    ];
    assert_eq!(service.http("GET", "/check/ingress-nginx/edge", &headers, b"").await.status, 403);
}

/// ingress-nginx writes the `Host` of the client into the URL.
#[tokio::test(start_paused = true)]
async fn a_host_with_a_delimiter_does_not_hide_the_path() {
    let service = start().await;
    for host in ["x?.shop.example", "x#.shop.example", "me@shop.example"] {
        let url = format!("https://{host}/login");
        let headers = [
            ("x-original-method", &b"GET"[..]),
            ("x-original-url", url.as_bytes()),
            ("x-forwarded-for", b"192.0.2.1"),
        ];
        let reply = service.http("GET", "/check/ingress-nginx/edge", &headers, b"").await;
        assert_eq!(reply.status, 400, "{url}: {}", reply.text());
        assert!(!reply.text().contains("shop"), "{}", reply.text());
    }
    assert_eq!(misconfigured(&service, "bad_authority").await, 3.0);
}

#[tokio::test(start_paused = true)]
async fn neither_the_query_nor_the_rest_of_the_path_chooses_the_domain() {
    let service = start().await;
    let query = "/check/forwarded/edge?domain=trap&dialect=envoy&uri=/free";
    let login = forwarded(&[("x-forwarded-uri", "/login")]);
    for status in [200, 200, 200, 429] {
        assert_eq!(service.http("GET", query, &login, b"").await.status, status);
    }
    let address = [("x-forwarded-for", &b"192.0.2.9"[..])];
    for (rest, status) in [
        ("/login", 200),
        ("/../../../check/envoy/trap/../../..//login?domain=trap", 200),
        ("//a/%2e%2E/./%6Cogin", 200),
        ("/login/../../trap", 200),
        ("/..%2F..%2Ftrap/login", 200),
        ("/caf%E9%2Fx%00?%00=/check/envoy/trap", 200),
        ("", 200),
        ("/login?", 429),
    ] {
        let reply = service.http("GET", &format!("/check/envoy/edge{rest}"), &address, b"").await;
        assert_eq!(reply.status, status, "{rest}");
    }
    let result = async |result| checks(&service, "envoy", "edge", result).await;
    assert_eq!((result("allowed").await, result("refused").await), (7.0, 1.0));
    let key = forwarded(&[("x-api-key", "k")]);
    for status in [200, 429] {
        let path = "/check/forwarded/team%2Fa%20b";
        assert_eq!(service.http("GET", path, &key, b"").await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_passes_and_an_exhausted_shadow_limit_is_not_shown() {
    let rules = "
domain: edge
http:
  descriptors: [[{key: all, value: x}]]
descriptors:
- key: all
  shadow_mode: true
  rate_limit: {unit: day, requests_per_unit: 0}
";
    for settings in [&[][..], &[("SHADOW_MODE", "true")]] {
        let service = InProcess::start(rules, settings).await;
        let reply = check(&service, &[]).await;
        assert_eq!((reply.status, reply.header("ratelimit")), (200, None));
    }
}

#[tokio::test(start_paused = true)]
async fn heads_stay_short_however_many_limits_match() {
    let mut rules = "domain: edge\nhttp:\n  descriptors:\n".to_owned();
    let mut limits = String::from("descriptors:\n");
    for number in 0..20 {
        let name = format!("{number:02}{}", "n".repeat(98));
        rules += &format!("  - [{{key: k{number}, value: x}}]\n");
        limits += &format!(
            "- key: k{number}\n  rate_limit: {{unit: day, requests_per_unit: {}, name: {name}}}\n",
            20 - number
        );
    }
    let service = InProcess::start(&(rules + &limits), &[]).await;
    let mut refused = 0;
    for _ in 0..3 {
        let connection = service.dialers.http.connect().await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(connection);
        let request = http::request("GET", "/check/forwarded/edge", &forwarded(&[]), b"");
        writer.write_all(&request).await.unwrap();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        let reply = http::parse(&bytes).unwrap();
        assert!(bytes.len() - reply.body.len() < 2_048, "{}", bytes.len());
        let listed = reply.header("ratelimit").unwrap();
        assert!((3..=8).contains(&listed.split(", ").count()), "{listed}");
        assert!(listed.starts_with("\"1"), "{listed}");
        refused += u32::from(reply.status == 429);
        if reply.status == 429 {
            assert!(reply.json()["violated-policies"].as_array().unwrap().len() <= 8);
        }
    }
    assert_eq!(refused, 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_needs_an_escape_is_replaced_and_concurrency_has_its_unit() {
    let rules = r#"
domain: edge
http:
  descriptors: [[{key: a, value: x}], [{key: b, value: x}], [{key: c, value: x}]]
descriptors:
- key: a
  rate_limit: {unit: day, requests_per_unit: 10, name: 'a"b'}
- key: b
  rate_limit: {unit: day, requests_per_unit: 20, name: größe}
- key: c
  rate_limit: {algorithm: concurrency, requests_per_unit: 30, lease: 1m}
"#;
    let service = InProcess::start(rules, &[]).await;
    let reply = check(&service, &[]).await;
    assert_eq!(
        reply.header("ratelimit-policy").unwrap(),
        r#""limit-1";q=10;w=86400, "limit-2";q=20;w=86400, "limit-3";q=30;qu="concurrent-requests""#
    );
    assert!(reply.header("ratelimit").unwrap().starts_with(r#""limit-1";r=9;t=86400, "#));
}

#[tokio::test(start_paused = true)]
async fn more_descriptors_than_the_setting_allows_are_an_error() {
    let service = InProcess::start(EDGE, &[("MAX_DESCRIPTORS", "2")]).await;
    let whole = [("x-api-key", "k"), ("x-user", "ann")];
    assert_eq!(check(&service, &whole).await.status, 400);
    assert_eq!(misconfigured(&service, "invalid_request").await, 1.0);
    assert_eq!(service.service_errors().await, 1.0);
    assert_eq!(check(&service, &whole[..1]).await.status, 200);
}

/// One limit, whoever asks.
#[tokio::test(start_paused = true)]
async fn all_protocols_share_the_counters() {
    let service = start().await;
    assert_eq!(statuses::<2>(&service, &[("x-api-key", "k")]).await, [200; 2]);
    let entries = [("api_key", "k")];
    let mut grpc = service.grpc().await;
    let response = grpc::decide(&mut grpc, request_for("edge", &entries)).await;
    assert_eq!(response.statuses[0].limit_remaining, 2);
    let json = service.post_json(&json_request("edge", &entries)).await;
    assert_eq!(json.json()["statuses"][0]["limitRemaining"], 1);
    let headers = [("x-api-key", &b"k"[..]), ("x-forwarded-for", b"192.0.2.1")];
    assert_eq!(service.http("PUT", "/check/envoy/edge/x", &headers, b"").await.status, 200);
    assert_eq!(service.post_json(&json_request("edge", &entries)).await.status, 429);
    assert_eq!(check(&service, &[("x-api-key", "k")]).await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn each_spelling_of_an_address_is_one_client() {
    let service = start().await;
    for (spellings, others) in [
        (
            &["203.0.113.7", "203.0.113.7:80", "::ffff:203.0.113.7", "198.51.100.1, 203.0.113.7"][..],
            "203.0.113.8",
        ),
        (
            &["2001:db8::1", "[2001:DB8:0::1]:443", "2001:0db8::0001", "[2001:db8::1]"],
            "2001:db8::2",
        ),
    ] {
        for (position, address) in spellings.iter().enumerate() {
            let headers = [("x-forwarded-uri", "/login"), ("x-forwarded-for", *address)];
            let status = if position < 3 { 200 } else { 429 };
            assert_eq!(check(&service, &headers).await.status, status, "{address}");
        }
        let headers = [("x-forwarded-uri", "/login"), ("x-forwarded-for", others)];
        assert_eq!(check(&service, &headers).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn without_rules_nothing_is_decided() {
    let settings = [("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")];
    let service = InProcess::start("domain: 1: 2", &settings).await;
    let reply = check(&service, &[]).await;
    assert_eq!((reply.status, &reply.json()["detail"]), (503, &json!("no rules are loaded")));
    assert_eq!(reply.header("cache-control").unwrap(), "no-store");
}

const ON_ERROR: &str = "
domain: edge
http:
  descriptors: [[{header: x-key, key: key}]]
descriptors:
- key: key
  value: allow
  rate_limit: {unit: year, requests_per_unit: 2, on_error: allow}
- key: key
  value: deny
  rate_limit: {unit: year, requests_per_unit: 2, on_error: deny}
- key: key
  value: local
  rate_limit: {unit: year, requests_per_unit: 2, on_error: local}
- key: key
  rate_limit: {unit: year, requests_per_unit: 2}
";

/// The statuses of three checks of one key.
fn three(service: &Tollgate, key: &str) -> [u16; 3] {
    let headers = [("x-key", key.as_bytes())];
    [(); 3].map(|()| http::get(service.http, "/check/forwarded/edge", &headers).status)
}

#[test]
fn while_redis_is_dead_each_policy_decides_checks() {
    let mut redis = RedisServer::start();
    let settings = [("REDIS_URL", &*redis.url()), ("STORE_DEADLINE", "5s"), ("LOCAL_SHARE", "1")];
    let service = Tollgate::start_ready(ON_ERROR, &settings);
    let key = unique_value();
    assert_eq!(three(&service, &key), [200, 200, 429]);
    redis.stop();
    eventually("no decision", || three(&service, &key) == [503; 3]);
    let reply = http::get(service.http, "/check/forwarded/edge", &[("x-key", b"x")]);
    let problem = reply.json();
    let kind = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
    assert_eq!((&problem["type"], &problem["status"]), (&json!(kind), &json!(503)));
    assert_eq!(problem["detail"], "the counters cannot be reached");
    assert_eq!(three(&service, "allow"), [200; 3]);
    assert_eq!(three(&service, "deny"), [429; 3]);
    assert_eq!(three(&service, "local"), [200, 200, 429]);
    let labels = [("dialect", "forwarded"), ("domain", "edge"), ("result", "error")];
    assert!(3.0 < service.metrics().value("tollgate_checks_total", &labels));
}

#[test]
fn each_mistake_is_logged_once_a_minute_with_the_path() {
    let service = Tollgate::start_ready(EDGE, &[]);
    for _ in 0..20 {
        let headers = [("x-forwarded-for", &b"192.0.2.1, private-name"[..])];
        let path = "/check/envoy/edge/secret-path";
        assert_eq!(http::get(service.http, path, &headers).status, 400);
    }
    service.wait_for_log("/check/envoy/edge: ");
    // Another mistake of the same proxy has a line of its own.
    assert_eq!(http::get(service.http, "/check/envoy/edge", &[]).status, 400);
    service.wait_for_log("the address of the client is missing");
    let log = service.log();
    assert_eq!(log.matches("HTTP check").count(), 2, "{log}");
    assert!(!log.contains("secret-path"), "{log}");
}
