//! Replies of Envoy's reference service over HTTP and to health checks, and the intended
//! differences.

use serde_json::{Value, json};
use testkit::{
    grpc,
    http::{self, Reply},
    redis::RedisServer,
    tollgate::Tollgate,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The example of the documentation of the reference service: one descriptor over its
/// limit, and one within.
const RULES: &str = "
domain: dummy
descriptors:
- key: one_per_minute
  rate_limit: { unit: YEAR, requests_per_unit: 1 }
- key: two_per_minute
  rate_limit: { unit: year, requests_per_unit: 2 }
";

const BOTH: &str = r#"{"domain": "dummy", "descriptors": [
    {"entries": [{"key": "one_per_minute", "value": ""}]},
    {"entries": [{"key": "two_per_minute"}]}
]}"#;

fn any_method(service: &Tollgate, method: &str, body: &str) -> Reply {
    http::send(service.http, method, "/json", &[], body.as_bytes())
}

fn json_of(reply: &Reply) -> Value {
    assert_eq!(reply.header("content-type").unwrap(), "application/json");
    assert!(!reply.text().contains('\n'), "it is one line");
    let mut json: Value = serde_json::from_slice(&reply.body).unwrap();
    for status in json["statuses"].as_array_mut().unwrap() {
        let until = status.as_object_mut().unwrap().remove("durationUntilReset");
        let until = until.unwrap().as_str().unwrap().to_owned();
        let seconds = until.strip_suffix('s').unwrap().parse::<u32>().unwrap();
        assert!((1..=366 * 86_400).contains(&seconds), "{until}");
    }
    json
}

#[test]
fn decisions_are_200_and_429_with_the_same_json() {
    let service = Tollgate::start(RULES, &[("RESPONSE_DYNAMIC_METADATA", "false")]);
    let limit = |requests| json!({ "requestsPerUnit": requests, "unit": "YEAR" });
    let reply = any_method(&service, "POST", BOTH);
    assert_eq!(reply.status, 200);
    let expected = json!({ "overallCode": "OK", "statuses": [
        { "code": "OK", "currentLimit": limit(1) },
        { "code": "OK", "currentLimit": limit(2), "limitRemaining": 1 },
    ]});
    assert_eq!(json_of(&reply), expected);
    let reply = any_method(&service, "POST", BOTH);
    assert_eq!(reply.status, 429);
    let expected = json!({ "overallCode": "OVER_LIMIT", "statuses": [
        { "code": "OVER_LIMIT", "currentLimit": limit(1) },
        { "code": "OK", "currentLimit": limit(2) },
    ]});
    assert_eq!(json_of(&reply), expected);
}

#[test]
fn names_are_read_in_either_case_by_any_method() {
    let service = Tollgate::start(RULES, &[]);
    let request = |hits: &str, limit: &str, requests: &str| {
        format!(
            r#"{{"domain": "dummy", "{hits}": 2, "descriptors": [
                {{"entries": [{{"key": "x", "value": "{hits}"}}],
                  "{limit}": {{"{requests}": 3, "unit": "DAY"}}}}]}}"#
        )
    };
    for (method, hits, requests) in [
        ("GET", "hitsAddend", "requestsPerUnit"),
        ("PUT", "hits_addend", "requests_per_unit"),
        ("DELETE", "hits_addend", "requestsPerUnit"),
    ] {
        let body = request(hits, "limit", requests);
        let first = any_method(&service, method, &body);
        assert_eq!(first.status, if method == "DELETE" { 429 } else { 200 }, "{method} {body}");
    }
}

#[test]
fn an_invalid_request_is_400() {
    let service = Tollgate::start(RULES, &[]);
    for body in [
        "",
        "}",
        "null x",
        r#"{"domain": "dummy"} {}"#,
        r#"{"domain": "dummy", "no_such_field": 1}"#,
        r#"{"domain": "dummy", "descriptors": [{"entries": [], "limit": {"unit": "EON"}}]}"#,
        // Errors that the service detects, and not the parser.
        r#"{"domain": "", "descriptors": [{"entries": []}]}"#,
        r#"{"domain": "dummy"}"#,
    ] {
        for method in ["POST", "GET"] {
            let reply = any_method(&service, method, body);
            assert_eq!(reply.status, 400, "{method} {body}");
            assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
            assert_eq!(reply.header("x-content-type-options").unwrap(), "nosniff");
            assert!(reply.text().starts_with("Bad Request"), "{}", reply.text());
        }
    }
}

/// The reference service replies with 400, as if the request were invalid.
#[test]
fn a_store_that_does_not_answer_is_503() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url)]);
    assert_eq!(any_method(&service, "POST", BOTH).status, 200);
    redis.stop();
    let reply = any_method(&service, "POST", BOTH);
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
}

#[test]
fn the_health_page_answers_every_method() {
    let redis = RedisServer::start();
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str()), ("DRAIN_DELAY", "60s")];
    let mut service = Tollgate::start(RULES, &settings);
    service.wait_until_healthy();
    for method in ["GET", "POST", "PUT"] {
        let reply = http::send(service.http, method, "/healthcheck", &[], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, "OK"), "{method}");
        assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
    }
    // From the first signal on the service stays unhealthy.
    service.terminate();
    testkit::wait::eventually("the drain", || {
        (http::get(service.http, "/healthcheck", &[]).status == 500).then_some(())
    });
    assert_eq!(http::get(service.http, "/healthcheck", &[]).text(), "");
    service.terminate();
    service.wait_for_exit();
}

#[test]
fn health_may_require_a_domain() {
    let demand = ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true");
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("config");
    std::fs::create_dir(&rules).unwrap();
    let root = files.path().to_str().unwrap();
    let settings = [demand, ("TOLLGATE_CONFIG", ""), ("RUNTIME_ROOT", root)];
    let service = Tollgate::start(RULES, &settings);
    let health = || http::get(service.http, "/healthcheck", &[]).status;
    assert_eq!(health(), 500);
    std::fs::write(rules.join("rules.yaml"), RULES).unwrap();
    testkit::wait::eventually("health", || health() == 200);
    // Invalid rules change nothing.
    std::fs::write(rules.join("rules.yaml"), "domain: [").unwrap();
    testkit::wait::eventually("the refusal", || {
        let rules = http::get(service.debug, "/rlconfig", &[]).text();
        rules.contains("# newer rules were refused").then_some(())
    });
    assert_eq!(health(), 200);
}

#[tokio::test]
async fn grpc_health_checks_use_the_names_of_the_reference() {
    let service = Tollgate::start(RULES, &[]);
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    for name in ["", "ratelimit"] {
        let reply = health.check(HealthCheckRequest { service: name.into() }).await.unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving, "{name:?}");
    }
    let unknown = HealthCheckRequest { service: "nobody".into() };
    assert_eq!(health.check(unknown.clone()).await.unwrap_err().code(), Code::NotFound);
    let checks =
        service.metrics().value("ratelimit_service_total_requests", &[("grpc_method", "Check")]);
    assert_eq!(checks, 3.0);
    let mut watching = health.watch(unknown).await.unwrap().into_inner();
    let told = watching.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
}

#[test]
fn pages_that_do_not_exist_are_404_or_the_index() {
    let service = Tollgate::start(RULES, &[]);
    let reply = http::get(service.http, "/nothing", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (404, "404 page not found\n"));
    let index = http::get(service.debug, "/nothing", &[]);
    assert_eq!(index.status, 200);
    let text = index.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.is_sorted() && lines.iter().all(|it| it.starts_with('/')), "{text}");
    let rules = http::get(service.debug, "/rlconfig", &[]).text();
    let line = "dummy.one_per_minute: unit=YEAR requests_per_unit=1, shadow_mode: false, \
                quota_mode: false";
    assert!(rules.lines().any(|it| it == line), "{rules}");
}
