//! How the process starts, and how it ends.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use prost::Message;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    SOON, eventually, fresh,
    grpc::{self, ask},
    http,
    raw::{self, Raw, frame},
    tollgate::Tollgate,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

#[test]
fn a_port_in_use_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for setting in ["GRPC_PORT", "PORT", "DEBUG_PORT"] {
        let (_files, mut process) = Tollgate::launch(RULES, &[(setting, &port)]);
        assert!(!process.ended(Duration::from_secs(10)).success(), "{setting}");
        assert!(process.log().contains(&port), "{setting}: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_says_goodbye_before_the_listeners_do() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "2s")]);
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    let mut client = grpc::connect(service.grpc).await;
    for name in ["", "ratelimit"] {
        let mut watch = health.watch(asking(name)).await.unwrap().into_inner();
        let status = watch.message().await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::Serving, "{name:?}");
    }
    let unknown = health.check(asking("nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 200);

    let mut watch = health.watch(asking("ratelimit")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    service.terminate();
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    assert_ne!(http::get(service.http, "/healthcheck", &[]).status, 200);
    // Whoever has not noticed yet is still served, on new connections too.
    client.should_rate_limit(ask("shop", &[("user", &fresh())])).await.unwrap();
    let mut client = grpc::connect(service.grpc).await;
    client.should_rate_limit(ask("shop", &[("user", &fresh())])).await.unwrap();
    assert!(service.ended(Duration::from_secs(10)).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_in_flight_is_answered() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "20s")]);
    let raw = Raw::connect(service.grpc).await;
    let done = ask("shop", &[("user", &fresh())]).encode_to_vec();
    raw::decode::<RateLimitResponse>(&raw.ask(&done).await);
    let call = raw.begin().await;
    // The answer to a later call shows that the earlier one has arrived.
    raw::decode::<RateLimitResponse>(&raw.ask(&done).await);

    service.terminate();
    eventually("the listener to close", || TcpStream::connect(service.grpc).is_err().then_some(()));
    let reply: RateLimitResponse = raw::decode(&call.finish(frame(&done)).await);
    assert_eq!(reply.statuses[0].limit_remaining, 0);
    drop(raw);
    assert!(service.ended(Duration::from_secs(10)).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_can_hold_the_exit_beyond_the_deadline() {
    let settings = [("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "1s")];
    let mut service = Tollgate::start(RULES, &settings);
    let mut open = Vec::new();
    for listener in [service.grpc, service.http, service.debug] {
        for beginning in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost:"] {
            let mut stream = TcpStream::connect(listener).unwrap();
            stream.write_all(beginning.as_bytes()).unwrap();
            open.push(stream);
        }
    }
    let raw = Raw::connect(service.grpc).await;
    let _unfinished = raw.begin().await;
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();

    service.terminate();
    service.ended(Duration::from_secs(5));
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_without_an_end_cannot_hold_an_old_connection() {
    let settings = [("GRPC_MAX_CONNECTION_AGE", "1s"), ("GRPC_MAX_CONNECTION_AGE_GRACE", "10ms")];
    let service = Tollgate::start(RULES, &settings);
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    tokio::time::timeout(SOON, watch.message()).await.unwrap().unwrap_err();
}

#[test]
fn a_second_sigterm_is_not_needed_and_not_harmful() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "0s")]);
    service.terminate();
    service.terminate();
    assert!(service.ended(Duration::from_secs(10)).success());
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}
