//! Pages that are long, as there are many rules; and readers that are slow.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use testkit::{
    grpc::{self, request_for},
    http,
    tollgate::Tollgate,
    wait::eventually,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};

const RULES: usize = 10_000;

/// One thread decides, so that nothing else can hide that it is held.
fn start() -> Tollgate {
    let mut rules = "domain: shop\ndescriptors:\n".to_owned();
    for rule in 0..RULES {
        let limit = "rate_limit: {unit: year, requests_per_unit: 1000000000}";
        writeln!(rules, "- {{key: user, value: v{rule}, {limit}}}").unwrap();
    }
    Tollgate::start(&rules, &[("TOKIO_WORKER_THREADS", "1")])
}

const CALLS: u32 = 500;
const PACE: Duration = Duration::from_millis(10);
/// Longer than Envoy ever waits.
const LATE: Duration = Duration::from_millis(100);

/// So many calls at a steady pace: how many are answered late.
async fn late(service: &Tollgate, number: u32) -> u32 {
    let client = grpc::connect(service.grpc).await;
    let (begin, mut calls) = (Instant::now(), JoinSet::new());
    for number in 0..number {
        let due = begin + number * PACE;
        sleep_until(due).await;
        let mut client = client.clone();
        calls.spawn(async move {
            client.should_rate_limit(request_for("shop", &[("user", "v7")])).await.unwrap();
            LATE < due.elapsed()
        });
    }
    calls.join_all().await.into_iter().map(u32::from).sum()
}

/// A machine that has other work is late with some of its own.
#[track_caller]
fn check(control: u32, beside: u32) {
    println!("late: {control} of {CALLS} alone, {beside} beside pages");
    assert!(beside <= 2 * control + CALLS / 4, "{control} alone, {beside} beside pages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_delays_decisions() {
    const ROUNDS: u32 = 5;
    let service = start();
    let (mut control, mut beside) = (0, 0);
    for _ in 0..ROUNDS {
        control += late(&service, CALLS / ROUNDS).await;
        let (main, debug) = (service.http, service.debug);
        let reading = spawn_blocking(move || {
            for (port, path) in [(main, "/metrics"), (main, "/rlconfig"), (debug, "/stats")] {
                let reply = http::get(port, path, &[]);
                let lines = reply.body.split(|it| *it == b'\n').count();
                assert!(reply.status == 200 && RULES < lines, "{path}: {lines} lines");
            }
        });
        beside += late(&service, CALLS / ROUNDS).await;
        reading.await.unwrap();
    }
    check(control, beside);
}

/// Asks for a page and reads nothing.
fn idle_reader(to: SocketAddr, path: &str) -> TcpStream {
    let mut reader = TcpStream::connect(to).unwrap();
    write!(reader, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    reader
}

fn status(reader: &mut TcpStream) -> String {
    let mut line = [0; "HTTP/1.1 200".len()];
    reader.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line[9..]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_read_nothing_hold_little_and_nobody_up() {
    const MOST: usize = 8;
    let service = start();
    let control = late(&service, CALLS).await;
    let before = service.peak_memory();
    let mut readers: Vec<_> = (0..100).map(|_| idle_reader(service.http, "/metrics")).collect();
    check(control, late(&service, CALLS).await);
    let refused = http::get(service.http, "/rlconfig", &[]);
    assert_eq!((refused.status, refused.header("retry-after").unwrap().as_str()), (503, "10"));
    assert!(refused.text().contains(&format!("{MOST} pages are being read")), "{refused:?}");
    assert_eq!(http::get(service.http, "/ready", &[]).status, 200);
    // Each port has room of its own.
    assert_eq!(http::get(service.debug, "/stats", &[]).status, 200);
    let statuses: Vec<_> = readers.iter_mut().map(status).collect();
    assert_eq!(statuses.iter().filter(|it| *it == "200").count(), MOST);
    assert_eq!(statuses.iter().filter(|it| *it == "503").count(), readers.len() - MOST);
    let more = service.peak_memory().saturating_sub(before) >> 20;
    println!("100 readers took {more} MiB");
    assert!(more < 50, "{more} MiB");
    drop(readers);
    eventually("room", || http::get(service.http, "/rlconfig", &[]).status == 200);
    service.metric("tollgate_rules");
}

/// A page that is read slowly, and while its rules are replaced, is that of the old rules.
#[tokio::test]
async fn a_page_is_of_the_rules_that_were_in_force_when_it_was_asked_for() {
    let service = start();
    let mut reader = idle_reader(service.http, "/metrics");
    assert_eq!(status(&mut reader), "200");
    service.replace_rules("rules.yaml", "domain: shop");
    let rules = || http::get(service.http, "/rlconfig", &[]).body.len();
    eventually("new rules", || rules() == 0);
    sleep(Duration::from_millis(100)).await;
    let mut page = String::new();
    reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while !page.ends_with("\r\n0\r\n\r\n") {
        let mut some = [0; 1 << 16];
        let read = reader.read(&mut some).unwrap();
        page += std::str::from_utf8(&some[..read]).unwrap();
    }
    let lines = page.matches("\nratelimit_service_rate_limit_within_limit{").count();
    assert_eq!(lines, RULES);
}

#[test]
fn no_rule_makes_lines_of_its_own_where_rules_are_shown() {
    let rules = r#"
domain: "shop\e[31m"
descriptors:
- { key: "evil\n# forged: \e[31m", rate_limit: { unit: year, requests_per_unit: 1 } }
"#;
    let service = Tollgate::start(rules, &[]);
    let page = service.rules_page();
    assert!(page.ends_with("quota_mode: false\n"), "{page:?}");
    assert!(!page.trim_end().contains(char::is_control), "{page:?}");
}
