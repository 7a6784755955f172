//! Instances and connections come and go: nobody notices.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    envoy::{self, Envoy, header, route},
    eventually, fresh, http,
    redis::RedisServer,
    tollgate::Tollgate,
    upstream,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 5 }
";

#[test]
fn two_instances_are_restarted_in_turn_and_no_request_fails() {
    let redis = RedisServer::start();
    let url = redis.url();
    let start = |port: &str| {
        let settings = [("REDIS_URL", &*url), ("DRAIN_DELAY", "2s"), ("GRPC_PORT", port)];
        Tollgate::start(RULES, &settings)
    };
    let mut services = ["0", "0"].map(start);
    let envoy = front(&services);
    let healthy = |expected: u64| {
        eventually(&format!("{expected} healthy instances"), || {
            (envoy.stat("cluster.tollgate.membership_healthy") == expected).then_some(())
        });
    };
    healthy(2);
    under_load(&envoy, || {
        for service in &mut services {
            let port = service.grpc.port().to_string();
            service.terminate();
            healthy(1);
            // It has said so: it is not that it could not be asked any more.
            assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 500);
            assert!(service.ended(Duration::from_secs(10)).success());
            *service = start(&port);
            healthy(2);
        }
    });
}

#[test]
fn old_connections_are_replaced_and_no_request_fails() {
    let redis = RedisServer::start();
    let settings = [("REDIS_URL", &*redis.url()), ("GRPC_MAX_CONNECTION_AGE", "300ms")];
    let services = [(); 2].map(|()| Tollgate::start(RULES, &settings));
    let envoy = front(&services);
    under_load(&envoy, || {
        eventually("connections to be replaced", || {
            (envoy.stat("cluster.tollgate.upstream_cx_total") >= 8).then_some(())
        });
    });
}

/// Has users ask all the time while `something` happens. Each of them gets
/// exactly what the limit allows.
fn under_load(envoy: &Envoy, something: impl FnOnce()) {
    let address = envoy.listener("http");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| play_users(address, &over)));
        // Also if something goes wrong: the scope waits for its threads.
        let ending = OnDrop(&over);
        something();
        drop(ending);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert_eq!(envoy.stat("cluster.upstream.ratelimit.error"), 0);
}

/// Says how many users there were.
fn play_users(address: SocketAddr, over: &AtomicBool) -> usize {
    let mut users = 0;
    while !over.load(Ordering::Relaxed) {
        let user = fresh();
        let get = |()| http::get(address, "/user", &[("x-user", user.as_bytes())]).status;
        assert_eq!([(); 7].map(get), [200, 200, 200, 200, 200, 429, 429]);
        users += 1;
    }
    users
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An Envoy that asks both for their health, and refuses what it cannot ask
/// about.
fn front(services: &[Tollgate; 2]) -> Envoy {
    let filter = envoy::rate_limit_filter("tollgate", &json!({ "failure_mode_deny": true }));
    let user = route("/user", json!({ "rate_limits": [{ "actions": [header("user")] }] }));
    let chain = envoy::http_filter_chain(&[filter], &[user]);
    let mut tollgate = envoy::grpc_cluster("tollgate", &services.each_ref().map(|it| it.grpc));
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
        "timeout": "1s",
        "interval": "0.1s",
        "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    })
}
