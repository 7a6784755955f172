//! The wait that an HTTP client gets with a refusal.

use std::time::Duration;

use serde_json::{Value, json};

use testkit::http::Reply;

use crate::in_process::InProcess;

const RULES: &str = "
domain: shop
descriptors:
- key: login
  rate_limits:
  - { period: 1s, requests_per_unit: 1 }
  - { period: 1000h, requests_per_unit: 2, penalty: 2000h }
- key: refill
  rate_limits:
  - { unit: second, requests_per_unit: 1 }
  - { unit: month, requests_per_unit: 2, algorithm: sliding_log }
- key: quick
  quota_mode: true
  rate_limit: { period: 3s, requests_per_unit: 1 }
- key: slow
  quota_mode: true
  rate_limit: { unit: year, requests_per_unit: 1, algorithm: sliding_log }
- key: free
  quota_mode: true
  rate_limit: { unit: year, requests_per_unit: 1000 }
- key: minute
  rate_limit: { unit: minute, requests_per_unit: 1, algorithm: sliding_log }
- key: closed
  rate_limit: { unit: minute, requests_per_unit: 0, count_denied: false }
- key: shut
  rate_limit: { unit: minute, requests_per_unit: 0 }
- key: three
  rate_limit: { unit: minute, requests_per_unit: 3, algorithm: sliding_window }
- key: once
  rate_limit: { unit: year, requests_per_unit: 1, algorithm: sliding_log }
";

const MONTH: u64 = 30 * 86_400;

/// The service with [`RULES`], which adds metadata to its answers.
async fn start() -> InProcess {
    InProcess::start(RULES, &[("RESPONSE_DYNAMIC_METADATA", "always")]).await
}

/// Charges `hits` to each of these keys.
async fn ask(service: &InProcess, keys: &[&str], hits: u64) -> Reply {
    let descriptor = |key: &&str| json!({ "entries": [{ "key": key, "value": "x" }] });
    let descriptors: Vec<_> = keys.iter().map(descriptor).collect();
    let body = json!({ "domain": "shop", "descriptors": descriptors, "hitsAddend": hits });
    send(service, &body).await
}

async fn send(service: &InProcess, body: &Value) -> Reply {
    let json = ("content-type", &b"application/json"[..]);
    service.http("POST", "/json", &[json], body.to_string().as_bytes()).await
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

/// The seconds to wait, after checking that every part of the reply agrees.
#[track_caller]
fn wait(reply: &Reply) -> u64 {
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").expect("it passes").parse().unwrap();
    assert_eq!(body(reply)["dynamicMetadata"]["rule"]["resetSeconds"], wait);
    let listed = reply.header("ratelimit").unwrap();
    assert!(listed.contains(&format!(";t={wait}")), "{wait}: {listed}");
    wait
}

#[tokio::test(start_paused = true)]
async fn a_ban_decides_the_wait_in_any_order_of_limits() {
    let service = start().await;
    for _ in 0..2 {
        assert_eq!(ask(&service, &["login"], 1).await.status, 200);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    ask(&service, &["login"], 1).await;
    for passed in 0..3 {
        let reply = ask(&service, &["login"], 1).await;
        assert_eq!(wait(&reply), 2_000 * 3_600 - passed);
        let body = body(&reply);
        assert_eq!(body["statuses"][0]["durationUntilReset"], reply_seconds(&reply));
        assert_eq!(body["statuses"][0]["currentLimit"]["requestsPerUnit"], 2);
        assert_eq!(body["dynamicMetadata"]["rule"]["bannedSeconds"], wait(&reply));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

fn reply_seconds(reply: &Reply) -> String {
    format!("{}s", wait(reply))
}

/// The limit counts the hit although another limit refuses it.
#[tokio::test(start_paused = true)]
async fn the_wait_covers_a_limit_that_the_refused_call_used_up() {
    let service = start().await;
    assert_eq!(ask(&service, &["refill"], 1).await.status, 200);
    let refused = ask(&service, &["refill"], 1).await;
    assert_eq!(wait(&refused), MONTH);
}

#[tokio::test(start_paused = true)]
async fn of_several_quotas_the_shortest_wait_is_sent() {
    let service = start().await;
    assert_eq!(ask(&service, &["slow", "quick"], 1).await.status, 200);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(wait(&ask(&service, &["slow", "quick"], 1).await), 2);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(ask(&service, &["slow", "quick"], 1).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_quota_beside_a_free_one_adds_no_wait() {
    let service = start().await;
    assert_eq!(ask(&service, &["slow", "free", "minute"], 1).await.status, 200);
    tokio::time::advance(Duration::from_secs(18)).await;
    let reply = ask(&service, &["slow", "free", "minute"], 1).await;
    assert_eq!(wait(&reply), 42);
    let limits = reply.header("ratelimit").unwrap();
    assert!(limits.starts_with("\"limit-3\";r=0;t=42, \"limit-2\";r=998;t="), "{limits}");
    assert!(!limits.contains("limit-1"), "{limits}");
    assert_eq!(body(&reply)["statuses"][0]["code"], "OVER_LIMIT");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_passes_gets_no_retry_after() {
    let service = start().await;
    ask(&service, &["once"], 1).await;
    for (keys, hits) in [
        (&["closed"][..], 1),
        (&["shut"], 1),
        (&["three"], 5),
        (&["once", "closed"], 1),
        (&["closed", "once"], 1),
    ] {
        let reply = ask(&service, keys, hits).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, None), "{keys:?}");
        let rule = &body(&reply)["dynamicMetadata"]["rule"];
        assert_eq!((&rule["neverPasses"], &rule["resetSeconds"]), (&json!(true), &Value::Null));
        let limits = reply.header("ratelimit").unwrap();
        let first = limits.split(',').next().unwrap();
        assert!(first.contains(";r=") && !first.contains(";t="), "{limits}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_stay_short_however_many_limits_refuse() {
    let service = InProcess::start(RULES, &[("MAX_DESCRIPTORS", "1000")]).await;
    ask(&service, &["once"], 1).await;
    let keys: Vec<_> = ["free", "once"].into_iter().cycle().take(1_000).collect();
    let reply = ask(&service, &keys, 1).await;
    for name in ["ratelimit", "ratelimit-policy"] {
        let text = reply.header(name).unwrap();
        assert!(text.starts_with("\"limit-2\";"), "{text}");
        assert_eq!(text.split(", ").count(), 8, "{text}");
        assert!(text.len() < 1_000, "{text}");
    }
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test(start_paused = true)]
async fn headers_stay_short_however_long_names_are() {
    let name = |length| "n".repeat(length);
    let limit = "unit: year, requests_per_unit: 0";
    let rules = format!(
        "domain: shop\ndescriptors:\n- key: long\n  rate_limit: {{ {limit}, name: {} }}\n- key: \
         longest\n  rate_limit: {{ {limit}, name: {} }}\n",
        name(1_000),
        name(100),
    );
    let service = InProcess::start(&rules, &[]).await;
    for (key, expected) in [("long", "limit-8"), ("longest", &*name(100))] {
        let reply = ask(&service, &[key; 20], 1).await;
        let mut length = 0;
        for header in ["ratelimit", "ratelimit-policy"] {
            let text = reply.header(header).unwrap();
            assert!(text.contains(&format!("\"{expected}\";")), "{text}");
            length += text.len();
        }
        assert!(length <= 1_500, "{key}: {length}");
    }
}

/// The comment in the example file promises two at a time and twenty a month.
#[tokio::test(start_paused = true)]
async fn finished_exports_do_not_refund_the_monthly_quota() {
    let service = InProcess::start(include_str!("../../config/shop.yaml"), &[]).await;
    let export = async |back: bool| {
        let entries = json!([{ "key": "export", "value": "ann" }]);
        let descriptor = json!({ "entries": entries, "isNegativeHits": back, "hitsAddend": 1 });
        send(&service, &json!({ "domain": "shop", "descriptors": [descriptor] })).await.status
    };
    for expected in [200, 200, 429] {
        assert_eq!(export(false).await, expected);
    }
    for _ in 0..2 {
        assert_eq!(export(true).await, 200);
    }
    let mut made = 2;
    for _ in 0..25 {
        if export(false).await == 200 {
            made += 1;
            assert_eq!(export(true).await, 200);
        }
    }
    assert_eq!(made, 20);
}
