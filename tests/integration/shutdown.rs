//! Start and shutdown of the process.

use std::{net::TcpListener, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_service_client::RateLimitServiceClient,
};
use futures_util::{FutureExt, future::poll_immediate, stream::pending};
use prost::Message;
use testkit::{
    grpc::{channel, decide, request_for},
    network::unused_address,
    process::Process,
    raw_grpc::frame,
    redis::RedisServer,
    tollgate::Tollgate,
    wait::{eventually, eventually_async, holds_for},
};
use tokio::{io::AsyncWriteExt, time::Instant};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::in_process::{InProcess, pass};

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
        let expected = format!(" on {address}, as {prefix}HOST and {prefix}PORT has it: ");
        assert!(process.log().contains(&expected), "{prefix}PORT: {}", process.log());
    }
}

#[test]
fn a_failed_start_is_one_line_of_json() {
    let mistaken = "domain: shop\ndescriptors: [{kye: a}, {kye: b}]";
    for (rules, ratio, expected, times) in [
        (mistaken, "0.8", "the key `kye` is unknown", 2),
        (RULES, "much", "\n  NEAR_LIMIT_RATIO=\"much\": expected", 1),
    ] {
        let settings = [("LOG_FORMAT", "json"), ("NEAR_LIMIT_RATIO", ratio)];
        let mut process = Tollgate::launch(rules, &settings);
        assert_eq!(process.wait_for_exit().code(), Some(2));
        let log = process.log();
        let mut last = serde_json::Value::Null;
        for line in log.lines() {
            last = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        assert_eq!(last["level"], "error", "{log}");
        let message = last["@message"].as_str().unwrap();
        assert_eq!(message.matches(expected).count(), times, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn health_checks_fail_before_listeners_close() {
    let service = InProcess::start(RULES, &[("DRAIN_DELAY", "2s")]).await;
    let mut health = HealthClient::new(service.channel().await);
    let mut client = service.grpc().await;
    for name in ["", "ratelimit"] {
        let mut watch = health.watch(asking(name)).await.unwrap().into_inner();
        let status = watch.message().await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::Serving, "{name:?}");
    }
    let unknown = health.check(asking("nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(service.get("/healthcheck").await.status, 200);

    let mut watch = health.watch(asking("ratelimit")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let signal = Instant::now();
    service.remote.terminate();
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    assert_eq!(service.get("/healthcheck").await.status, 500);
    // Clients that have not noticed it are still served, on new connections as well, until
    // the end of the delay.
    pass(Duration::from_millis(1_999)).await;
    decide(&mut client, request_for("shop", &[("user", "ann")])).await;
    let mut client = service.grpc().await;
    decide(&mut client, request_for("shop", &[("user", "ann")])).await;
    drop((client, health, watch));
    service.ended().await;
    assert_eq!(signal.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_answered_during_shutdown() {
    let settings = [("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "20s")];
    let service = InProcess::start(RULES, &settings).await;
    let raw = service.raw_grpc().await;
    let done = request_for("shop", &[("user", "ann")]).encode_to_vec();
    raw.call(&done).await.decode::<RateLimitResponse>();
    let call = raw.open_call().await;
    // The reply to a later call shows that the earlier one has arrived.
    raw.call(&done).await.decode::<RateLimitResponse>();

    let signal = Instant::now();
    service.remote.terminate();
    eventually_async("the listener to close", async || {
        service.dialers.grpc.connect().await.is_err()
    })
    .await;
    pass(Duration::from_millis(500)).await;
    let reply: RateLimitResponse = call.finish(frame(&done)).await.decode();
    assert_eq!(reply.statuses[0].limit_remaining, 0);
    drop(raw);
    service.ended().await;
    assert!(signal.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_finish_delay_the_exit_by_a_second() {
    let settings = [("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "20s")];
    let service = InProcess::start(RULES, &settings).await;
    let mut open = Vec::new();
    for listener in [&service.dialers.grpc, &service.dialers.http, &service.dialers.debug] {
        let beginnings = [
            "",
            "PRI * HTTP/2.0\r\n",
            "GET / HTTP/1.1\r\nhost:",
            "POST /json HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
        ];
        for beginning in beginnings {
            let mut stream = listener.connect().await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            open.push(stream);
        }
    }
    let raw = service.raw_grpc().await;
    let _unfinished = raw.open_call().await;
    let mut health = HealthClient::new(service.channel().await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let mut reflection = ServerReflectionClient::new(service.channel().await);
    let _endless = reflection.server_reflection_info(pending()).await.unwrap();

    let signal = Instant::now();
    service.remote.terminate();
    service.ended().await;
    assert_eq!(signal.elapsed(), Duration::from_secs(1));
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_waited_for_longer_than_a_second() {
    let redis = RedisServer::start();
    let settings = [("REDIS_URL", &*redis.url()), ("DRAIN_DELAY", "0s"), ("STORE_DEADLINE", "10s")];
    let mut service = Tollgate::start_ready(RULES, &settings);
    let channel = channel(service.grpc).await;
    let mut client = RateLimitServiceClient::new(channel.clone());
    decide(&mut client, request_for("shop", &[("user", "ann")])).await;
    redis.suspend();
    let mut call = client.should_rate_limit(request_for("shop", &[("user", "ann")])).boxed();
    assert!(poll_immediate(&mut call).await.is_none());
    // The service reads a connection in order, so it has the call before this one.
    HealthClient::new(channel).check(asking("")).await.unwrap();
    service.terminate();
    let time = Duration::from_secs(2);
    holds_for(time, "no answer", async || poll_immediate(&mut call).await.is_none()).await;
    redis.resume();
    let answer = call.await.unwrap().into_inner();
    assert_eq!(answer.statuses[0].limit_remaining, 1);
    drop(client);
    assert!(service.wait_for_exit().success());
}

#[tokio::test(start_paused = true)]
async fn an_endless_call_does_not_keep_an_old_connection() {
    let settings = [("GRPC_MAX_CONNECTION_AGE", "1s"), ("GRPC_MAX_CONNECTION_AGE_GRACE", "10ms")];
    let service = InProcess::start(RULES, &settings).await;
    let begin = Instant::now();
    let mut health = HealthClient::new(service.channel().await);
    let mut watch = health.watch(asking("")).await.unwrap().into_inner();
    watch.message().await.unwrap();
    watch.message().await.unwrap_err();
    // The age varies by a tenth.
    let age = begin.elapsed().as_millis();
    assert!((910..=1_112).contains(&age), "{age} ms");
}

/// As many rules as take much longer to load than a signal takes to arrive.
fn many_rules() -> String {
    let mut rules = "domain: shop\ndescriptors:\n".to_owned();
    for number in 0..40_000 {
        rules += &format!(
            "- {{ key: k, value: v{number}, rate_limit: {{ unit: hour, requests_per_unit: 3 }} }}\n"
        );
    }
    rules
}

/// Starts the binary and waits until it loads rules.
fn launch_loading() -> Process {
    let process = Tollgate::launch(&many_rules(), &[("DRAIN_DELAY", "0s")]);
    eventually("the load", || process.log().contains("counters are kept in memory"));
    process
}

#[test]
fn sigterm_ends_the_start_with_success() {
    let mut process = launch_loading();
    process.send_signal("TERM");
    assert!(process.wait_for_exit().success());
    assert!(!process.log().contains("listening"), "{}", process.log());
}

#[test]
fn sighup_does_not_end_the_start() {
    let mut process = launch_loading();
    process.send_signal("HUP");
    eventually("the ports to open", || process.log().contains("listening"));
    process.send_signal("TERM");
    assert!(process.wait_for_exit().success());
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_limit() {
    let process = Tollgate::launch_with_open_files("-Sn 64", RULES, &[]);
    eventually("the service", || process.log().contains("listening"));
    let limits = process.proc_file("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let columns: Vec<_> = line["Max open files".len()..].split_whitespace().collect();
    assert_ne!(columns[0], "64");
    assert_eq!(columns[0], columns[1]);
}

#[test]
fn a_limit_of_open_files_below_max_connections_is_reported() {
    let settings = [("MAX_CONNECTIONS", "100")];
    let process = Tollgate::launch_with_open_files("-n 256", RULES, &settings);
    eventually("the service", || process.log().contains("listening"));
    let log = process.log();
    assert!(log.contains("\"allowed\":256") && log.contains("MAX_CONNECTIONS=100"), "{log}");
    let process = Tollgate::launch_with_open_files("-n 2000", RULES, &settings);
    eventually("the service", || process.log().contains("listening"));
    assert!(!process.log().contains("the limit of open files (`ulimit"), "{}", process.log());
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
