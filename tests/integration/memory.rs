//! The memory that a message can use: two bytes on the wire make an element of a hundred
//! bytes.

use std::{
    io::Write,
    iter,
    net::{SocketAddr, TcpStream},
};

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use futures_util::future::join_all;
use prost::Message;
use testkit::{
    grpc::{self, descriptor, request_for},
    raw_grpc::RawGrpc,
    tollgate::Tollgate,
    wait::eventually,
};
use tonic::Code as Status;

use crate::in_process::InProcess;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

const MIB: usize = 1 << 20;
/// The largest message, in bytes.
const LARGEST: usize = 4 * MIB;

/// The domain, and as many empty descriptors as fit.
fn descriptors() -> Vec<u8> {
    let domain = b"\x0a\x04shop";
    [domain, &[0x12, 0].repeat((LARGEST - domain.len()) / 2)[..]].concat()
}

/// The domain, and one descriptor with as many empty entries as fit.
fn entries() -> Vec<u8> {
    let mut message = b"\x0a\x04shop\x12".to_vec();
    let entries = [0x0a, 0].repeat((LARGEST - 12) / 2);
    prost::encode_length_delimiter(entries.len(), &mut message).unwrap();
    [message, entries].concat()
}

/// Sends `message` in `calls` concurrent calls. Returns the growth of the peak memory in
/// MiB, and the status of the calls.
async fn cost(message: &[u8], calls: usize) -> (usize, Status) {
    let service = Tollgate::start(
        RULES,
        &[("MAX_BYTES_IN_FLIGHT", "1073741824"), ("GRPC_TRANSFER_TIMEOUT", "10m")],
    );
    let before = service.peak_memory();
    let clients = join_all(iter::repeat_with(|| RawGrpc::connect(service.grpc)).take(calls)).await;
    let answers = join_all(clients.iter().map(|it| it.call(message))).await;
    let cost = (service.peak_memory() - before) / MIB;
    println!("{calls} calls of {} bytes: {cost} MiB", message.len());
    assert!(answers.iter().all(|it| it.code == answers[0].code));
    (cost, answers[0].code)
}

#[tokio::test]
async fn many_small_elements_cost_no_more_than_the_message() {
    for message in [descriptors(), entries()] {
        let (cost_of_one, status) = cost(&message, 1).await;
        assert_eq!(status, Status::InvalidArgument);
        assert!(cost_of_one < 32, "{cost_of_one} MiB");
        let (cost_of_all, _) = cost(&message, 32).await;
        assert!(cost_of_all < 32 * 10, "{cost_of_all} MiB");
    }
}

#[tokio::test]
async fn the_maximum_number_of_elements_is_accepted() {
    let service = Tollgate::start(RULES, &[("MAX_DESCRIPTORS", "1000")]);
    let raw = RawGrpc::connect(service.grpc).await;
    let mut request = request_for("shop", &[]);
    request.descriptors = vec![descriptor(&[("", ""); 100]); 1000];
    let before = service.peak_memory();
    let reply: RateLimitResponse = raw.call(request.encode_to_vec()).await.decode();
    assert_eq!(reply.statuses.len(), 1000);
    let cost = (service.peak_memory() - before) / MIB;
    assert!(cost < 64, "{cost} MiB");

    let mut client = grpc::connect(service.grpc).await;
    request.descriptors.push(descriptor(&[]));
    let error = client.should_rate_limit(request).await.unwrap_err();
    let reason = "rate limit descriptor list has 1001 elements, expected at most 1000, as \
                  MAX_DESCRIPTORS allows; it can be set to 1000 at most";
    assert_eq!((error.code(), error.message()), (Status::InvalidArgument, reason));
    assert!(service.log().contains(&format!("a request was invalid: {reason}")));
    let request = request_for("shop", &[("", ""); 101]);
    let error = client.should_rate_limit(request).await.unwrap_err();
    let reason = "descriptors[0].entries has 101 elements, expected at most 100";
    assert_eq!((error.code(), error.message()), (Status::InvalidArgument, reason));
}

#[tokio::test(start_paused = true)]
async fn the_maximum_number_of_descriptors_follows_the_setting() {
    for (set, most) in [(&[][..], 100), (&[("MAX_DESCRIPTORS", "7")], 7)] {
        let service = InProcess::start(RULES, set).await;
        let mut client = service.grpc().await;
        let reason = format!(
            "rate limit descriptor list has {} elements, expected at most {most}, as \
             MAX_DESCRIPTORS allows; it can be set to 1000 at most",
            most + 1
        );
        let mut request = request_for("shop", &[]);
        request.descriptors = vec![descriptor(&[("path", "/")]); most];
        let reply = client.should_rate_limit(request.clone()).await.unwrap().into_inner();
        assert_eq!(reply.statuses.len(), most);
        request.descriptors.push(descriptor(&[("user", "ann")]));
        let error = client.should_rate_limit(request).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Status::InvalidArgument, &*reason));

        let reply = service.post_json(&json_for_ann(most + 1)).await;
        assert_eq!((reply.status, reply.text()), (400, format!("Bad Request: {reason}\n")));
        let reply = service.post_json(&json_for_ann(most)).await;
        assert_eq!(reply.status, 200);
        // The refused request was not counted.
        assert_eq!(reply.text().matches(r#""limitRemaining":3"#).count(), most);
    }
}

/// A request without hits that has the same descriptor `count` times.
fn json_for_ann(count: usize) -> String {
    let descriptor = r#"{"entries":[{"key":"user","value":"ann"}],"hitsAddend":0}"#;
    let descriptors = vec![descriptor; count].join(",");
    format!(r#"{{"domain":"shop","descriptors":[{descriptors}]}}"#)
}

#[test]
fn many_small_elements_of_json_cost_no_more_than_the_message() {
    let service = Tollgate::start(RULES, &[("JSON_MAX_BYTES", &LARGEST.to_string())]);
    let before = service.peak_memory();
    let elements = "{},".repeat(LARGEST / 3 - 20) + "{}";
    for (list, most) in [
        (format!(r#""descriptors":[{elements}]"#), 1000),
        (format!(r#""descriptors":[{{"entries":[{elements}]}}]"#), 100),
    ] {
        let body = format!(r#"{{"domain":"shop",{list}}}"#);
        let reply = service.post_json(&body);
        assert_eq!(reply.status, 400);
        let reason = format!("expected a list of at most {most} elements");
        assert!(reply.text().contains(&reason), "{}", reply.text());
    }
    // Most of it is the buffers in which the bodies arrive.
    let cost = (service.peak_memory() - before) / MIB;
    println!("JSON of {LARGEST} bytes, twice: {cost} MiB");
    assert!(cost < 64, "{cost} MiB");
}

/// So many connections that each send this.
fn send_on_each(to: SocketAddr, bytes: &[u8], connections: u32) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(bytes).unwrap();
        open.push(stream);
    }
    open
}

/// A gRPC connection with so many calls at the same time, which have an answer each.
fn whole_calls(calls: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // POST, http, and a literal `:path`, not to be kept.
    let path = b"/grpc.health.v1.Health/Check";
    let block = [&[0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()], &path[..]].concat();
    let length = u8::try_from(block.len()).unwrap();
    for call in 0..calls {
        let stream = (2 * call + 1).to_be_bytes();
        bytes.extend([&[0, 0, length, 1, 4], &stream[..], &block].concat());
    }
    for call in 0..calls {
        let stream = (2 * call + 1).to_be_bytes();
        bytes.extend([&[0, 0, 5, 0, 1], &stream[..], &[0; 5]].concat());
    }
    bytes
}

/// The figure of docs/security.md, which `k8s/tollgate.yaml` relies on: the memory of a
/// connection that does not count in `MAX_BYTES_IN_FLIGHT`.
#[test]
fn an_idle_connection_takes_80_kib_at_most() {
    const CONNECTIONS: u32 = 400;
    let request = format!("GET /ready HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(8_000));
    for (listener, bytes) in [("http", request.into_bytes()), ("grpc", whole_calls(10))] {
        // A fourth of them may be unfinished handshakes.
        let settings = [("MAX_CONNECTIONS", "4000"), ("MAX_CONNECTIONS_PER_PEER", "0")];
        let service = Tollgate::start(RULES, &settings);
        let before = service.peak_memory();
        let to = if listener == "grpc" { service.grpc } else { service.http };
        let _open = send_on_each(to, &bytes, CONNECTIONS);
        eventually("connections", || {
            let open = service.metrics().value("tollgate_connections", &[("listener", listener)]);
            f64::from(CONNECTIONS) <= open
        });
        let cost = (service.peak_memory() - before) / CONNECTIONS as usize;
        println!("{listener}: {cost} bytes for each connection");
        assert!(cost < 80 << 10, "{listener}: {cost} bytes");
    }
}
