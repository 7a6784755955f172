//! What stands between the service and Redis and sends each key where it belongs: it
//! works, or the service says what to set, and never counts wrongly.

use std::{net::SocketAddr, time::Duration};

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

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
- key: path
  rate_limit: { unit: year, requests_per_unit: 1000, algorithm: token_bucket }
";

/// It is never ready, and each of these is said by the page, the log and each call.
async fn is_refused(service: &Tollgate, words: &[&str]) {
    let says = |text: &str| words.iter().all(|it| text.contains(it));
    eventually("a line in the log", || says(&service.log()));
    let mut client = grpc::connect(service.grpc).await;
    for _ in 0..5 {
        let error =
            client.should_rate_limit(request_for("shop", &[("user", "ann")])).await.unwrap_err();
        assert!(says(error.message()), "{error}");
    }
    let ready = || http::get(service.http, "/ready", &[]);
    eventually("no readiness", || ready().status == 503);
    assert!(says(&ready().text()), "{}", ready().text());
}

/// The process ends, and says why.
fn ends(port: u16, settings: &[(&str, &str)], words: &[&str]) {
    let url = format!("127.0.0.1:{port}");
    let settings = [&[("REDIS_URL", &url[..])], settings].concat();
    let mut process = Tollgate::launch(RULES, &settings);
    assert!(process.wait_for_exit().code().is_some_and(|it| it != 0), "{}", process.log());
    let log = process.log();
    let says = |line: &str| {
        line.contains(r#""level":"error""#) && words.iter().all(|it| line.contains(it))
    };
    assert!(log.lines().any(says), "{log}");
}

/// Three of many calls at once pass, for each of many counters.
async fn counts(service: &Tollgate) {
    service.wait_until_ready();
    let calls = (0..200).map(|number| {
        let grpc = service.grpc;
        tokio::spawn(async move {
            let user = format!("u{}", number % 20);
            let mut client = grpc::connect(grpc).await;
            let request = request_for("shop", &[("user", &user)]);
            client.should_rate_limit(request).await.unwrap().into_inner().overall_code
        })
    });
    let mut passed = 0;
    for call in calls.collect::<Vec<_>>() {
        passed += u32::from(call.await.unwrap() == 1);
    }
    assert_eq!(passed, 60);
}

fn of(port: u16, settings: &[(&str, &str)]) -> Tollgate {
    let url = format!("127.0.0.1:{port}");
    Tollgate::start(RULES, &[&[("REDIS_URL", &url[..])], settings].concat())
}

#[tokio::test]
async fn a_cluster_is_used_only_as_one() {
    let single = Cluster::start(1);
    let port = single.primaries[0].client_port;
    let words = ["Redis Cluster", "REDIS_TYPE=cluster"];
    ends(port, &[], &words);
    counts(&of(port, &[("REDIS_TYPE", "cluster")])).await;
    // Of a node without slots, and of several nodes, it is not clear either.
    let lone = Node::start(&["--cluster-enabled", "yes", "--save", ""]);
    ends(lone.client_port, &[], &words);
    let three = Cluster::start(3);
    ends(three.primaries[0].client_port, &[], &words);
    let main = RedisServer::start();
    let url = format!("127.0.0.1:{port}");
    let second = [("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &url[..])];
    ends(main.port(), &second, &["Redis Cluster", "REDIS_PERSECOND_TYPE=cluster"]);
}

#[tokio::test]
async fn a_cluster_in_the_place_of_a_redis_that_has_decided_ends_nothing() {
    let mut server = Node::start(&["--save", ""]);
    let service = of(server.client_port, &[("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true")]);
    counts(&service).await;
    let says = |text: &str| service.log().contains(text);
    server.kill();
    let refused = "Connection refused";
    eventually("a line in the log", || says(refused));
    server.add_arguments(&["--cluster-enabled", "yes"]);
    server.restart();
    is_refused(&service, &["Redis Cluster", "REDIS_TYPE=cluster"]).await;
    let sentence = "set REDIS_TYPE=cluster; retrying";
    eventually("the other reason", || says(sentence));
    assert!(says("no longer ready: "), "{}", service.log());
    server.kill();
    server.add_arguments(&["--cluster-enabled", "no"]);
    server.restart();
    eventually("readiness", || says("ready again"));
}

#[tokio::test]
async fn what_is_no_cluster_is_not_used_as_one_and_fills_no_log() {
    let server = RedisServer::start();
    let service = of(server.port(), &[("REDIS_TYPE", "cluster")]);
    let words = ["cluster support disabled", "set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to single"];
    // Each call has it look for the cluster once more.
    for _ in 0..5 {
        is_refused(&service, &words).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let log = service.log();
    let times = |text: &str| log.matches(text).count();
    assert_eq!((times("connected to"), times("cannot read the slot map")), (1, 1), "{log}");
    assert!(times("cluster support disabled") <= 4, "{log}");
}

#[tokio::test]
async fn a_proxy_is_used_only_before_one_server() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let words = ["proxy", "twemproxy", "REDIS_URL", "REDIS_TYPE"];
    let both = Twemproxy::start(&[one.port(), other.port()]);
    ends(both.port, &[], &words);
    let alone = Twemproxy::start(&[one.port()]);
    counts(&of(alone.port, &[])).await;
}

#[tokio::test]
async fn an_envoy_is_used_only_before_one_server() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let at = |it: &RedisServer| SocketAddr::from(([127, 0, 0, 1], it.port()));
    let both = before(&[at(&one), at(&other)]);
    let words = ["proxy", "Envoy", "REDIS_URL", "REDIS_TYPE"];
    ends(both.listener("redis").port(), &[], &words);
    let alone = before(&[at(&one)]);
    counts(&of(alone.listener("redis").port(), &[])).await;
}

/// An Envoy that is a proxy for Redis.
fn before(servers: &[SocketAddr]) -> Envoy {
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
