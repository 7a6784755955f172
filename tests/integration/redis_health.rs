//! What the process says of itself while Redis does not answer, and when it
//! gives up.

use std::time::Duration;

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{SOON, eventually, grpc, http, redis::RedisServer, tollgate::Tollgate};

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
        assert_eq!(why, "the counter store does not answer\n");
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
    let expected = "no answer within REDIS_STARTUP_MAX_ELAPSED_TIME, 1s";
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
