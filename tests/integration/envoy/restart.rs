//! Instances and connections are replaced while Envoy sends requests.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};
use testkit::{
    envoy::{self, Envoy, header, route},
    http,
    redis::RedisServer,
    tollgate::Tollgate,
    unique_value, upstream,
    wait::eventually,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 5 }
";

#[test]
fn no_request_fails_while_two_instances_are_restarted_in_turn() {
    let redis = RedisServer::start();
    let url = redis.url();
    let settings = [("REDIS_URL", url.as_str()), ("DRAIN_DELAY", "2s")];
    let mut services = [Tollgate::start(RULES, &settings), Tollgate::start(RULES, &settings)];
    let envoy = start_envoy(&services);
    wait_for_healthy(&envoy, 2);
    under_load(&envoy, || {
        for service in &mut services {
            service.terminate();
            wait_for_healthy(&envoy, 1);
            // Envoy noticed the health check, not a closed port.
            assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 500);
            assert!(service.wait_for_exit().success());
            *service = Tollgate::start_at(service.host(), RULES, &settings);
            wait_for_healthy(&envoy, 2);
        }
    });
}

fn wait_for_healthy(envoy: &Envoy, expected: u64) {
    eventually(&format!("{expected} healthy instances"), || {
        envoy.stat("cluster.tollgate.membership_healthy") == expected
    });
}

#[test]
fn no_request_fails_while_old_connections_are_replaced() {
    let redis = RedisServer::start();
    let settings = [("REDIS_URL", &*redis.url()), ("GRPC_MAX_CONNECTION_AGE", "300ms")];
    let services = [Tollgate::start(RULES, &settings), Tollgate::start(RULES, &settings)];
    let envoy = start_envoy(&services);
    under_load(&envoy, || {
        eventually("connections to be replaced", || {
            envoy.stat("cluster.tollgate.upstream_cx_total") >= 8
        });
    });
}

/// Sends requests during `event`. Exactly as many as the limit allows pass for each user.
fn under_load(envoy: &Envoy, event: impl FnOnce()) {
    let address = envoy.listener("http");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| send_requests(address, &stop)));
        // Also stops the threads if `event` panics: the scope waits for them.
        let stop_guard = StopOnDrop(&stop);
        event();
        drop(stop_guard);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert_eq!(envoy.stat("cluster.upstream.ratelimit.error"), 0);
}

/// Sends requests for one user after the other. Returns the number of users.
fn send_requests(address: SocketAddr, stop: &AtomicBool) -> usize {
    let mut users = 0;
    while !stop.load(Ordering::Relaxed) {
        let user = unique_value();
        for expected in [200, 200, 200, 200, 200, 429, 429] {
            let reply = http::get(address, "/user", &[("x-user", user.as_bytes())]);
            assert_eq!(reply.status, expected);
        }
        users += 1;
    }
    users
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An Envoy that checks the health of both instances, and denies requests for which the
/// rate limit service fails.
fn start_envoy(services: &[Tollgate; 2]) -> Envoy {
    let filter = envoy::rate_limit_filter("tollgate", &json!({ "failure_mode_deny": true }));
    let user = route("/user", json!({ "rate_limits": [{ "actions": [header("user")] }] }));
    let chain = envoy::http_filter_chain(&[filter], &[user]);
    let addresses = [services[0].grpc, services[1].grpc];
    let mut tollgate = envoy::grpc_cluster("tollgate", &addresses);
    tollgate["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
    tollgate["health_checks"] = json!([health_check()]);
    Envoy::start(
        &[envoy::listener("http", &[chain])],
        &[envoy::cluster("upstream", &[upstream::address()]), tollgate],
    )
}

fn health_check() -> Value {
    json!({
        "grpc_health_check": { "service_name": "ratelimit" },
        "timeout": "10s",
        "interval": "0.1s",
        "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    })
}
