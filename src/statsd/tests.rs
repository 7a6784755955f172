use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::*;
use crate::{metrics::series::Bump, rules::stat_name::StatName};

/// Anything that is expected to happen.
const SOON: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(60);
const HIT: Bump = Bump { total: 1, within: 0, near: 0, over: 0, cached: 0, shadow: 0, refunded: 0 };

fn exporter(port: u16, protocol: StatsdProtocol, metrics: &Arc<Metrics>) -> StatsdExporter {
    let server = HostPort { host: "127.0.0.1".into(), port };
    let settings = SinkSettings { server, protocol, dialect: TagDialect::Statsd };
    StatsdExporter::new(settings, &Tags::default(), Arc::clone(metrics))
}

fn hit(metrics: &Metrics, component: &str) {
    metrics.count(StatName::new("shop", std::iter::once(component.to_owned())), HIT);
}

/// How many hits `text` tells, by name; a line without an end counts nothing.
fn hits(text: &str) -> HashMap<&str, u64> {
    let mut hits = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|it| it.strip_suffix('\n')) {
        let (name, rest) = line.split_once(':').unwrap();
        if let Some(name) = name.strip_suffix(".total_hits") {
            *hits.entry(name).or_default() +=
                rest.strip_suffix("|c").unwrap().parse::<u64>().unwrap();
        }
    }
    hits
}

/// The next connection, and all that is said on it.
async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(SOON, listener.accept()).await.expect("there is a connection").unwrap().0
}

async fn all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.expect("it ends").unwrap();
    text
}

/// A server that does not read, until the connection is given up: what the system
/// has taken by then is not told again, and all the rest is.
#[tokio::test]
async fn a_write_that_ends_in_the_middle_repeats_nothing() {
    const SERIES: usize = 9_000;
    let metrics = Arc::new(Metrics::new(0.8));
    for n in 0..SERIES {
        hit(&metrics, &format!("{}{n}", "x".repeat(990)));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut exporter = exporter(port, StatsdProtocol::Tcp, &metrics);
    assert_eq!(exporter.flush(INTERVAL).await, TRY_AGAIN, "it is a failure");
    let first = accept(&listener).await;
    let told_first = all(first).await;

    let flush = tokio::spawn(async move {
        assert_eq!(exporter.flush(INTERVAL).await, INTERVAL);
    });
    let second = accept(&listener).await;
    let told_second = all(second).await;
    flush.await.unwrap();

    let (first, second) = (hits(&told_first), hits(&told_second));
    assert!(!first.is_empty() && !second.is_empty(), "{} {}", first.len(), second.len());
    assert!(first.keys().all(|it| !second.contains_key(it)), "something was told twice");
    assert!(first.values().chain(second.values()).all(|it| *it == 1));
    let lost = SERIES - first.len() - second.len();
    assert!(lost <= 1, "only the line that was cut may be lost: {lost}");
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_written_to() {
    let metrics = Arc::new(Metrics::new(0.8));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut exporter =
        exporter(listener.local_addr().unwrap().port(), StatsdProtocol::Tcp, &metrics);
    exporter.flush(INTERVAL).await;
    let mut first = accept(&listener).await;
    // What it says is of no interest.
    first.write_all(b"hello").await.unwrap();
    drop(first);
    // Until the end has arrived.
    let closed = async {
        while exporter.channel.is_open() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, closed).await.expect("it ends");
    hit(&metrics, "a");
    exporter.flush(INTERVAL).await;
    let second = accept(&listener).await;
    drop(exporter);
    assert_eq!(hits(&all(second).await)["ratelimit.service.rate_limit.shop.a"], 1);
}

#[tokio::test]
async fn a_packet_that_was_refused_is_sent_again() {
    let metrics = Arc::new(Metrics::new(0.8));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut exporter = exporter(address.port(), StatsdProtocol::Udp, &metrics);
    drop(socket);
    // The system learns of it with the first packet, and says so at the next.
    let refused = async { while exporter.flush(INTERVAL).await != TRY_AGAIN {} };
    timeout(SOON, refused).await.expect("it is refused");
    hit(&metrics, "a");
    let socket = UdpSocket::bind(address).await.unwrap();
    let mut packet = [0; 2_000];
    let (begin, mut told) = (Instant::now(), 0);
    while told == 0 {
        assert!(begin.elapsed() < SOON, "it was not told");
        exporter.flush(INTERVAL).await;
        while let Ok(length) = socket.try_recv(&mut packet) {
            assert!(length < 1_432, "{length}");
            let text = format!("{}\n", std::str::from_utf8(&packet[..length]).unwrap());
            told += hits(&text).get("ratelimit.service.rate_limit.shop.a").unwrap_or(&0);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(told, 1);
}
