//! What a client that is refused is told to wait for, over HTTP.

use serde_json::{Value, json};

use crate::support::{
    http::{self, Reply},
    tollgate::Tollgate,
};

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

/// Asks about these keys, with so many hits on each.
fn ask(service: &Tollgate, keys: &[&str], hits: u64) -> Reply {
    let descriptor = |key: &&str| json!({ "entries": [{ "key": key, "value": "x" }] });
    let descriptors: Vec<_> = keys.iter().map(descriptor).collect();
    let body = json!({ "domain": "shop", "descriptors": descriptors, "hitsAddend": hits });
    send(service, &body)
}

fn send(service: &Tollgate, body: &Value) -> Reply {
    let json = ("content-type", &b"application/json"[..]);
    http::send(service.http, "POST", "/json", &[json], body.to_string().as_bytes())
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

/// How long a client that is refused is told to wait. All places say the same.
#[track_caller]
fn wait(reply: &Reply) -> u64 {
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").expect("it passes").parse().unwrap();
    assert_eq!(body(reply)["dynamicMetadata"]["rule"]["resetSeconds"], wait);
    let listed = reply.header("ratelimit").unwrap();
    assert!(listed.contains(&format!(";t={wait}")), "{wait}: {listed}");
    wait
}

#[test]
fn a_ban_is_told_whichever_limit_stands_first() {
    let service = Tollgate::start(RULES, &[]);
    let replies = [(); 5].map(|()| ask(&service, &["login"], 1));
    assert_eq!(replies[0].status, 200);
    for reply in &replies[3..] {
        let wait = wait(reply);
        assert!((2_000 * 3_600 - 60..=2_000 * 3_600).contains(&wait), "{wait}");
        let body = body(reply);
        assert_eq!(body["statuses"][0]["durationUntilReset"], format!("{wait}s"));
        assert_eq!(body["statuses"][0]["currentLimit"]["requestsPerUnit"], 2);
        assert_eq!(body["dynamicMetadata"]["rule"]["bannedSeconds"], wait);
    }
}

/// It is counted although another limit refuses it.
#[test]
fn a_limit_that_the_refused_call_itself_used_up_is_waited_for() {
    let service = Tollgate::start(RULES, &[]);
    let refused = (0..10).map(|_| ask(&service, &["refill"], 1)).find(|it| it.status == 429);
    let wait = wait(&refused.expect("two calls a month pass"));
    assert!((MONTH - 60..=MONTH).contains(&wait), "{wait}");
}

#[test]
fn of_quotas_the_first_that_is_free_is_waited_for() {
    let service = Tollgate::start(RULES, &[]);
    let ask = |keys: &[&str]| ask(&service, keys, 1);
    let refused = (0..10).map(|_| ask(&["slow", "quick"])).find(|it| it.status == 429);
    let wait = wait(&refused.expect("one call passes"));
    assert!((1..=3).contains(&wait), "{wait}");
}

#[test]
fn a_quota_that_refuses_nothing_is_not_waited_for() {
    let service = Tollgate::start(RULES, &[]);
    let ask = |keys: &[&str]| ask(&service, keys, 1);
    assert_eq!(ask(&["slow", "free", "minute"]).status, 200);
    let reply = ask(&["slow", "free", "minute"]);
    let wait = wait(&reply);
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(reply.header("ratelimit").unwrap(), format!("\"limit-3\";r=0;t={wait}"));
    assert_eq!(body(&reply)["statuses"][0]["code"], "OVER_LIMIT");
}

#[test]
fn what_never_passes_is_not_told_to_come_back() {
    let service = Tollgate::start(RULES, &[]);
    ask(&service, &["once"], 1);
    for (keys, hits) in [
        (&["closed"][..], 1),
        (&["shut"], 1),
        (&["three"], 5),
        (&["once", "closed"], 1),
        (&["closed", "once"], 1),
    ] {
        let reply = ask(&service, keys, hits);
        assert_eq!((reply.status, reply.header("retry-after")), (429, None), "{keys:?}");
        let rule = &body(&reply)["dynamicMetadata"]["rule"];
        assert_eq!((&rule["neverPasses"], &rule["resetSeconds"]), (&json!(true), &Value::Null));
        assert!(reply.header("ratelimit").unwrap().contains(";r="));
    }
}

#[test]
fn headers_stay_short_however_many_limits_refuse() {
    let service = Tollgate::start(RULES, &[("MAX_DESCRIPTORS", "1000")]);
    ask(&service, &["once"], 1);
    let keys: Vec<_> = ["free", "once"].into_iter().cycle().take(1_000).collect();
    let reply = ask(&service, &keys, 1);
    for name in ["ratelimit", "ratelimit-policy"] {
        let text = reply.header(name).unwrap();
        assert!(text.starts_with("\"limit-2\";"), "{text}");
        assert_eq!(text.split(", ").count(), 20, "{text}");
        assert!(text.len() < 1_000, "{text}");
    }
    assert!(reply.header("retry-after").is_some());
}

/// As the file of examples promises: two at a time, and twenty a month.
#[test]
fn exports_that_end_do_not_give_back_the_month() {
    let service = Tollgate::start(include_str!("../../config/shop.yaml"), &[]);
    let export = |back: bool| {
        let entries = json!([{ "key": "export", "value": "ann" }]);
        let descriptor = json!({ "entries": entries, "isNegativeHits": back, "hitsAddend": 1 });
        send(&service, &json!({ "domain": "shop", "descriptors": [descriptor] })).status
    };
    assert_eq!([export(false), export(false), export(false)], [200, 200, 429]);
    assert_eq!([export(true), export(true)], [200, 200]);
    let mut made = 2;
    for _ in 0..25 {
        if export(false) == 200 {
            made += 1;
            assert_eq!(export(true), 200);
        }
    }
    assert_eq!(made, 20);
}
