//! Proxies and clusters that route keys to servers: the service supports them or reports
//! the necessary setting, and never counts wrongly.

use std::net::SocketAddr;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use serde_json::{Value, json};
use testkit::{
    envoy::{self, Envoy, typed},
    grpc::{self, request_for},
    http,
    redis::RedisServer,
    redis_cluster::Cluster,
    redis_node::Node,
    tollgate::Tollgate,
    twemproxy::Twemproxy,
    wait::eventually,
};
use tokio::task::JoinSet;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
- key: path
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: token_bucket }
";

/// Checks that the service is not ready, and that page, log and calls contain these
/// words.
async fn check_not_ready(service: &Tollgate, words: &[&str]) {
    eventually("a line in the log", || contains_all(&service.log(), words));
    let mut client = grpc::connect(service.grpc).await;
    for _ in 0..5 {
        let error =
            client.should_rate_limit(request_for("shop", &[("user", "ann")])).await.unwrap_err();
        assert!(contains_all(error.message(), words), "{error}");
    }
    let page = eventually("no readiness", || {
        let reply = http::get(service.http, "/ready", &[]);
        if reply.status == 503 { Ok(reply.text()) } else { Err("the service is ready") }
    });
    assert!(contains_all(&page, words), "{page}");
}

fn contains_all(text: &str, words: &[&str]) -> bool {
    for word in words {
        if !text.contains(word) {
            return false;
        }
    }
    true
}

/// Checks that the process ends with these words in its log.
fn check_start_fails(port: u16, settings: &[(&str, &str)], words: &[&str]) {
    let url = format!("127.0.0.1:{port}");
    let settings = [&[("REDIS_URL", &url[..])], settings].concat();
    let mut process = Tollgate::launch(RULES, &settings);
    let status = process.wait_for_exit();
    let log = process.log();
    assert!(status.code().is_some() && !status.success(), "{status}: {log}");
    for line in log.lines() {
        if line.contains(r#""level":"error""#) && contains_all(line, words) {
            return;
        }
    }
    panic!("no error with {words:?} in\n{log}");
}

/// Checks that three of ten concurrent calls pass, for each of many counters.
async fn check_limits(service: &Tollgate) {
    service.wait_until_ready();
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let grpc = service.grpc;
        calls.spawn(async move {
            let user = format!("u{}", number % 20);
            let mut client = grpc::connect(grpc).await;
            let request = request_for("shop", &[("user", &user)]);
            grpc::decide(&mut client, request).await.overall_code() == Code::Ok
        });
    }
    let mut passed = 0;
    for has_passed in calls.join_all().await {
        passed += u32::from(has_passed);
    }
    assert_eq!(passed, 60);
}

fn start(port: u16, settings: &[(&str, &str)]) -> Tollgate {
    let url = format!("127.0.0.1:{port}");
    Tollgate::start(RULES, &[&[("REDIS_URL", &url[..])], settings].concat())
}

#[tokio::test]
async fn a_cluster_needs_the_cluster_setting() {
    let single = Cluster::start(1);
    let port = single.primaries[0].client_port;
    let words = ["Redis Cluster", "REDIS_TYPE=cluster"];
    check_start_fails(port, &[], &words);
    check_limits(&start(port, &[("REDIS_TYPE", "cluster")])).await;
    // The same applies to a node without slots and to several nodes.
    let lone = Node::start(&["--cluster-enabled", "yes", "--save", ""]);
    check_start_fails(lone.client_port, &[], &words);
    let three = Cluster::start(3);
    check_start_fails(three.primaries[0].client_port, &[], &words);
    let main = RedisServer::start();
    let url = format!("127.0.0.1:{port}");
    let second = [("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &url[..])];
    check_start_fails(main.port(), &second, &["Redis Cluster", "REDIS_PERSECOND_TYPE=cluster"]);
}

#[tokio::test]
async fn a_server_that_becomes_a_cluster_does_not_end_the_process() {
    let mut server = Node::start(&["--save", ""]);
    let service = start(server.client_port, &[("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true")]);
    check_limits(&service).await;
    server.kill();
    service.wait_for_log("Connection refused");
    server.add_arguments(&["--cluster-enabled", "yes"]);
    server.restart();
    check_not_ready(&service, &["Redis Cluster", "REDIS_TYPE=cluster"]).await;
    service.wait_for_log("set REDIS_TYPE=cluster; retrying");
    assert!(service.log().contains("no longer ready: "), "{}", service.log());
    server.kill();
    server.add_arguments(&["--cluster-enabled", "no"]);
    server.restart();
    service.wait_for_log("ready again");
}

#[tokio::test]
async fn a_single_server_is_not_used_as_a_cluster_and_does_not_fill_the_log() {
    let server = RedisServer::start();
    let service = start(server.port(), &[("REDIS_TYPE", "cluster")]);
    let words = ["cluster support disabled", "set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to single"];
    // Each call repeats the search for the cluster.
    for _ in 0..5 {
        check_not_ready(&service, &words).await;
    }
    let log = service.log();
    assert_eq!(log.matches("connected to").count(), 1, "{log}");
    assert_eq!(log.matches("cannot read the slot map").count(), 1, "{log}");
    assert!(log.matches("cluster support disabled").count() <= 4, "{log}");
}

#[tokio::test]
async fn twemproxy_is_accepted_with_one_server_only() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let words = ["proxy", "twemproxy", "REDIS_URL", "REDIS_TYPE"];
    let both = Twemproxy::start(&[one.port(), other.port()]);
    check_start_fails(both.port, &[], &words);
    let alone = Twemproxy::start(&[one.port()]);
    check_limits(&start(alone.port, &[])).await;
}

#[tokio::test]
async fn an_envoy_redis_proxy_is_accepted_with_one_server_only() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let both = start_proxy(&[address(&one), address(&other)]);
    let words = ["proxy", "Envoy", "REDIS_URL", "REDIS_TYPE"];
    check_start_fails(both.listener("redis").port(), &[], &words);
    let alone = start_proxy(&[address(&one)]);
    check_limits(&start(alone.listener("redis").port(), &[])).await;
}

fn address(server: &RedisServer) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port()))
}

/// An Envoy that is a Redis proxy for these servers.
fn start_proxy(servers: &[SocketAddr]) -> Envoy {
    let proxy = typed(
        "extensions.filters.network.redis_proxy.v3.RedisProxy",
        json!({
            "stat_prefix": "redis",
            "settings": { "op_timeout": "5s" },
            "prefix_routes": { "catch_all_route": { "cluster": "servers" } },
        }),
    );
    let filter: Value =
        json!({ "name": "envoy.filters.network.redis_proxy", "typed_config": proxy });
    let mut servers = envoy::cluster("servers", servers);
    servers["lb_policy"] = "MAGLEV".into();
    Envoy::start(&[envoy::listener("redis", &[filter])], &[servers])
}
