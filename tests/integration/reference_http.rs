//! Replies of Envoy's reference service over HTTP and to health checks, and the intended
//! differences.

use std::fs;

use serde_json::{Value, json};
use testkit::{http::Reply, redis::RedisServer, tollgate::Tollgate, wait::eventually_async};
use tokio::time::Instant;
use tollgate::grpc::pb::grpc::health::v1 as pb;
use tonic::{Code, codegen::http::uri::PathAndQuery};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::in_process::InProcess;

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

async fn any_method(service: &InProcess, method: &str, body: &str) -> Reply {
    service.http(method, "/json", &[], body.as_bytes()).await
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

#[tokio::test(start_paused = true)]
async fn decisions_are_200_and_429_with_the_same_json() {
    let service = InProcess::start(RULES, &[("RESPONSE_DYNAMIC_METADATA", "false")]).await;
    let limit = |requests| json!({ "requestsPerUnit": requests, "unit": "YEAR" });
    let reply = any_method(&service, "POST", BOTH).await;
    assert_eq!(reply.status, 200);
    let expected = json!({ "overallCode": "OK", "statuses": [
        { "code": "OK", "currentLimit": limit(1) },
        { "code": "OK", "currentLimit": limit(2), "limitRemaining": 1 },
    ]});
    assert_eq!(json_of(&reply), expected);
    let reply = any_method(&service, "POST", BOTH).await;
    assert_eq!(reply.status, 429);
    let expected = json!({ "overallCode": "OVER_LIMIT", "statuses": [
        { "code": "OVER_LIMIT", "currentLimit": limit(1) },
        { "code": "OK", "currentLimit": limit(2) },
    ]});
    assert_eq!(json_of(&reply), expected);
}

#[tokio::test(start_paused = true)]
async fn names_are_read_in_either_case_by_any_method() {
    let service = InProcess::start(RULES, &[]).await;
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
        let first = any_method(&service, method, &body).await;
        assert_eq!(first.status, if method == "DELETE" { 429 } else { 200 }, "{method} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_request_is_400() {
    let service = InProcess::start(RULES, &[]).await;
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
            let reply = any_method(&service, method, body).await;
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
    let service = Tollgate::start(RULES, &[("REDIS_URL", &redis.url())]);
    assert_eq!(service.post_json(BOTH).status, 200);
    redis.stop();
    let reply = service.post_json(BOTH);
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn the_health_page_answers_every_method() {
    let service = InProcess::start(RULES, &[("DRAIN_DELAY", "60s")]).await;
    for method in ["GET", "POST", "PUT"] {
        let reply = service.http(method, "/healthcheck", &[], b"").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "OK"), "{method}");
        assert_eq!(reply.header("content-type").unwrap(), "text/plain; charset=utf-8");
    }
    // From the first signal on the service stays unhealthy.
    let signal = Instant::now();
    service.remote.terminate();
    eventually_async("the drain", async || health(&service).await == 500).await;
    assert_eq!(service.get("/healthcheck").await.text(), "");
    // The second signal ends the drain delay.
    service.remote.terminate();
    service.ended().await;
    assert_eq!(signal.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn health_may_require_a_domain() {
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("config");
    fs::create_dir(&rules).unwrap();
    let settings = [
        ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true"),
        ("TOLLGATE_CONFIG", ""),
        ("RUNTIME_ROOT", files.path().to_str().unwrap()),
    ];
    let service = InProcess::start(RULES, &settings).await;
    assert_eq!(health(&service).await, 500);
    fs::write(rules.join("rules.yaml"), RULES).unwrap();
    eventually_async("health", async || health(&service).await == 200).await;
    // Invalid rules change nothing.
    fs::write(rules.join("rules.yaml"), "domain: [").unwrap();
    eventually_async("the refusal", async || {
        service.debug("/rlconfig").await.text().contains("# newer rules were rejected")
    })
    .await;
    assert_eq!(health(&service).await, 200);
}

async fn health(service: &InProcess) -> u16 {
    service.get("/healthcheck").await.status
}

#[tokio::test(start_paused = true)]
async fn grpc_health_checks_know_the_names_of_the_reference() {
    let service = InProcess::start(RULES, &[]).await;
    let mut health = HealthClient::new(service.channel().await);
    const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";
    for name in ["", "ratelimit", AUTHORIZATION] {
        let reply = health.check(HealthCheckRequest { service: name.into() }).await.unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving, "{name:?}");
    }
    let unknown = HealthCheckRequest { service: "nobody".into() };
    assert_eq!(health.check(unknown.clone()).await.unwrap_err().code(), Code::NotFound);
    let mut lists = pb::health_client::HealthClient::new(service.channel().await);
    let listed = lists.list(pb::HealthListRequest {}).await.unwrap().into_inner().statuses;
    let serving = pb::HealthCheckResponse { status: ServingStatus::Serving.into() };
    assert_eq!(
        listed,
        ["", "ratelimit", AUTHORIZATION].map(|name| (name.to_owned(), serving)).into()
    );
    let metrics = service.metrics().await;
    for (method, calls) in [("Check", 4.0), ("List", 1.0)] {
        let labels = [("grpc_method", method)];
        assert_eq!(metrics.value("ratelimit_service_total_requests", &labels), calls);
    }
    let mut watching = health.watch(unknown).await.unwrap().into_inner();
    let told = watching.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_an_unknown_method_is_told_its_name() {
    let service = InProcess::start(RULES, &[]).await;
    let mut client = tonic::client::Grpc::new(service.channel().await);
    for (path, expected) in [
        ("/no.Such/Get", "unknown service no.Such"),
        ("/grpc.health.v1.Health/Get", "unknown method Get for service grpc.health.v1.Health"),
        (
            "/envoy.service.ratelimit.v3.RateLimitService/Get",
            "unknown method Get for service envoy.service.ratelimit.v3.RateLimitService",
        ),
    ] {
        client.ready().await.unwrap();
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let request = tonic::Request::new(HealthCheckRequest::default());
        let path = PathAndQuery::from_static(path);
        let error = client.unary(request, path, codec).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unimplemented, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn pages_that_do_not_exist_are_404_or_the_index() {
    let service = InProcess::start(RULES, &[]).await;
    let reply = service.get("/nothing").await;
    assert_eq!((reply.status, reply.text().as_str()), (404, "404 page not found\n"));
    let index = service.debug("/nothing").await;
    assert_eq!(index.status, 200);
    let text = index.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.is_sorted() && lines.iter().all(|it| it.starts_with('/')), "{text}");
    let rules = service.debug("/rlconfig").await.text();
    let line = "dummy.one_per_minute: unit=YEAR requests_per_unit=1, shadow_mode: false, \
                quota_mode: false";
    assert!(rules.lines().any(|it| it == line), "{rules}");
}
