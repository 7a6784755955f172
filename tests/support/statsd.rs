//! A statsd server that records all lines it receives.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use crate::wait::eventually;

/// The server. It listens until the test process ends.
#[derive(Debug)]
pub struct StatsdServer {
    pub address: SocketAddr,
    received: Arc<Mutex<Received>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

#[derive(Debug, Default)]
struct Received {
    lines: Vec<String>,
    /// The length of each UDP packet in bytes.
    packets: Vec<usize>,
}

pub type Statistics = BTreeMap<String, Statistic>;

/// The sum of all lines about one statistic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistic {
    /// The sum of all increments.
    pub count: u64,
    /// The last value of a gauge.
    pub gauge: Option<f64>,
    /// The number of measured times.
    pub timings: u64,
    /// The DogStatsD tags of the last line.
    pub tags: String,
}

impl StatsdServer {
    pub fn tcp(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let server = Self::new(listener.local_addr().unwrap());
        let received = Arc::clone(&server.received);
        let connections = Arc::clone(&server.connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                connections.lock().push(stream.try_clone().unwrap());
                let received = Arc::clone(&received);
                thread::spawn(move || read_lines(stream, &received));
            }
        });
        server
    }

    pub fn udp(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let server = Self::new(socket.local_addr().unwrap());
        let received = Arc::clone(&server.received);
        thread::spawn(move || {
            let mut packet = [0; 1 << 16];
            loop {
                let length = socket.recv(&mut packet).unwrap();
                let text = std::str::from_utf8(&packet[..length]).unwrap();
                let mut received = received.lock();
                received.packets.push(length);
                for line in text.split('\n') {
                    received.lines.push(line.to_owned());
                }
            }
        });
        server
    }

    fn new(address: SocketAddr) -> Self {
        Self { address, received: Arc::default(), connections: Arc::default() }
    }

    /// Closes all connections and returns their number.
    pub fn close_connections(&self) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock());
        for connection in &connections {
            connection.shutdown(Shutdown::Both).unwrap();
        }
        connections.len()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.received.lock().lines.clone()
    }

    /// The length of each UDP packet so far, in bytes.
    pub fn packets(&self) -> Vec<usize> {
        self.received.lock().packets.clone()
    }

    /// Waits until `condition` holds for the statistics received so far.
    #[track_caller]
    pub fn wait_until(&self, event: &str, condition: impl Fn(&Statistics) -> bool) -> Statistics {
        eventually(event, || {
            let statistics = self.statistics();
            condition(&statistics).then_some(statistics)
        })
    }

    /// The sums of all lines so far, by name.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::new();
        for line in self.lines() {
            let parsed = add_line(&line, &mut statistics);
            assert!(parsed.is_some(), "{line:?}");
        }
        statistics
    }
}

fn read_lines(stream: TcpStream, received: &Mutex<Received>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = match line.strip_suffix('\n') {
            Some(line) => line.to_owned(),
            // A line without an end: the parser rejects it, as its name is empty.
            None => format!(":{line}"),
        };
        received.lock().lines.push(line);
    }
}

/// Parses one line strictly. `None` if it is malformed.
fn add_line(line: &str, statistics: &mut Statistics) -> Option<()> {
    let (name, rest) = line.split_once(':')?;
    let mut parts = rest.split('|');
    let (value, kind) = (parts.next()?, parts.next()?);
    let is_legal_name = !name.is_empty() && !name.contains(['\n', '#', ',', '@']);
    if !is_legal_name || !value.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let statistic = statistics.entry(name.to_owned()).or_default();
    let mut part = parts.next();
    let mut timings = 1;
    if let Some(rate) = part.and_then(|part| part.strip_prefix('@')) {
        let rate: f64 = rate.parse().ok()?;
        if kind != "ms" {
            return None;
        }
        // A line with a sample rate stands for several, rounded down as servers do.
        timings = format!("{:.0}", (1.0 / rate).trunc()).parse().ok()?;
        part = parts.next();
    }
    match kind {
        "c" => {
            let increment: u64 = value.parse().ok()?;
            if increment == 0 {
                return None;
            }
            statistic.count += increment;
        }
        "g" => statistic.gauge = Some(value.parse().ok()?),
        "ms" => {
            value.parse::<f64>().ok()?;
            statistic.timings += timings;
        }
        _ => return None,
    }
    if let Some(tags) = part {
        statistic.tags = tags.strip_prefix('#')?.to_owned();
    }
    if parts.next().is_some() { None } else { Some(()) }
}
