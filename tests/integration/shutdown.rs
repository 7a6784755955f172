//! Start and shutdown of the process.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
};

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use prost::Message;
use testkit::{
    grpc::{self, request_for},
    http,
    network::unused_address,
    raw_grpc::{RawGrpc, frame},
    tollgate::Tollgate,
    unique_value,
    wait::{TIMEOUT, eventually},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

#[test]
fn a_port_in_use_is_an_error() {
    let taken = TcpListener::bind(unused_address()).unwrap();
    let address = taken.local_addr().unwrap();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    for prefix in ["GRPC_", "", "DEBUG_"] {
        let settings = [(&*format!("{prefix}HOST"), &*host), (&*format!("{prefix}PORT"), &*port)];
        let mut process = Tollgate::launch(RULES, &settings);
        assert!(!process.wait_for_exit().success(), "{prefix}PORT");
        assert!(process.log().contains(&port), "{prefix}PORT: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_checks_fail_before_listeners_close() {
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
    // Clients that have not noticed it are still served, on new connections as well.
    client.should_rate_limit(request_for("shop", &[("user", &unique_value())])).await.unwrap();
    let mut client = grpc::connect(service.grpc).await;
    client.should_rate_limit(request_for("shop", &[("user", &unique_value())])).await.unwrap();
    assert!(service.wait_for_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_in_flight_is_answered_during_shutdown() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "20s")]);
    let raw = RawGrpc::connect(service.grpc).await;
    let done = request_for("shop", &[("user", &unique_value())]).encode_to_vec();
    raw.call(&done).await.decode::<RateLimitResponse>();
    let call = raw.open_call().await;
    // The reply to a later call shows that the earlier one has arrived.
    raw.call(&done).await.decode::<RateLimitResponse>();

    service.terminate();
    eventually("the listener to close", || TcpStream::connect(service.grpc).is_err());
    let reply: RateLimitResponse = call.finish(frame(&done)).await.decode();
    assert_eq!(reply.statuses[0].limit_remaining, 0);
    drop(raw);
    assert!(service.wait_for_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn open_connections_do_not_delay_the_exit_beyond_the_drain_timeout() {
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
    let raw = RawGrpc::connect(service.grpc).await;
    let _unfinished = raw.open_call().await;
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();

    service.terminate();
    service.wait_for_exit();
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endless_call_does_not_keep_an_old_connection() {
    let settings = [("GRPC_MAX_CONNECTION_AGE", "1s"), ("GRPC_MAX_CONNECTION_AGE_GRACE", "10ms")];
    let service = Tollgate::start(RULES, &settings);
    let mut health = HealthClient::new(grpc::channel(service.grpc).await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    tokio::time::timeout(TIMEOUT, watch.message()).await.unwrap().unwrap_err();
}

#[test]
fn a_second_sigterm_is_harmless() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "0s")]);
    service.terminate();
    service.stop();
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}
