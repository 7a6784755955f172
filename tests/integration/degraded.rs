//! What is answered while Redis does not: killed, or alive and silent.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use futures_util::future::join_all;
use testkit::{
    grpc::{self, Client, descriptor, request_for},
    http::{self, Reply},
    prometheus::Metrics,
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::eventually,
};
use tokio::time::{sleep, timeout};
use tonic::{Request, Status};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 8 }
- key: open
  rate_limit: { unit: year, requests_per_unit: 8, on_error: allow }
- key: closed
  rate_limit: { unit: year, requests_per_unit: 8, on_error: deny }
- key: local
  rate_limit: { unit: year, requests_per_unit: 8, on_error: local }
";

/// Far longer than Redis ever takes to answer on a machine that has other work.
const SETTINGS: [(&str, &str); 4] = [
    ("STORE_DEADLINE", "5s"),
    ("LOCAL_SHARE", "0.25"),
    ("REDIS_TIMEOUT", "5s"),
    ("RESPONSE_DYNAMIC_METADATA", "always"),
];

fn start(redis: &RedisServer, more: &[(&str, &str)]) -> Tollgate {
    let url = redis.url();
    let service =
        Tollgate::start(RULES, &[&SETTINGS[..], more, &[("REDIS_URL", url.as_str())]].concat());
    service.wait_until_ready();
    service
}

async fn hit(client: &mut Client, key: &str) -> Result<RateLimitResponse, Status> {
    let reply = client.should_rate_limit(request_for("shop", &[(key, "ann")])).await;
    reply.map(tonic::Response::into_inner)
}

fn post(to: SocketAddr, key: &str) -> Reply {
    let body = format!(
        r#"{{"domain":"shop","descriptors":[{{"entries":[{{"key":"{key}","value":"ann"}}]}}]}}"#
    );
    let json = ("content-type", &b"application/json"[..]);
    http::send(to, "POST", "/json", &[json], body.as_bytes())
}

fn is_degraded(response: &RateLimitResponse) -> bool {
    let metadata = response.dynamic_metadata.as_ref().unwrap();
    let value = metadata.fields.get("degraded").and_then(|it| it.kind.clone());
    format!("{value:?}").contains("BoolValue(true)")
}

/// How many limits each policy has decided.
fn degraded(to: SocketAddr) -> [f64; 3] {
    let metrics = Metrics::scrape(to, "/metrics");
    ["allow", "deny", "local"].map(|it| metrics.value("tollgate_degraded", &[("policy", it)]))
}

/// Redis decides: every key has been hit `before` times.
async fn normal(client: &mut Client, before: u32) {
    for key in ["user", "open", "closed", "local"] {
        let response = hit(client, key).await.unwrap();
        assert_eq!(response.overall_code(), Code::Ok, "{key}");
        assert_eq!(response.statuses[0].limit_remaining, 7 - before, "{key}");
        assert!(!is_degraded(&response), "{key}");
    }
}

/// The policies decide. `ON_ERROR` is not set.
async fn by_policy(service: &Tollgate, client: &mut Client) {
    let before = degraded(service.http);
    for (key, code, remaining) in [
        ("open", Code::Ok, 7),
        ("open", Code::Ok, 7),
        ("open", Code::Ok, 7),
        ("closed", Code::OverLimit, 0),
        ("local", Code::Ok, 1),
        ("local", Code::Ok, 0),
        ("local", Code::OverLimit, 0),
    ] {
        let response = hit(client, key).await.unwrap();
        assert_eq!(response.overall_code(), code, "{key}");
        let status = &response.statuses[0];
        assert_eq!((status.code(), status.limit_remaining), (code, remaining), "{key}");
        assert_eq!(status.current_limit.as_ref().unwrap().requests_per_unit, 8, "{key}");
        assert!(is_degraded(&response), "{key}");
    }
    for (key, status) in [("open", 200), ("closed", 429), ("local", 429), ("user", 503)] {
        assert_eq!(post(service.http, key).status, status, "{key}");
    }
    let error = hit(client, "user").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let after = degraded(service.http);
    assert_eq!([0, 1, 2].map(|it| after[it] - before[it]), [4.0, 2.0, 4.0]);
}

/// Asks until Redis decides again; each time costs nothing.
async fn recovered(client: &mut Client) {
    for _ in 0..2_000 {
        let mut request = request_for("shop", &[("open", "ann")]);
        request.descriptors = vec![grpc::with_hits(descriptor(&[("open", "ann")]), 0)];
        if !is_degraded(&client.should_rate_limit(request).await.unwrap().into_inner()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("Redis is up, and still not asked");
}

#[tokio::test]
async fn while_redis_is_dead_the_policies_decide_and_then_redis_again() {
    let mut redis = RedisServer::start();
    let service = start(&redis, &[]);
    let mut client = grpc::connect(service.grpc).await;
    normal(&mut client, 0).await;
    redis.stop();
    by_policy(&service, &mut client).await;
    redis.restart();
    recovered(&mut client).await;
    // What it held is lost.
    normal(&mut client, 0).await;
}

#[tokio::test]
async fn while_redis_is_silent_the_policies_decide_and_then_redis_again() {
    let redis = RedisServer::start();
    let service = start(&redis, &[]);
    let mut client = grpc::connect(service.grpc).await;
    normal(&mut client, 0).await;
    redis.suspend();
    by_policy(&service, &mut client).await;
    assert!(service.metric("tollgate_store_failures") >= 12.0);
    redis.resume();
    recovered(&mut client).await;
    // What was asked meanwhile may have been counted late.
    let response = hit(&mut client, "user").await.unwrap();
    assert_eq!(response.overall_code(), Code::Ok);
    assert!(!is_degraded(&response));
}

#[tokio::test]
async fn the_settings_decide_for_rules_that_do_not() {
    for (on_error, codes, status) in [
        ("allow", [Code::Ok; 3], 200),
        ("deny", [Code::OverLimit; 3], 429),
        ("local", [Code::Ok, Code::Ok, Code::OverLimit], 429),
    ] {
        let mut redis = RedisServer::start();
        let more = [("ON_ERROR", on_error), ("RESPONSE_DYNAMIC_METADATA", "refused")];
        let service = start(&redis, &more);
        let mut client = grpc::connect(service.grpc).await;
        redis.stop();
        for code in codes {
            let response = hit(&mut client, "user").await.unwrap();
            assert_eq!(response.overall_code(), code, "{on_error}");
            let refused = code == Code::OverLimit;
            assert_eq!(response.dynamic_metadata.is_some(), refused, "{on_error}");
            assert!(!refused || is_degraded(&response), "{on_error}");
        }
        assert_eq!(post(service.http, "user").status, status, "{on_error}");
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_answered_before_it_gives_up() {
    let redis = RedisServer::start();
    let patient = [("STORE_DEADLINE", "10m"), ("REDIS_TIMEOUT", "10m")];
    let service = start(&redis, &patient);
    let mut client = grpc::connect(service.grpc).await;
    redis.suspend();
    let mut request = Request::new(request_for("shop", &[("open", "ann")]));
    request.set_timeout(Duration::from_secs(8));
    let response = client.should_rate_limit(request).await.unwrap().into_inner();
    assert!(is_degraded(&response));
}

#[tokio::test]
async fn without_a_policy_too_a_caller_in_a_hurry_hears_that_nothing_is_decided() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "10m")]);
    let mut client = grpc::connect(service.grpc).await;
    redis.suspend();
    let mut request = Request::new(request_for("shop", &[("user", "ann")]));
    request.set_timeout(Duration::from_secs(8));
    let error = client.should_rate_limit(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert_eq!(service.metric("tollgate_late_answers"), 0.0);
}

/// Not even now and then, to see whether it is back: a service that is rarely asked
/// would always wait.
#[tokio::test]
async fn nobody_waits_for_a_redis_that_is_known_to_be_silent() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "1s")]);
    let mut client = grpc::connect(service.grpc).await;
    normal(&mut client, 0).await;
    redis.suspend();
    let error = hit(&mut client, "user").await.unwrap_err();
    assert!(error.message().contains("did not answer within"), "{error}");
    for _ in 0..20 {
        let error = hit(&mut client, "user").await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable);
        assert!(!error.message().contains("did not answer within"), "{error}");
        sleep(Duration::from_millis(60)).await;
    }
    redis.resume();
    recovered(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_too_late_are_counted() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "10m")]);
    let mut client = grpc::connect(service.grpc).await;
    normal(&mut client, 0).await;
    redis.suspend();
    // The service is not told how long the caller waits.
    let answer = timeout(Duration::from_millis(100), hit(&mut client, "user")).await;
    assert!(answer.is_err());
    let late = || service.metric("tollgate_late_answers");
    eventually("the late answer", || late() > 0.5);
}

#[tokio::test]
async fn a_silent_redis_under_load_costs_little_memory_and_no_answer() {
    const CALLS: u32 = 200;
    let redis = RedisServer::start();
    let service = start(&redis, &[("STORE_DEADLINE", "15ms"), ("ON_ERROR", "local")]);
    let before = service.peak_memory();
    let client = grpc::connect(service.grpc).await;
    redis.suspend();
    let load = (0..CALLS).map(|_| {
        let mut client = client.clone();
        async move {
            for _ in 0..50 {
                let value = unique_value();
                let request = request_for("shop", &[("user", &value)]);
                let response = client.should_rate_limit(request).await.unwrap().into_inner();
                assert_eq!(response.overall_code(), Code::Ok);
                assert!(is_degraded(&response));
            }
        }
    });
    join_all(load).await;
    let failures = service.metric("tollgate_store_failures");
    assert_eq!(failures, f64::from(CALLS * 50));
    let cost = (service.peak_memory() - before) >> 20;
    println!("{} calls to a silent Redis: {cost} MiB", CALLS * 50);
    assert!(cost < 128, "{cost} MiB");
}
