//! Long pages, because of many rules, and slow readers.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use testkit::{
    grpc::{self, request_for},
    http,
    tollgate::Tollgate,
    wait::{eventually, eventually_async},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::{JoinSet, spawn_blocking},
    time::interval,
};

use crate::in_process::InProcess;

const RULES: usize = 10_000;

fn rules() -> String {
    let mut rules = "domain: shop\ndescriptors:\n".to_owned();
    for rule in 0..RULES {
        let limit = "rate_limit: {unit: year, requests_per_unit: 1000000000}";
        writeln!(rules, "- {{key: user, value: v{rule}, {limit}}}").unwrap();
    }
    rules
}

/// With one worker thread, a page that blocks it delays decisions.
fn start() -> Tollgate {
    Tollgate::start(&rules(), &[("TOKIO_WORKER_THREADS", "1")])
}

const CALLS: u32 = 200;
const PACE: Duration = Duration::from_millis(10);
/// Longer than the timeout of Envoy.
const LATE: Duration = Duration::from_millis(100);

/// Makes calls at a steady rate, and returns how many are answered late.
async fn late(service: &Tollgate, number: u32) -> u32 {
    let client = grpc::connect(service.grpc).await;
    let (mut ticks, mut calls) = (interval(PACE), JoinSet::new());
    for _ in 0..number {
        let due = ticks.tick().await;
        let mut client = client.clone();
        calls.spawn(async move {
            client.should_rate_limit(request_for("shop", &[("user", "v7")])).await.unwrap();
            LATE < due.elapsed()
        });
    }
    calls.join_all().await.into_iter().map(u32::from).sum()
}

const ROUNDS: u32 = 5;

/// Compares with the calls that are late because the machine has other work.
fn delays_few(control: u32, beside: u32) -> bool {
    println!("late: {control} of {CALLS} alone, {beside} beside pages");
    beside <= 2 * control + CALLS / 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_pages_do_not_delay_decisions() {
    let service = start();
    // Pages that delay decisions do so in each round, other work on the machine does not.
    for _ in 0..ROUNDS {
        let control = late(&service, CALLS).await;
        let (main, debug) = (service.http, service.debug);
        let reading = spawn_blocking(move || {
            for (port, path) in [(main, "/metrics"), (main, "/rlconfig"), (debug, "/stats")] {
                let reply = http::get(port, path, &[]);
                let lines = reply.body.split(|it| *it == b'\n').count();
                assert!(reply.status == 200 && RULES < lines, "{path}: {lines} lines");
            }
        });
        let beside = late(&service, CALLS).await;
        reading.await.unwrap();
        if delays_few(control, beside) {
            return;
        }
    }
    panic!("long pages delay decisions in each round");
}

/// Requests a long page and does not read it.
fn idle_reader(to: SocketAddr) -> TcpStream {
    let mut reader = TcpStream::connect(to).unwrap();
    write!(reader, "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    reader
}

fn status(reader: &mut TcpStream) -> String {
    let mut line = [0; "HTTP/1.1 200".len()];
    reader.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line[9..]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_readers_use_little_memory_and_do_not_stop_decisions() {
    /// The most of one address.
    const MOST: usize = 4;
    let service = start();
    let before = service.peak_memory();
    let mut readers: Vec<TcpStream> = (0..100).map(|_| idle_reader(service.http)).collect();
    late(&service, CALLS).await;
    // A reader that has had its time makes room, as on a very busy machine.
    let refused = http::get(service.http, "/rlconfig", &[]);
    if refused.status != 200 {
        assert_eq!((refused.status, refused.header("retry-after").unwrap().as_str()), (503, "10"));
        let why = format!("127.0.0.1 reads {MOST} pages on this port");
        assert!(refused.text().contains(&why), "{refused:?}");
    }
    assert_eq!(http::get(service.http, "/ready", &[]).status, 200);
    // Each listener has its own limit.
    assert_eq!(http::get(service.debug, "/stats", &[]).status, 200);
    let mut pages = 0;
    for reader in &mut readers {
        match status(reader).as_str() {
            "200" => pages += 1,
            other => assert_eq!(other, "503"),
        }
    }
    assert!((MOST..2 * MOST).contains(&pages), "{pages} pages");
    let more = service.peak_memory().saturating_sub(before) >> 20;
    println!("100 readers took {more} MiB");
    assert!(more < 50, "{more} MiB");
    drop(readers);
    eventually("room", || http::get(service.http, "/rlconfig", &[]).status == 200);
    service.metric("tollgate_rules");
}

/// [`idle_reader`] from this address, once the page has begun.
async fn idle_reader_from(from: Ipv4Addr, to: SocketAddr) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut reader = socket.connect(to).await.unwrap();
    reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut begin = [0; "HTTP/1.1 200".len()];
    reader.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_two_addresses_do_not_keep_others_from_metrics() {
    let service = Tollgate::start(&rules(), &[]);
    let mut readers = Vec::new();
    for from in [Ipv4Addr::new(127, 0, 0, 5), Ipv4Addr::new(127, 0, 0, 6)] {
        for _ in 0..4 {
            readers.push(idle_reader_from(from, service.http).await);
        }
    }
    let scrape = http::get(service.http, "/metrics", &[]);
    assert_eq!(scrape.status, 200);
    assert!(scrape.text().lines().count() > RULES);
    // One place is free now, and then the other address has more.
    let _slow = idle_reader_from(Ipv4Addr::new(127, 0, 0, 7), service.http).await;
    for path in ["/ready", "/healthcheck", "/rlconfig"] {
        assert_eq!(http::get(service.http, path, &[]).status, 200, "{path}");
    }
    drop(readers);
}

/// A page that is read slowly shows the rules of the moment of its request.
#[tokio::test(start_paused = true)]
async fn a_page_shows_the_rules_of_the_moment_of_its_request() {
    let service = InProcess::start(&rules(), &[]).await;
    let mut reader = service.dialers.http.connect().await.unwrap();
    reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut page = vec![0; "HTTP/1.1 200".len()];
    reader.read_exact(&mut page).await.unwrap();
    assert_eq!(page, b"HTTP/1.1 200");
    service.edit("rules.yaml", "domain: shop");
    eventually_async("new rules", async || service.rules_page().await.is_empty()).await;
    while !page.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(reader.read_buf(&mut page).await.unwrap(), 0);
    }
    let page = String::from_utf8(page).unwrap();
    let lines = page.matches("\nratelimit_service_rate_limit_within_limit{").count();
    assert_eq!(lines, RULES);
}

#[test]
fn the_mode_without_refusals_is_in_the_log_and_on_the_page() {
    let rules = "domain: shop\ndescriptors: [{key: a, rate_limit: {unlimited: true}}]";
    let service = Tollgate::start(rules, &[("SHADOW_MODE", "true")]);
    assert!(service.rules_page().ends_with("\n# SHADOW_MODE is true: no request is refused\n"));
    assert!(service.log().contains("SHADOW_MODE is true: no request is refused"));
    assert!(!Tollgate::start(rules, &[]).rules_page().contains("SHADOW_MODE"));
}

#[tokio::test(start_paused = true)]
async fn control_characters_in_rules_are_escaped_on_pages() {
    let rules = r#"
domain: "shop\e[31m"
descriptors:
- { key: "evil\n# forged: \e[31m", rate_limit: { unit: year, requests_per_unit: 1 } }
"#;
    let service = InProcess::start(rules, &[]).await;
    let page = service.rules_page().await;
    assert!(page.ends_with("quota_mode: false\n"), "{page:?}");
    assert!(!page.trim_end().contains(char::is_control), "{page:?}");
}
