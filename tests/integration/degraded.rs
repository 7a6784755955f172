//! Decisions while Redis is dead, or alive and silent.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code,
};
use futures_util::future::join_all;
use testkit::{
    grpc::{self, Client, descriptor, is_degraded, request_for, with_hits},
    http,
    prometheus::Metrics,
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value,
    wait::{eventually, eventually_async, holds_for},
};
use tokio::time::timeout;
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

/// The deadline and the timeout are longer than Redis ever takes on a machine with other
/// work.
const SETTINGS: [(&str, &str); 4] = [
    ("STORE_DEADLINE", "5s"),
    ("LOCAL_SHARE", "0.25"),
    ("REDIS_TIMEOUT", "5s"),
    ("RESPONSE_DYNAMIC_METADATA", "always"),
];

fn start(redis: &RedisServer, more: &[(&str, &str)]) -> Tollgate {
    let url = redis.url();
    let settings = [&SETTINGS[..], more, &[("REDIS_URL", url.as_str())]].concat();
    Tollgate::start_ready(RULES, &settings)
}

async fn hit(client: &mut Client, key: &str) -> Result<RateLimitResponse, Status> {
    let reply = client.should_rate_limit(request_for("shop", &[(key, "ann")])).await;
    reply.map(tonic::Response::into_inner)
}

/// The HTTP status of a hit.
fn post(service: &Tollgate, key: &str) -> u16 {
    service.post_json(&http::json_request("shop", &[(key, "ann")])).status
}

/// The number of limits that each policy has decided.
fn degraded_decisions(to: SocketAddr) -> [f64; 3] {
    let metrics = Metrics::scrape(to, "/metrics");
    ["allow", "deny", "local"]
        .map(|policy| metrics.value("tollgate_degraded_total", &[("policy", policy)]))
}

/// Hits every key once. Redis decides, and nothing has been counted before.
async fn expect_redis_to_decide(client: &mut Client) {
    for key in ["user", "open", "closed", "local"] {
        let response = hit(client, key).await.unwrap();
        assert_eq!(response.overall_code(), Code::Ok, "{key}");
        assert_eq!(response.statuses[0].limit_remaining, 7, "{key}");
        assert!(!is_degraded(&response), "{key}");
    }
}

/// Hits every key. Policies decide, except for `user`: `ON_ERROR` is not set.
async fn expect_policies_to_decide(service: &Tollgate, client: &mut Client) {
    let before = degraded_decisions(service.http);
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
        assert_eq!(post(service, key), status, "{key}");
    }
    let error = hit(client, "user").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let after = degraded_decisions(service.http);
    assert_eq!([0, 1, 2].map(|policy| after[policy] - before[policy]), [4.0, 2.0, 4.0]);
}

/// Waits until Redis decides again. The requests have no hits.
async fn wait_for_redis(client: &mut Client) {
    eventually_async("decisions by Redis", async || {
        let mut request = request_for("shop", &[]);
        request.descriptors = vec![with_hits(descriptor(&[("open", "ann")]), 0)];
        !is_degraded(&grpc::decide(client, request).await)
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_dead_the_policies_decide_and_then_redis_again() {
    let mut redis = RedisServer::start();
    let service = start(&redis, &[]);
    let mut client = grpc::connect(service.grpc).await;
    expect_redis_to_decide(&mut client).await;
    redis.stop();
    expect_policies_to_decide(&service, &mut client).await;
    let log = service.log();
    let line = log.lines().find(|it| it.contains("a call was not decided by the counter store: "));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&redis.address()) && line.contains("on_error decides: allow"), "{line}");
    redis.restart();
    wait_for_redis(&mut client).await;
    // The restarted server has no data.
    expect_redis_to_decide(&mut client).await;
}

#[tokio::test]
async fn while_redis_is_silent_the_policies_decide_and_then_redis_again() {
    let redis = RedisServer::start();
    let service = start(&redis, &[]);
    let mut client = grpc::connect(service.grpc).await;
    expect_redis_to_decide(&mut client).await;
    redis.suspend();
    expect_policies_to_decide(&service, &mut client).await;
    assert!(service.metric("tollgate_store_failures_total") >= 12.0);
    redis.resume();
    wait_for_redis(&mut client).await;
    // Calls that timed out may have been counted.
    let response = hit(&mut client, "user").await.unwrap();
    assert_eq!(response.overall_code(), Code::Ok);
    assert!(!is_degraded(&response));
}

#[tokio::test]
async fn the_setting_applies_to_rules_without_a_policy() {
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
            assert!(is_degraded(&response), "{on_error}");
        }
        assert_eq!(post(&service, "user"), status, "{on_error}");
    }
}

#[tokio::test]
async fn a_policy_decides_before_the_deadline_of_the_caller() {
    let redis = RedisServer::start();
    let long_timeouts = [("STORE_DEADLINE", "10m"), ("REDIS_TIMEOUT", "10m")];
    let service = start(&redis, &long_timeouts);
    let mut client = grpc::connect(service.grpc).await;
    redis.suspend();
    let mut request = Request::new(request_for("shop", &[("open", "ann")]));
    request.set_timeout(Duration::from_secs(8));
    let response = client.should_rate_limit(request).await.unwrap().into_inner();
    assert!(is_degraded(&response));
}

#[tokio::test]
async fn without_a_policy_the_call_fails_before_the_deadline_of_the_caller() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "10m")]);
    let mut client = grpc::connect(service.grpc).await;
    redis.suspend();
    let mut request = Request::new(request_for("shop", &[("user", "ann")]));
    request.set_timeout(Duration::from_secs(8));
    let error = client.should_rate_limit(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert_eq!(service.metric("tollgate_late_answers_total"), 0.0);
}

/// Not even the occasional call that would find out whether Redis is back: with little
/// traffic, that would be every call.
#[tokio::test]
async fn no_call_waits_for_redis_after_it_was_found_silent() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "1s")]);
    let mut client = grpc::connect(service.grpc).await;
    expect_redis_to_decide(&mut client).await;
    redis.suspend();
    let error = hit(&mut client, "user").await.unwrap_err();
    assert!(error.message().contains("did not answer within"), "{error}");
    // Longer than the interval of the store's own attempts.
    holds_for(Duration::from_millis(1_200), "an immediate error", async || {
        let error = hit(&mut client, "user").await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable);
        !error.message().contains("did not answer within")
    })
    .await;
    redis.resume();
    wait_for_redis(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_answers_are_counted() {
    let redis = RedisServer::start();
    let service = start(&redis, &[("REDIS_TIMEOUT", "10m")]);
    let mut client = grpc::connect(service.grpc).await;
    expect_redis_to_decide(&mut client).await;
    redis.suspend();
    // The timeout is not sent to the service.
    let result = timeout(Duration::from_millis(100), hit(&mut client, "user")).await;
    assert!(result.is_err());
    eventually("the late answer", || service.metric("tollgate_late_answers_total") > 0.5);
}

#[tokio::test]
async fn calls_to_a_silent_redis_need_little_memory_and_are_all_answered() {
    const CALLS: u32 = 200;
    let redis = RedisServer::start();
    let service = start(&redis, &[("STORE_DEADLINE", "15ms"), ("ON_ERROR", "local")]);
    let before = service.peak_memory();
    let client = grpc::connect(service.grpc).await;
    redis.suspend();
    let mut load = Vec::new();
    for _ in 0..CALLS {
        let mut client = client.clone();
        load.push(async move {
            for _ in 0..50 {
                let request = request_for("shop", &[("user", &unique_value())]);
                let response = grpc::decide(&mut client, request).await;
                assert_eq!(response.overall_code(), Code::Ok);
                assert!(is_degraded(&response));
            }
        });
    }
    join_all(load).await;
    let failures = service.metric("tollgate_store_failures_total");
    assert_eq!(failures, f64::from(CALLS * 50));
    let cost = (service.peak_memory() - before) >> 20;
    println!("{} calls to a silent Redis: {cost} MiB", CALLS * 50);
    assert!(cost < 128, "{cost} MiB");
}
