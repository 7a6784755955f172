//! Readiness and health while Redis does not decide, and when the process ends because of
//! that.

use std::time::Duration;

use testkit::{
    grpc::{self, request_for},
    http,
    redis::RedisServer,
    redis_cluster::Cluster,
    tollgate::Tollgate,
    wait::{eventually_async, holds_for},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 100 }
- key: fast
  rate_limit: { unit: second, requests_per_unit: 100 }
";

/// Longer than the interval between the health checks of Redis.
const SEVERAL_CHECKS: Duration = Duration::from_millis(600);

/// The answers of all health endpoints.
#[derive(Debug, PartialEq)]
struct Health {
    ready: u16,
    healthcheck: u16,
    grpc: [ServingStatus; 2],
}

const HEALTHY: Health = Health { ready: 200, healthcheck: 200, grpc: [ServingStatus::Serving; 2] };
const UNHEALTHY: Health =
    Health { ready: 503, healthcheck: 500, grpc: [ServingStatus::NotServing; 2] };

async fn health(service: &Tollgate) -> Health {
    let page = |path| http::get(service.http, path, &[]).status;
    let mut client = HealthClient::new(grpc::channel(service.grpc).await);
    let mut grpc = [ServingStatus::Unknown; 2];
    for (status, name) in grpc.iter_mut().zip(["", "ratelimit"]) {
        let reply = client.check(HealthCheckRequest { service: name.to_owned() }).await;
        *status = reply.unwrap().into_inner().status();
    }
    Health { ready: page("/ready"), healthcheck: page("/healthcheck"), grpc }
}

async fn wait_for_health(service: &Tollgate, expected: Health) {
    eventually_async(&format!("{expected:?}"), async || {
        let found = health(service).await;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

fn ready_page(service: &Tollgate) -> String {
    http::get(service.http, "/ready", &[]).text()
}

#[tokio::test]
async fn health_follows_every_redis_if_the_setting_is_active() {
    let (mut main, mut second) = (RedisServer::start(), RedisServer::start());
    let (main_url, second_url) = (main.url(), second.url());
    let service = Tollgate::start(
        RULES,
        &[
            ("REDIS_URL", &main_url),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", &second_url),
            ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true"),
            ("REDIS_TIMEOUT", "2s"),
            ("REDIS_PERSECOND_TIMEOUT", "2s"),
        ],
    );
    wait_for_health(&service, HEALTHY).await;
    for server in [&mut main, &mut second] {
        server.stop();
        wait_for_health(&service, UNHEALTHY).await;
        let page = ready_page(&service);
        assert!(page.starts_with("the counter store does not decide: cannot connect to"), "{page}");
        server.restart();
        wait_for_health(&service, HEALTHY).await;
    }
    main.suspend();
    wait_for_health(&service, UNHEALTHY).await;
    main.resume();
    wait_for_health(&service, HEALTHY).await;
}

#[tokio::test]
async fn health_does_not_follow_redis_by_default() {
    let mut server = RedisServer::start();
    let service = Tollgate::start(RULES, &[("REDIS_URL", &server.url())]);
    wait_for_health(&service, HEALTHY).await;
    server.stop();
    service.wait_for_log("is lost");
    holds_for(SEVERAL_CHECKS, "health", async || health(&service).await == HEALTHY).await;
}

/// The log of a process that ends because Redis at `url` does not decide in time.
fn log_of_failed_start(url: &str, settings: &[(&str, &str)]) -> String {
    let mut all = vec![("REDIS_URL", url), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1s")];
    all.extend(settings);
    let mut process = Tollgate::launch(RULES, &all);
    let status = process.wait_for_exit();
    assert!(status.code().is_some() && !status.success(), "{status}: {}", process.log());
    process.log()
}

#[test]
fn the_process_ends_if_redis_does_not_decide_in_time() {
    let mut server = RedisServer::start();
    let expected = "has not decided within REDIS_STARTUP_MAX_ELAPSED_TIME, 1s";
    // The limit also applies to a server that accepts connections and does not reply.
    server.suspend();
    let log = log_of_failed_start(&server.url(), &[("REDIS_TIMEOUT", "10m")]);
    assert!(log.contains(expected), "{log}");
    server.resume();
    let url = server.url();
    server.stop();
    let reason = format!("cannot connect to {}", server.address());
    let log = log_of_failed_start(&url, &[]);
    assert!(log.contains(expected) && log.contains(&reason), "{log}");
    // A working second server makes no difference.
    let second = RedisServer::start();
    let second = [("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &second.url())];
    let log = log_of_failed_start(&url, &second);
    assert!(log.contains(expected) && log.contains(&reason), "{log}");
}

#[tokio::test]
async fn the_process_keeps_running_if_redis_has_decided_in_time() {
    let mut server = RedisServer::start();
    server.stop();
    let url = server.url();
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1m")];
    let service = Tollgate::start(RULES, &settings);
    assert!(!service.is_ready());
    server.restart();
    service.wait_until_ready();

    let server = RedisServer::start();
    let url = server.url();
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1s")];
    let mut service = Tollgate::start_ready(RULES, &settings);
    // From now on the limit does not apply.
    drop(server);
    let longer_than_limit = Duration::from_millis(1_200);
    holds_for(longer_than_limit, "readiness", async || service.is_ready()).await;
    service.stop();
}

/// Checks that the service becomes ready only after `set_usable(true)`, and follows
/// `set_usable(false)` only if the setting is active. Until it is ready, `/ready` reports
/// `reason`. Both states are observed for the time `hold`.
async fn check_unusable_redis(
    settings: &[(&str, &str)],
    reason: &str,
    set_usable: impl Fn(bool),
    hold: Duration,
) {
    for follows in ["false", "true"] {
        set_usable(false);
        let mut all = settings.to_vec();
        all.push(("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", follows));
        let service = Tollgate::start(RULES, &all);
        eventually_async(reason, async || ready_page(&service).contains(reason)).await;
        wait_for_health(&service, UNHEALTHY).await;
        holds_for(hold, "not ready", async || !service.is_ready()).await;
        set_usable(true);
        wait_for_health(&service, HEALTHY).await;
        set_usable(false);
        if follows == "true" {
            wait_for_health(&service, UNHEALTHY).await;
            let page = ready_page(&service);
            assert!(page.contains(reason), "{page}");
        } else {
            holds_for(hold, "health", async || health(&service).await == HEALTHY).await;
        }
    }
}

#[tokio::test]
async fn the_service_is_not_ready_on_a_replica() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    let port = master.port().to_string();
    let set_usable = |promoted: bool| {
        let master = if promoted { ["NO", "ONE"] } else { ["127.0.0.1", &port] };
        redis::cmd("REPLICAOF").arg(&master).exec(&mut replica.client()).unwrap();
    };
    check_unusable_redis(&[("REDIS_URL", &replica.url())], "READONLY", set_usable, SEVERAL_CHECKS)
        .await;
}

/// Creates a Redis user with these rights, or changes the rights.
fn set_rights(server: &RedisServer, rights: &str) {
    let command = format!("SETUSER counts on >secret {rights}");
    let words: Vec<_> = command.split(' ').collect();
    redis::cmd("ACL").arg(words).exec(&mut server.client()).unwrap();
}

#[tokio::test]
async fn the_service_is_not_ready_without_a_right_that_decisions_need() {
    let server = RedisServer::start();
    let url = format!("redis://counts:secret@{}", server.address());
    let needed = [
        "eval", "evalsha", "get", "set", "del", "decrby", "incrby", "pexpire", "pttl", "getrange",
        "setrange", "strlen",
    ];
    let rights = format!("~* -@all +{} +ping", needed.join(" +"));
    for right in needed {
        let set_usable = |complete: bool| {
            let missing = if complete { String::new() } else { format!(" -{right}") };
            set_rights(&server, &format!("{rights}{missing}"));
        };
        // For commands inside of a script, Redis 7 does not reply with NOPERM.
        let reason = match right {
            "eval" | "evalsha" => "NOPERM".to_owned(),
            right => format!("can't run this command or subcommand ({})", right.to_uppercase()),
        };
        let hold = if right == needed[0] { SEVERAL_CHECKS } else { Duration::ZERO };
        check_unusable_redis(&[("REDIS_URL", &url)], &reason, set_usable, hold).await;
    }
}

#[tokio::test]
async fn health_follows_every_node_of_a_cluster() {
    let mut cluster = Cluster::start(3);
    let url = cluster.url();
    let kind = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &url[..])];
    let follows = [("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true")];
    let service = Tollgate::start(RULES, &[&kind[..], &follows].concat());
    wait_for_health(&service, HEALTHY).await;
    let dead = format!("127.0.0.1:{}", cluster.primaries[1].client_port);
    cluster.primaries[1].kill();
    wait_for_health(&service, UNHEALTHY).await;
    let started_later = Tollgate::start(RULES, &kind);
    for service in [&service, &started_later] {
        let reports_node = async || ready_page(service).contains(&dead);
        eventually_async("the dead node on the page", reports_node).await;
    }
    cluster.primaries[1].restart();
    wait_for_health(&service, HEALTHY).await;
    wait_for_health(&started_later, HEALTHY).await;
}

/// The health check uses keys of its own, so missing rights for the keys of counters show
/// only at the first decision.
#[tokio::test]
async fn health_follows_rights_for_the_keys_of_counters() {
    let server = RedisServer::start();
    let url = format!("redis://counts:secret@{}", server.address());
    set_rights(&server, "resetkeys ~limits:* ~tollgate-probe-* +@all");
    let follows = ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true");
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url), follows]);
    wait_for_health(&service, HEALTHY).await;
    let mut client = grpc::connect(service.grpc).await;
    let request = request_for("shop", &[("user", "ann")]);
    let error = client.should_rate_limit(request.clone()).await.unwrap_err();
    assert!(error.message().contains("CACHE_KEY_PREFIX"), "{error}");
    wait_for_health(&service, UNHEALTHY).await;
    let page = ready_page(&service);
    assert!(page.contains("NOPERM") && page.contains("CACHE_KEY_PREFIX"), "{page}");
    set_rights(&server, "resetkeys ~limits:* ~tollgate-probe-* ~shop|* +@all");
    wait_for_health(&service, HEALTHY).await;
    grpc::decide(&mut client, request).await;
}
