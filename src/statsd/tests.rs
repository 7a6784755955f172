use std::{collections::HashMap, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Instant, timeout},
};

use super::*;
use crate::{metrics::series::HitCounts, net::HostPort, rules::stat_name::StatName};

/// The timeout of everything that a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(60);
const HIT: HitCounts = HitCounts {
    total: 1,
    within: 0,
    near: 0,
    over: 0,
    over_cached: 0,
    over_shadowed: 0,
    refunded: 0,
};

fn exporter(port: u16, protocol: StatsdProtocol, metrics: &Arc<Metrics>) -> StatsdExporter {
    let server = HostPort { host: "127.0.0.1".into(), port };
    let settings = SinkSettings { server, protocol, dialect: TagDialect::Statsd };
    StatsdExporter::new(settings, &Tags::default(), Arc::clone(metrics))
}

fn hit(metrics: &Metrics, component: &str) {
    metrics.add_to_name(StatName::new("shop", std::iter::once(component.to_owned())), HIT);
}

/// The total hits in `text` by name. A line without a line break is not counted.
fn hits(text: &str) -> HashMap<&str, u64> {
    let mut hits = HashMap::new();
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { continue };
        let (name, rest) = line.split_once(':').unwrap();
        if let Some(name) = name.strip_suffix(".total_hits") {
            *hits.entry(name).or_default() +=
                rest.strip_suffix("|c").unwrap().parse::<u64>().unwrap();
        }
    }
    hits
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(TIMEOUT, listener.accept()).await.expect("no connection came").unwrap().0
}

async fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    timeout(TIMEOUT, stream.read_to_string(&mut text))
        .await
        .expect("the connection stays open")
        .unwrap();
    text
}

/// The server does not read until the write times out. Bytes that the operating system
/// has accepted by then are not sent again, and all others are.
#[tokio::test]
async fn a_write_that_times_out_halfway_is_continued_without_repetition() {
    const SERIES: usize = 9_000;
    let metrics = Arc::new(Metrics::new(0.8));
    for n in 0..SERIES {
        hit(&metrics, &format!("{}{n}", "x".repeat(990)));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut exporter = exporter(port, StatsdProtocol::Tcp, &metrics);
    assert_eq!(exporter.flush(INTERVAL).await, MAX_RETRY_PAUSE, "the flush succeeded");
    let received_first = read_all(accept(&listener).await).await;

    let flush = tokio::spawn(async move {
        assert_eq!(exporter.flush(INTERVAL).await, INTERVAL);
    });
    let received_second = read_all(accept(&listener).await).await;
    flush.await.unwrap();

    let (first, second) = (hits(&received_first), hits(&received_second));
    assert!(!first.is_empty() && !second.is_empty(), "{} {}", first.len(), second.len());
    for name in first.keys() {
        assert!(!second.contains_key(name), "{name} was sent twice");
    }
    assert!(first.values().chain(second.values()).all(|hits| *hits == 1));
    let lost = SERIES - first.len() - second.len();
    assert!(lost <= 1, "more than the one split line is lost: {lost}");
}

#[tokio::test]
async fn a_connection_closed_by_the_server_is_replaced() {
    let metrics = Arc::new(Metrics::new(0.8));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut exporter =
        exporter(listener.local_addr().unwrap().port(), StatsdProtocol::Tcp, &metrics);
    exporter.flush(INTERVAL).await;
    let mut first = accept(&listener).await;
    // The exporter ignores data from the server.
    first.write_all(b"hello").await.unwrap();
    drop(first);
    let closed = async {
        while exporter.transport.is_open() {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, closed).await.expect("the exporter does not notice the end");
    hit(&metrics, "a");
    exporter.flush(INTERVAL).await;
    let second = accept(&listener).await;
    drop(exporter);
    assert_eq!(hits(&read_all(second).await)["ratelimit.service.rate_limit.shop.a"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_without_end_is_left() {
    let metrics = Arc::new(Metrics::new(0.8));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut exporter = exporter(port, StatsdProtocol::Tcp, &metrics);
    exporter.flush(INTERVAL).await;
    let mut server = accept(&listener).await;
    let sender = tokio::spawn(async move { while server.write_all(&[0; 65_536]).await.is_ok() {} });
    let left = async {
        while exporter.transport.is_open() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        exporter.flush(INTERVAL).await;
        accept(&listener).await;
        sender.await.unwrap();
    };
    timeout(TIMEOUT, left).await.expect("the exporter reads on");
}

#[tokio::test]
async fn a_refused_packet_is_sent_again() {
    let metrics = Arc::new(Metrics::new(0.8));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut exporter = exporter(address.port(), StatsdProtocol::Udp, &metrics);
    drop(socket);
    // The operating system reports a refused packet when the next one is sent.
    let refused = async { while exporter.flush(INTERVAL).await != MAX_RETRY_PAUSE {} };
    timeout(TIMEOUT, refused).await.expect("no packet is refused");
    hit(&metrics, "a");
    let socket = UdpSocket::bind(address).await.unwrap();
    let mut packet = [0; 2_000];
    let (started, mut received) = (Instant::now(), 0);
    while received == 0 {
        assert!(started.elapsed() < TIMEOUT, "the hit was not sent");
        exporter.flush(INTERVAL).await;
        while let Ok(length) = socket.try_recv(&mut packet) {
            assert!(length < 1_432, "{length}");
            let text = format!("{}\n", std::str::from_utf8(&packet[..length]).unwrap());
            received += hits(&text).get("ratelimit.service.rate_limit.shop.a").unwrap_or(&0);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(received, 1);
}
