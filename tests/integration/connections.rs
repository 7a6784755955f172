//! Clients that keep many connections, and those that they must not keep out.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use prost::Message;
use testkit::{
    grpc::request_for,
    http,
    raw_grpc::RawGrpc,
    tollgate::Tollgate,
    wait::{TIMEOUT, eventually},
};
use tokio::net::TcpSocket;
use tonic::Code;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
";

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// A gRPC connection from this address, or `None` if the server closes it.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> Option<RawGrpc> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    RawGrpc::over(socket.connect(to).await.unwrap()).await.ok()
}

async fn answers(client: &RawGrpc) -> bool {
    let message = request_for("shop", &[("user", "ann")]).encode_to_vec();
    client.try_call(&message).await.is_ok_and(|reply| reply.code == Code::Ok)
}

/// So many connections from this address on which a call was answered.
async fn hoard(from: Ipv4Addr, to: SocketAddr, connections: usize) -> Vec<RawGrpc> {
    let mut open = Vec::new();
    for _ in 0..connections {
        if let Some(client) = connect(from, to).await
            && answers(&client).await
        {
            open.push(client);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_all_connections() {
    let service = Tollgate::start(RULES, &[("MAX_CONNECTIONS", "20")]);
    let _hoard = hoard(FIRST, service.grpc, 30).await;
    let client = connect(OTHER, service.grpc).await.unwrap();
    assert!(answers(&client).await);
    let metrics = service.metrics();
    assert_eq!(metrics.value("tollgate_connections", &[("listener", "grpc")]), 11.0);
    let closed = metrics.value("tollgate_connections_closed_total", &[("reason", "peer")]);
    assert_eq!(closed, 20.0);
    service.wait_for_log("connections from 127.0.0.5");
    let log = service.log();
    assert_eq!(log.matches("MAX_CONNECTIONS_PER_PEER").count(), 1, "{log}");
    assert!(!log.contains("few places"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_addresses_cannot_keep_out_another() {
    let service = Tollgate::start(RULES, &[("MAX_CONNECTIONS", "20")]);
    let _hoards = [hoard(FIRST, service.grpc, 10).await, hoard(SECOND, service.grpc, 10).await];
    let client = connect(OTHER, service.grpc).await.unwrap();
    assert!(answers(&client).await);
    for text in ["few places for connections are left", "has all of its 20 connections"] {
        service.wait_for_log(text);
    }
    assert_eq!(service.log().matches("few places").count(), 1);
}

/// Sends a request on a connection with keep-alive.
fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<http::Reply> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")?;
    let mut reply = Vec::new();
    let mut byte = [0];
    loop {
        if stream.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        reply.push(byte[0]);
        if let Some(whole) = http::parse(&reply)
            && whole.header("content-length").unwrap() == whole.body.len().to_string()
        {
            return Ok(whole);
        }
    }
}

fn keep_alive(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

#[test]
fn idle_http_connections_do_not_keep_out_probes_and_metrics() {
    let settings = [("MAX_CONNECTIONS", "20"), ("MAX_CONNECTIONS_PER_PEER", "0")];
    let service = Tollgate::start(RULES, &settings);
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = keep_alive(service.http);
        if ask(&mut stream, "/healthcheck").is_ok() {
            idle.push(stream);
        }
    }
    assert!(10 < idle.len());
    // A probe is repeated.
    for path in ["/healthcheck", "/ready", "/metrics"] {
        eventually(path, || http::try_send(service.http, "GET", path, &[], b"").is_ok());
    }
}

#[test]
fn clients_with_keep_alive_lose_no_request_at_the_end() {
    let mut service = Tollgate::start(RULES, &[("DRAIN_DELAY", "3s")]);
    let (to, running) = (service.http, Arc::new(AtomicUsize::new(0)));
    let clients = [(); 8].map(|()| {
        let running = Arc::clone(&running);
        thread::spawn(move || {
            let mut stream = keep_alive(to);
            let mut calls = 0;
            loop {
                let reply =
                    ask(&mut stream, "/ready").map_err(|error| format!("call {calls}: {error}"))?;
                calls += 1;
                if reply.header("connection").is_some_and(|it| it == "close") {
                    return Ok::<_, String>(calls);
                }
                if calls == 10 {
                    running.fetch_add(1, Relaxed);
                }
            }
        })
    });
    eventually("all clients to make calls", || running.load(Relaxed) == clients.len());
    service.terminate();
    for client in clients {
        assert!(10 < client.join().unwrap().unwrap());
    }
    assert!(service.wait_for_exit().success());
}
