//! Proxies and clusters that route keys to servers: the service supports them or reports
//! the necessary setting, and never counts wrongly.

use std::net::SocketAddr;

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

/// Checks that the service is not ready, and that page, log and calls contain these
/// words.
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

/// Checks that the process ends with these words in its log.
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

/// Checks that three of ten concurrent calls pass, for each of many counters.
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
async fn a_cluster_needs_the_cluster_setting() {
    let single = Cluster::start(1);
    let port = single.primaries[0].client_port;
    let words = ["Redis Cluster", "REDIS_TYPE=cluster"];
    ends(port, &[], &words);
    counts(&of(port, &[("REDIS_TYPE", "cluster")])).await;
    // The same applies to a node without slots and to several nodes.
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
async fn a_server_that_becomes_a_cluster_does_not_end_the_process() {
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
async fn a_single_server_is_not_used_as_a_cluster_and_does_not_fill_the_log() {
    let server = RedisServer::start();
    let service = of(server.port(), &[("REDIS_TYPE", "cluster")]);
    let words = ["cluster support disabled", "set REDIS_TYPE, or REDIS_PERSECOND_TYPE, to single"];
    // Each call repeats the search for the cluster.
    for _ in 0..5 {
        is_refused(&service, &words).await;
    }
    let log = service.log();
    let times = |text: &str| log.matches(text).count();
    assert_eq!((times("connected to"), times("cannot read the slot map")), (1, 1), "{log}");
    assert!(times("cluster support disabled") <= 4, "{log}");
}

#[tokio::test]
async fn twemproxy_is_accepted_with_one_server_only() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let words = ["proxy", "twemproxy", "REDIS_URL", "REDIS_TYPE"];
    let both = Twemproxy::start(&[one.port(), other.port()]);
    ends(both.port, &[], &words);
    let alone = Twemproxy::start(&[one.port()]);
    counts(&of(alone.port, &[])).await;
}

#[tokio::test]
async fn an_envoy_redis_proxy_is_accepted_with_one_server_only() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let at = |it: &RedisServer| SocketAddr::from(([127, 0, 0, 1], it.port()));
    let both = before(&[at(&one), at(&other)]);
    let words = ["proxy", "Envoy", "REDIS_URL", "REDIS_TYPE"];
    ends(both.listener("redis").port(), &[], &words);
    let alone = before(&[at(&one)]);
    counts(&of(alone.listener("redis").port(), &[])).await;
}

/// An Envoy that is a Redis proxy for these servers.
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
