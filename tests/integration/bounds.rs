//! Peers that leave calls unfinished, to fill the memory.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use testkit::{
    grpc::{self, request_for},
    http,
    raw_grpc::{self, OpenCall, RawGrpc},
    tollgate::Tollgate,
    wait::{TIMEOUT, eventually_async, holds_for},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split},
    net::TcpSocket,
    task::{JoinSet, spawn_blocking},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tonic::Code;

use crate::in_process::InProcess;

mod attacker;
mod buffers;

use self::attacker::Attacker;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
";

const MIB: usize = 1 << 20;

/// The most memory that an attack may cost.
const MOST: usize = 64 * MIB;

/// How long each attack is watched: calls are reset after 10 s, so they are all open.
const WATCHED: Duration = Duration::from_secs(5);

fn message() -> Vec<u8> {
    raw_grpc::frame(&request_for("shop", &[("user", "ann")]).encode_to_vec())
}

/// Ticks every so many milliseconds, and no faster after a delay.
fn every(millis: u64) -> Interval {
    let mut ticks = interval(Duration::from_millis(millis));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Callers that behave well, over gRPC and HTTP, on connections of their own.
struct Beside {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Beside {
    async fn start(service: &Tollgate) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        let client = grpc::connect(service.grpc).await;
        for _ in 0..8 {
            let (mut client, stop, calls) = (client.clone(), Arc::clone(&stop), Arc::clone(&calls));
            callers.spawn(async move {
                let mut errors = Vec::new();
                let mut pace = every(20);
                while !stop.load(Relaxed) {
                    pace.tick().await;
                    let request = request_for("shop", &[("user", "beside")]);
                    if let Err(error) = client.should_rate_limit(request).await {
                        errors.push(error.to_string());
                    }
                    calls.fetch_add(1, Relaxed);
                }
                errors
            });
        }
        let (to, ended) = (service.http, Arc::clone(&stop));
        callers.spawn(async move {
            let mut errors = Vec::new();
            let mut pace = every(50);
            while !ended.load(Relaxed) {
                pace.tick().await;
                let call = spawn_blocking(move || {
                    let body = http::json_request("shop", &[("user", "beside")]);
                    http::try_send(to, "POST", "/json", &[], body.as_bytes())
                });
                match call.await.unwrap() {
                    Ok(reply) if reply.status == 200 => {}
                    Ok(reply) => errors.push(reply.text()),
                    Err(error) => errors.push(error.to_string()),
                }
            }
            errors
        });
        Self { stop, calls, callers }
    }

    /// Waits until each caller has made some more calls.
    async fn more_calls(&self) {
        let enough = self.calls.load(Relaxed) + 100;
        eventually_async("more calls", async || self.calls.load(Relaxed) >= enough).await;
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.callers.join_all().await.concat()
    }
}

/// Starts the attack and watches it: the memory stays bounded, and a client beside sees no
/// error. The attack lasts until its value is dropped.
async fn withstands<T>(name: &str, attack: impl AsyncFnOnce(&Tollgate) -> T) {
    let service = Tollgate::start_ready(RULES, &[]);
    let beside = Beside::start(&service).await;
    beside.more_calls().await;
    let idle = service.resident_memory();
    let begin = Instant::now();
    let attack = attack(&service).await;
    let rest = WATCHED.saturating_sub(begin.elapsed());
    holds_for(rest, "bounded memory", async || service.resident_memory() <= idle + MOST).await;
    beside.more_calls().await;
    let cost = service.peak_memory().saturating_sub(idle);
    drop(attack);
    let errors = beside.stop().await;
    println!("{name}: {} KiB; {:?}", cost >> 10, cut_off(&service));
    assert!(errors.is_empty(), "{name}: {errors:?}");
    assert!(cost <= MOST, "{name}: {} MiB", cost / MIB);
    let log = service.log();
    assert!(!log.contains("panicked") && log.lines().count() < 40, "{log}");
}

/// The calls that were ended because of their client, by reason.
fn cut_off(service: &Tollgate) -> Vec<(&'static str, f64)> {
    let metrics = service.metrics();
    let reasons =
        ["late_message", "answer_not_taken", "too_many_streams", "no_room", "connection_closed"];
    let count = |reason| metrics.value("tollgate_calls_cut_off_total", &[("reason", reason)]);
    reasons.map(|reason| (reason, count(reason))).to_vec()
}

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_message_are_bounded() {
    // 256 calls are allowed on a connection.
    for (connections, calls) in [(10, 1024), (36, 1024), (144, 256)] {
        withstands(&format!("headers only, {connections} x {calls}"), async |service| {
            Attacker::all(service.grpc, connections, 65_535, |attacker| {
                attacker.calls(calls, CALL, None)
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_calls_without_a_message_are_bounded() {
    withstands("400 headers, 40 x 256", async |service| {
        Attacker::all(service.grpc, 40, 65_535, |attacker| {
            attacker.calls_with_headers(256, CALL, 400)
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_bounded() {
    for (window, connections, calls) in [(0, 10, 1024), (0, 40, 256), (1, 40, 256)] {
        let name = format!("window of {window}, {connections} x {calls}");
        withstands(&name, async |service| {
            Attacker::all(service.grpc, connections, window, |attacker| {
                attacker.calls(calls, CALL, Some(&message()))
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_watches_are_bounded() {
    // A watch of the whole process: an empty message.
    let watch = raw_grpc::frame(&[]);
    withstands("watches, 40 x 256", async |service| {
        Attacker::all(service.grpc, 40, 65_535, |attacker| attacker.calls(256, WATCH, Some(&watch)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_calls_on_many_connections_take_no_room_from_whole_ones() {
    let settings = [("MAX_BYTES_IN_FLIGHT", "1048576"), ("GRPC_TRANSFER_TIMEOUT", "10m")];
    let service = Tollgate::start(RULES, &settings);
    // The address of the client has unfinished calls, too.
    let neighbour = RawGrpc::connect(service.grpc).await;
    let mut hoard = vec![neighbour.open_call().await];
    let client = RawGrpc::connect(service.grpc).await;
    for _ in 0..250 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 5), 0).into()).unwrap();
        let stream = socket.connect(service.grpc).await.unwrap();
        let Ok(connection) = RawGrpc::over(stream).await else { continue };
        hoard.extend(connection.try_open_call().await);
        // Whole calls, though the connection may have been closed for others meanwhile.
        let _ = connection.try_call(&message()[5..]).await;
        assert_eq!(client.call(&message()[5..]).await.code, Code::Ok);
    }
    assert!(0.0 < cut_off(&service).iter().map(|(_, count)| count).sum::<f64>());
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(client.open_call().await);
    }
    for call in open {
        assert_eq!(call.finish(message()).await.code, Code::Ok);
    }
    assert_eq!(neighbour.call(&message()[5..]).await.code, Code::Ok);
    drop(hoard);
}

#[tokio::test(start_paused = true)]
async fn health_watches_of_all_connections_are_bounded() {
    let service = InProcess::start(RULES, &[("MAX_BYTES_IN_FLIGHT", "1048576")]).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let connection = service.raw_grpc().await;
        for _ in 0..8 {
            let mut watch = connection.try_open_call_of(WATCH).await.unwrap();
            watch.send_whole(raw_grpc::frame(&[])).unwrap();
            open.push(watch);
        }
        // Its end shows that the watches have begun. It is refused once the budget is used up.
        let _ = connection.try_call(&message()[5..]).await;
    }
    // There is room for 128 calls without headers.
    let metrics = service.metrics().await;
    let count = |reason| metrics.value("tollgate_calls_cut_off_total", &[("reason", reason)]);
    assert!(0.0 < count("no_room") + count("connection_closed"), "{metrics:?}");
    let beside = service.raw_grpc().await;
    assert_eq!(beside.call(&message()[5..]).await.code, Code::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_messages_are_bounded() {
    withstands("400 half messages on one connection", async |service| {
        let connection = RawGrpc::connect(service.grpc).await;
        let part = Bytes::from([&[0, 0, 64, 0, 0][..], &vec![b'x'; MIB]].concat());
        let mut calls = JoinSet::new();
        calls.spawn(async move {
            let mut open = Vec::new();
            while open.len() < 400 {
                let Ok(mut call) = connection.try_open_call().await else { break };
                if call.send_part(part.clone()).is_err() {
                    break;
                }
                open.push(call);
            }
            std::future::pending::<()>().await;
        });
        calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_messages_of_reflection_are_bounded() {
    withstands("8 half messages of reflection on each of 6 connections", async |service| {
        let announced = u32::try_from(4 * MIB).unwrap().to_be_bytes();
        let part = Bytes::from([&[0][..], &announced, &vec![b'x'; 4 * MIB - 1]].concat());
        let mut open = Vec::new();
        for _ in 0..6 {
            let connection = RawGrpc::connect(service.grpc).await;
            for _ in 0..8 {
                let Ok(mut call) = connection.try_open_call_of(REFLECTION).await else { break };
                // The server may have refused the calls before.
                let _ = call.send_part(part.clone());
                open.push(call);
            }
        }
        open
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_http_requests_are_bounded() {
    let head = format!("POST /json HTTP/1.1\r\nhost: test\r\ncontent-length: {MIB}\r\n\r\n");
    let body = [head.as_bytes(), &vec![b' '; MIB - 1]].concat();
    let header = [b"GET /json HTTP/1.1\r\nx: ", &vec![b'x'; MIB][..]].concat();
    for (name, request) in [("bodies", body), ("headers", header)] {
        withstands(&format!("200 half {name} over HTTP/1"), async |service| {
            let to = service.http;
            let open = move || half_requests(to, &request, 200);
            tokio::task::spawn_blocking(open).await.unwrap()
        })
        .await;
    }
}

/// Sends this part of a request on so many connections.
fn half_requests(to: SocketAddr, request: &[u8], connections: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut connection = TcpStream::connect(to).unwrap();
        connection.set_write_timeout(Some(TIMEOUT)).unwrap();
        // The server closes connections that hold too much.
        let _ = connection.write_all(request);
        open.push(connection);
    }
    open
}

#[tokio::test]
async fn the_http_ports_speak_http_1_alone() {
    let service = Tollgate::start(RULES, &[]);
    for port in [service.http, service.debug] {
        let client = RawGrpc::connect(port).await;
        let error = client.try_call(&message()[5..]).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::HTTP_1_1_REQUIRED));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_of_http_2_can_read_why_it_is_refused() {
    let service = InProcess::start(RULES, &[]).await;
    let mut stream = service.dialers.http.connect().await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // On a connection that is closed, this would cost a client of TCP the answer.
    stream.write_all(&[0; 9]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&[13]), "{answer:?}");
}

#[test]
fn json_bodies_are_bounded_by_a_setting() {
    let service = Tollgate::start(RULES, &[("JSON_MAX_BYTES", "300")]);
    let reply = service.post_json(&" ".repeat(301));
    let why = "Payload Too Large: expected a body of at most 300 bytes (JSON_MAX_BYTES)\n";
    assert_eq!((reply.status, reply.text()), (413, why.to_owned()));
    let body = http::json_request("shop", &[("user", "ann")]);
    let padding = " ".repeat(300 - body.len());
    assert_eq!(service.post_json(&(body + &padding)).status, 200);
}

/// Entries of 2 bytes take about 30 times as much once they are decoded.
#[tokio::test]
async fn decoded_requests_count_in_the_budget() {
    let settings = [("MAX_BYTES_IN_FLIGHT", "1048576"), ("MAX_DESCRIPTORS", "1000")];
    let service = Tollgate::start(RULES, &settings);
    let mut request = request_for("shop", &[]);
    request.descriptors = vec![grpc::descriptor(&[("", ""); 30]); 1_000];
    let connection = RawGrpc::connect(service.grpc).await;
    let reply = connection.call(request.encode_to_vec()).await;
    assert_eq!(reply.code, Code::ResourceExhausted);
    let descriptor = format!(r#"{{"entries":[{}]}}"#, ["{}"; 30].join(","));
    let descriptors = vec![descriptor; 1_000].join(",");
    let body = format!(r#"{{"domain":"shop","descriptors":[{descriptors}]}}"#);
    assert_eq!(service.post_json(&body).status, 503);
    // The connection still serves.
    assert_eq!(connection.call(&message()[5..]).await.code, Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_json_body_that_does_not_arrive_is_answered_in_time() {
    let service = InProcess::start(RULES, &[]).await;
    let post = "POST /json HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n";
    let behind_another = format!("GET /ready HTTP/1.1\r\nhost: test\r\n\r\n{post}\r\n{{");
    for beginning in [format!("{post}expect: 100-continue\r\n\r\n"), behind_another] {
        let mut stream = service.dialers.http.connect().await.unwrap();
        let begin = Instant::now();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut replies = String::new();
        let read = timeout(TIMEOUT * 10, stream.read_to_string(&mut replies)).await;
        read.expect("an end").unwrap();
        assert!(replies.contains("HTTP/1.1 408 Request Timeout"), "{replies}");
        assert_eq!(begin.elapsed().as_secs(), 55);
    }
}

/// The status of a call that is left alone.
async fn left_alone(call: OpenCall) -> Result<Code, h2::Reason> {
    match timeout(TIMEOUT, call.reply()).await.unwrap() {
        Ok(reply) => Ok(reply.code),
        Err(error) => Err(error.reason().unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_call_ends_after_the_transfer_timeout() {
    let service = InProcess::start(RULES, &[("GRPC_TRANSFER_TIMEOUT", "3s")]).await;
    let message = message();
    for part in [&message[..0], &message[..3], &message[..message.len() - 1], &message] {
        let connection = service.raw_grpc().await;
        let mut call = connection.open_call().await;
        call.send_part(part.to_vec().into()).unwrap();
        let begin = Instant::now();
        assert_eq!(left_alone(call).await, Ok(Code::DeadlineExceeded));
        assert_eq!(begin.elapsed().as_secs(), 3);
        // The connection still serves.
        assert_eq!(connection.call(&message[5..]).await.code, Code::Ok);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_reflection_are_bounded_in_number_and_time() {
    let service = InProcess::start(RULES, &[("GRPC_TRANSFER_TIMEOUT", "3s")]).await;
    let connection = service.raw_grpc().await;
    let begin = Instant::now();
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(connection.try_open_call_of(REFLECTION).await.unwrap());
    }
    let ninth = connection.try_open_call_of(REFLECTION).await.unwrap();
    assert_eq!(left_alone(ninth).await, Ok(Code::ResourceExhausted));
    assert_eq!(begin.elapsed().as_secs(), 0);
    for call in open {
        assert_eq!(left_alone(call).await, Ok(Code::Ok));
    }
    assert_eq!(begin.elapsed().as_secs(), 3);
    // There is room again.
    let next = connection.try_open_call_of(REFLECTION).await.unwrap();
    assert_eq!(left_alone(next).await, Ok(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_reset_after_the_transfer_timeout() {
    let service = InProcess::start(RULES, &[("GRPC_TRANSFER_TIMEOUT", "3s")]).await;
    let message = message();
    for window in [0, 1] {
        let connection = service.raw_grpc_with_window(window).await;
        let call = connection.open_call().await;
        let begin = Instant::now();
        let error = call.finish_unread(message.clone()).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_count_with_the_memory_of_their_streams() {
    let settings = [("MAX_BYTES_IN_FLIGHT", "1048576"), ("GRPC_TRANSFER_TIMEOUT", "10m")];
    let service = InProcess::start(RULES, &settings).await;
    let calls = attacker::whole_calls(1_200, CALL, &message());
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut stream = begin_frame(&service, &[]).await;
        for part in calls.chunks(10_000) {
            // The service may have closed the connection, or read no more.
            let _ = timeout(Duration::from_secs(1), stream.write_all(part)).await;
        }
        deaf.push(stream);
    }
    let labels = [("reason", "connection_closed")];
    let metrics = service.metrics().await;
    let closed = metrics.value("tollgate_calls_cut_off_total", &labels);
    assert!(4.0 <= closed, "{closed}");
    let beside = service.raw_grpc().await;
    assert_eq!(beside.call(&message()[5..]).await.code, Code::Ok);
}

/// A gRPC connection that begins with this frame, after empty settings.
async fn begin_frame(service: &InProcess, frame: &[u8]) -> DuplexStream {
    let mut stream = service.dialers.grpc.connect().await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[preface, &settings[..], frame].concat()).await.unwrap();
    stream
}

/// The beginning of a frame of an unknown type, of 16 KiB.
const UNKNOWN: [u8; 9] = [0, 64, 0, 0xbb, 0, 0, 0, 0, 0];

#[tokio::test(start_paused = true)]
async fn a_frame_that_drips_in_is_late_after_the_transfer_timeout() {
    let service = InProcess::start(RULES, &[("GRPC_TRANSFER_TIMEOUT", "3s")]).await;
    // And headers that a further frame has to end.
    for frame in [UNKNOWN, [0, 0, 1, 1, 0, 0, 0, 0, 1]] {
        let (mut reader, mut writer) = split(begin_frame(&service, &frame).await);
        let begin = Instant::now();
        let drip = async {
            loop {
                sleep(Duration::from_millis(400)).await;
                // An error means that the connection is closed.
                let _ = writer.write_all(&[0]).await;
            }
        };
        tokio::select! {
            () = drip => {}
            read = timeout(TIMEOUT, async { reader.read_to_end(&mut Vec::new()).await }) => {
                read.expect("an end").unwrap();
            }
        }
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn half_frames_are_bounded() {
    let settings = [("MAX_BYTES_IN_FLIGHT", "1048576"), ("GRPC_TRANSFER_TIMEOUT", "10m")];
    let service = InProcess::start(RULES, &settings).await;
    let mut open = Vec::new();
    for _ in 0..100 {
        let half = [&UNKNOWN[..], &[b'x'; 16_000]].concat();
        open.push(begin_frame(&service, &half).await);
        sleep(Duration::from_millis(1)).await;
    }
    // There is room for 25 of them, with the memory of their connections.
    let labels = [("reason", "connection_closed")];
    let metrics = service.metrics().await;
    let closed = metrics.value("tollgate_calls_cut_off_total", &labels);
    assert!((70.0..90.0).contains(&closed), "{closed}");
    let beside = service.raw_grpc().await;
    assert_eq!(beside.call(&message()[5..]).await.code, Code::Ok);
}

/// A frame of HTTP/2.
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn read_frame(stream: &mut DuplexStream) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let [high, middle, low, kind, _, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    stream.read_exact(&mut payload).await.unwrap();
    Frame { kind, stream: u32::from_be_bytes(id), payload }
}

/// The settings of the server, and the window of the connection.
async fn announced(service: &InProcess) -> (BTreeMap<u16, u32>, u32) {
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    let mut stream = begin_frame(service, &[]).await;
    let mut settings = BTreeMap::new();
    loop {
        match read_frame(&mut stream).await {
            Frame { kind: SETTINGS, payload, .. } => {
                for entry in payload.chunks_exact(6) {
                    let value = u32::from_be_bytes(entry[2..].try_into().unwrap());
                    settings.insert(u16::from_be_bytes([entry[0], entry[1]]), value);
                }
            }
            Frame { kind: WINDOW_UPDATE, stream: 0, payload } => {
                return (settings, 65_535 + u32::from_be_bytes(payload.try_into().unwrap()));
            }
            Frame { .. } => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_learns_the_bounds_of_its_connection() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let changed = [
        ("GRPC_MAX_STREAMS", "7"),
        ("GRPC_STREAM_WINDOW_BYTES", "16384"),
        ("GRPC_CONNECTION_WINDOW_BYTES", "2000000"),
        ("GRPC_MAX_HEADER_BYTES", "4096"),
    ];
    for (given, expected) in [
        (&[][..], ([256, 64 << 10, 16 << 10], 1 << 20)),
        (&changed[..], ([7, 16 << 10, 4 << 10], 2_000_000)),
    ] {
        let service = InProcess::start(RULES, given).await;
        let (settings, window) = announced(&service).await;
        let names = [MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE];
        assert_eq!((names.map(|name| settings[&name]), window), expected);
        let connection = service.raw_grpc().await;
        // More than a window.
        let long = request_for(&"x".repeat(100_000), &[("user", "ann")]).encode_to_vec();
        assert_eq!(connection.call(long).await.code, Code::Ok);
    }
}

#[tokio::test]
async fn a_connection_has_a_bounded_number_of_calls() {
    let service = Tollgate::start(RULES, &[("GRPC_MAX_STREAMS", "2")]);
    let connection = RawGrpc::connect(service.grpc).await;
    // The client has read the server's settings once a call was answered.
    connection.call(&message()[5..]).await;
    let (first, _second) = (connection.open_call().await, connection.open_call().await);
    let third = connection.open_call().await.finish(message());
    tokio::pin!(third);
    assert!(timeout(Duration::from_millis(100), third.as_mut()).await.is_err());
    first.finish(message()).await;
    assert_eq!(third.await.code, Code::Ok);
}
