//! Requests that pass, and requests that are refused.

use std::thread;

use testkit::{http, redis::RedisServer, unique_value};

use super::{Front, LISTENERS};

#[test]
fn requests_pass_up_to_the_limit_and_not_beyond() {
    holds_a_limit(&Front::shared());
}

#[test]
fn half_of_a_hundred_concurrent_requests_pass_a_limit_of_fifty() {
    passes_half_of_a_hundred(&Front::shared());
}

#[test]
fn checks_and_the_rate_limit_filter_share_their_counters() {
    shares_counters(&Front::shared());
}

#[test]
fn limits_hold_and_are_shared_with_counters_in_redis() {
    let redis = RedisServer::start();
    let front = Front::start(&[("REDIS_URL", &redis.url())]);
    front.service.wait_until_ready();
    holds_a_limit(&front);
    passes_half_of_a_hundred(&front);
    shares_counters(&front);
}

fn holds_a_limit(front: &Front) {
    for listener in LISTENERS {
        let key = unique_value();
        let key = [("x-api-key", key.as_str())];
        assert_eq!(front.statuses(6, listener, "/a", &key), [200, 200, 200, 200, 200, 429]);
        let other = unique_value();
        assert_eq!(front.get(listener, "/a", &[("x-api-key", &other)]).status, 200, "{listener}");
    }
}

#[test]
fn the_client_sees_its_limit_with_both_answers() {
    let front = Front::shared();
    for listener in LISTENERS {
        let key = unique_value();
        let key = [("x-api-key", key.as_str())];
        let first = front.get(listener, "/a", &key);
        assert_eq!((first.status, first.text().as_str()), (200, "ok"), "{listener}");
        let policy = first.header("ratelimit-policy").unwrap();
        assert!(policy.starts_with("\"per_key\";q=5;w="), "{listener}: {policy}");
        let left = first.header("ratelimit").unwrap();
        assert!(left.starts_with("\"per_key\";r=4;t="), "{listener}: {left}");
        // Only the application's answers may be cached.
        assert_eq!(first.header("cache-control"), None, "{listener}");

        front.statuses(4, listener, "/a", &key);
        let refused = front.get(listener, "/a", &key);
        assert_eq!(refused.status, 429, "{listener}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(0 < wait, "{listener}");
        let left = refused.header("ratelimit").unwrap();
        assert_eq!(left, format!("\"per_key\";r=0;t={wait}"), "{listener}");
        assert_eq!(refused.header("ratelimit-policy").unwrap(), policy, "{listener}");
        assert_eq!(refused.header("cache-control").unwrap(), "no-store", "{listener}");
        assert_eq!(refused.header("content-type").unwrap(), "application/problem+json");
        let problem = refused.json();
        assert_eq!(problem["status"], 429, "{listener}");
        assert_eq!(problem["violated-policies"][0], "per_key", "{listener}");
    }
}

fn passes_half_of_a_hundred(front: &Front) {
    for listener in ["grpc-closed", "http-closed"] {
        let key = unique_value();
        let address = front.address(listener);
        let statuses: Vec<u16> =
            thread::scope(|scope| {
                let mut calls = Vec::new();
                for _ in 0..100 {
                    calls.push(scope.spawn(|| {
                        http::get(address, "/a", &[("x-burst-key", key.as_bytes())]).status
                    }));
                }
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
        let count = |status| statuses.iter().filter(|it| **it == status).count();
        assert_eq!((count(200), count(429)), (50, 50), "{listener}: {statuses:?}");
    }
}

fn shares_counters(front: &Front) {
    let key = unique_value();
    let key = [("x-api-key", key.as_str())];
    for listener in ["rate-limit", "grpc-closed", "http-closed", "rate-limit", "grpc-open"] {
        assert_eq!(front.get(listener, "/limited", &key).status, 200, "{listener}");
    }
    for listener in ["rate-limit", "grpc-closed", "http-closed", "grpc-open", "http-open"] {
        assert_eq!(front.get(listener, "/limited", &key).status, 429, "{listener}");
    }
}

#[test]
fn a_request_without_a_descriptor_is_not_limited() {
    let front = Front::shared();
    for listener in LISTENERS {
        let reply = front.get(listener, "/a", &[]);
        assert_eq!((reply.status, reply.header("ratelimit")), (200, None), "{listener}");
    }
}

#[test]
fn checks_are_counted_by_their_domain_and_result() {
    let front = Front::start(&[]);
    let key = unique_value();
    front.statuses(6, "grpc-closed", "/a", &[("x-api-key", &key)]);
    let metrics = front.service.metrics();
    for (result, count) in [("allowed", 5.0), ("refused", 1.0)] {
        let labels = [("dialect", "ext_authz"), ("domain", "edge"), ("result", result)];
        assert_eq!(metrics.value("tollgate_checks_total", &labels), count, "{result}");
    }
    let method = [("grpc_method", "ext_authz")];
    assert_eq!(metrics.value("ratelimit_service_total_requests", &method), 6.0);
}
