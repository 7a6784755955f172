//! What the process says of itself while Redis does not answer, and when it
//! gives up.

use std::time::Duration;

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    cluster_servers::Cluster,
    support::{
        SOON, eventually,
        grpc::{self, ask},
        http,
        redis::RedisServer,
        tollgate::Tollgate,
    },
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 100 }
- key: fast
  rate_limit: { unit: second, requests_per_unit: 100 }
";

/// What HTTP and gRPC say, as one word each.
async fn said(service: &Tollgate) -> [String; 4] {
    let page = |path| http::get(service.http, path, &[]).status.to_string();
    let mut client = HealthClient::new(grpc::channel(service.grpc).await);
    let mut asked = Vec::new();
    for service in ["", "ratelimit"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
        asked.push(format!("{:?}", answer.unwrap().into_inner().status()));
    }
    [page("/ready"), page("/healthcheck"), asked.remove(0), asked.remove(0)]
}

async fn comes_to_say(service: &Tollgate, healthy: bool) {
    let serving = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    let pages = if healthy { ["200", "200"] } else { ["503", "500"] };
    let serving = format!("{serving:?}");
    let expected = [pages[0], pages[1], &serving, &serving].map(str::to_owned);
    let begin = std::time::Instant::now();
    loop {
        let found = said(service).await;
        if found == expected {
            return;
        }
        assert!(begin.elapsed() < SOON, "{found:?}, expected {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn health_follows_every_redis_if_told_to() {
    let (mut main, mut second) = (RedisServer::start(), RedisServer::start());
    let urls = [main.url(), second.url()];
    let service = Tollgate::start(
        RULES,
        &[
            ("REDIS_URL", &urls[0]),
            ("REDIS_PERSECOND", "true"),
            ("REDIS_PERSECOND_URL", &urls[1]),
            ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true"),
            ("REDIS_TIMEOUT", "2s"),
            ("REDIS_PERSECOND_TIMEOUT", "2s"),
        ],
    );
    comes_to_say(&service, true).await;
    for server in [&mut main, &mut second] {
        server.stop();
        comes_to_say(&service, false).await;
        let why = http::get(service.http, "/ready", &[]).text();
        assert!(why.starts_with("the counter store does not decide: cannot connect to"), "{why}");
        server.start_again();
        comes_to_say(&service, true).await;
    }
    main.freeze();
    comes_to_say(&service, false).await;
    main.thaw();
    comes_to_say(&service, true).await;
}

#[tokio::test]
async fn health_does_not_follow_redis_by_itself() {
    let mut server = RedisServer::start();
    let url = server.url();
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url)]);
    comes_to_say(&service, true).await;
    server.stop();
    let lost = || service.log().contains("is lost").then_some(());
    eventually("the loss of the connection", lost);
    // Longer than the store is left unasked where health follows it.
    tokio::time::sleep(Duration::from_millis(600)).await;
    comes_to_say(&service, true).await;
}

/// A process that ends because nothing has answered at `url`; its log.
fn gives_up(url: &str, settings: &[(&str, &str)]) -> String {
    let always = [("REDIS_URL", url), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1s")];
    let (_files, mut process) = Tollgate::launch(RULES, &[&always[..], settings].concat());
    assert!(process.ended(SOON).code().is_some_and(|it| it != 0), "{}", process.log());
    process.log()
}

#[test]
fn the_process_ends_if_redis_does_not_come_in_time() {
    let mut server = RedisServer::start();
    let expected = "has not decided within REDIS_STARTUP_MAX_ELAPSED_TIME, 1s";
    // A silent one is waited for no longer than a dead one.
    server.freeze();
    let log = gives_up(&server.url(), &[("REDIS_TIMEOUT", "10m")]);
    assert!(log.contains(expected), "{log}");
    server.thaw();
    let url = server.url();
    let port = server.port().to_string();
    server.stop();
    let log = gives_up(&url, &[]);
    let why = format!("cannot connect to 127.0.0.1:{port}");
    assert!(log.contains(expected) && log.contains(&why), "{log}");
    // One that is well does not make up for the other.
    let second = RedisServer::start();
    let second = [("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &second.url())];
    let log = gives_up(&url, &second);
    assert!(log.contains(expected) && log.contains(&why), "{log}");
}

#[test]
fn the_process_goes_on_if_redis_came_in_time() {
    let mut server = RedisServer::start();
    server.stop();
    let (url, most) = (server.url(), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "10s"));
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url), most]);
    assert_eq!(http::get(service.http, "/ready", &[]).status, 503);
    server.start_again();
    eventually("readiness", || {
        (http::get(service.http, "/ready", &[]).status == 200).then_some(())
    });

    let server = RedisServer::start();
    let (url, most) = (server.url(), ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1s"));
    let mut service = Tollgate::start(RULES, &[("REDIS_URL", &url), most]);
    eventually("readiness", || {
        (http::get(service.http, "/ready", &[]).status == 200).then_some(())
    });
    // From then on it may go away.
    drop(server);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(http::get(service.http, "/ready", &[]).status, 200);
    service.terminate();
    assert!(service.ended(SOON).success());
}

/// The page says this, and health no, whether it follows Redis or not; then all is well
/// once `mend` has been called.
async fn is_not_ready(settings: &[(&str, &str)], why: &str, mend: impl Fn(bool)) {
    for follows in ["false", "true"] {
        mend(false);
        let more = [("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", follows)];
        let service = Tollgate::start(RULES, &[settings, &more].concat());
        let page = || http::get(service.http, "/ready", &[]).text();
        eventually(why, || page().contains(why).then_some(()));
        for _ in 0..20 {
            assert_eq!(http::get(service.http, "/ready", &[]).status, 503);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        comes_to_say(&service, false).await;
        mend(true);
        comes_to_say(&service, true).await;
        mend(false);
        if follows == "true" {
            comes_to_say(&service, false).await;
            assert!(page().contains(why), "{}", page());
        } else {
            tokio::time::sleep(Duration::from_millis(600)).await;
            comes_to_say(&service, true).await;
        }
    }
}

#[tokio::test]
async fn a_replica_is_not_ready() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    let url = replica.url();
    let port = master.port().to_string();
    let follow = |promoted: bool| {
        let of = if promoted { ["NO", "ONE"] } else { ["127.0.0.1", &port] };
        redis::cmd("REPLICAOF").arg(&of).exec(&mut replica.client()).unwrap();
    };
    is_not_ready(&[("REDIS_URL", &url)], "READONLY", follow).await;
}

#[tokio::test]
async fn without_a_right_that_any_decision_needs_nobody_is_ready() {
    let server = RedisServer::start();
    let url = format!("redis://counts:secret@127.0.0.1:{}", server.port());
    let may = |rights: String| {
        let words = format!("SETUSER counts on >secret ~* {rights}");
        redis::cmd("ACL").arg(words.split(' ').collect::<Vec<_>>()).exec(&mut server.client())
    };
    let needed = [
        "eval", "evalsha", "get", "set", "del", "decrby", "incrby", "pexpire", "pttl", "getrange",
        "setrange", "strlen",
    ];
    let rights = format!("+{} +ping", needed.join(" +"));
    for right in needed {
        let allow = |all: bool| {
            let less = if all { String::new() } else { format!(" -{right}") };
            may(format!("-@all {rights}{less}")).unwrap();
        };
        // Of what a script may not do, Redis 7 does not say NOPERM.
        let why = match right {
            "eval" | "evalsha" => "NOPERM".to_owned(),
            right => format!("can't run this command or subcommand ({})", right.to_uppercase()),
        };
        is_not_ready(&[("REDIS_URL", &url)], &why, allow).await;
    }
}

#[tokio::test]
async fn every_node_of_a_cluster_has_to_decide() {
    let mut cluster = Cluster::start(3, false);
    let url = cluster.url();
    let kind = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &url[..])];
    let follows = [("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true")];
    let service = Tollgate::start(RULES, &[&kind[..], &follows].concat());
    comes_to_say(&service, true).await;
    let gone = format!("127.0.0.1:{}", cluster.primaries[1].service);
    cluster.primaries[1].kill();
    comes_to_say(&service, false).await;
    let later = Tollgate::start(RULES, &kind);
    for service in [&service, &later] {
        let page = || http::get(service.http, "/ready", &[]).text();
        eventually("the node that is dead", || page().contains(&gone).then_some(()));
    }
    cluster.primaries[1].start_again();
    comes_to_say(&service, true).await;
    comes_to_say(&later, true).await;
}

/// That shows only once a counter is asked for: names of keys begin as the operator says.
#[tokio::test]
async fn whoever_may_not_use_the_counters_is_not_ready() {
    let server = RedisServer::start();
    let url = format!("redis://counts:secret@127.0.0.1:{}", server.port());
    let may = |keys: &str| {
        let words = format!("SETUSER counts on >secret resetkeys {keys} -@all +@all");
        redis::cmd("ACL").arg(words.split(' ').collect::<Vec<_>>()).exec(&mut server.client())
    };
    may("~limits:* ~tollgate-probe-*").unwrap();
    let follows = ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true");
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url), follows]);
    comes_to_say(&service, true).await;
    let mut client = grpc::connect(service.grpc).await;
    let mut call = async || client.should_rate_limit(ask("shop", &[("user", "ann")])).await;
    let error = call().await.unwrap_err();
    assert!(error.message().contains("CACHE_KEY_PREFIX"), "{error}");
    comes_to_say(&service, false).await;
    let page = http::get(service.http, "/ready", &[]).text();
    assert!(page.contains("NOPERM") && page.contains("CACHE_KEY_PREFIX"), "{page}");
    may("~limits:* ~tollgate-probe-* ~shop|*").unwrap();
    comes_to_say(&service, true).await;
    call().await.unwrap();
}
