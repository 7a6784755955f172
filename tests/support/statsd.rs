//! Servers of statsd that write down what they are told.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use super::eventually;

/// All lines so far, and how long each packet was.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    packets: Vec<usize>,
}

/// An address with a port that is free. No other test uses this host, so nobody
/// takes the port before a server is there.
pub fn nobody() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [process, ..] = std::process::id().to_le_bytes();
    let host = Ipv4Addr::new(127, 9, process, NEXT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

/// A server that listens until the end of the test.
#[derive(Debug)]
pub struct Sink {
    pub address: SocketAddr,
    told: Arc<Mutex<Told>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

/// Everything that was told of one statistic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// The sum of all differences.
    pub count: u64,
    /// The last value of a gauge.
    pub level: Option<f64>,
    /// How many calls were timed.
    pub calls: u64,
    /// What follows the value, if every line has the same.
    pub tags: String,
}

impl Sink {
    /// By TCP.
    pub fn tcp(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let sink = Self::at(listener.local_addr().unwrap());
        let (told, connections) = (Arc::clone(&sink.told), Arc::clone(&sink.connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                connections.lock().unwrap().push(stream.try_clone().unwrap());
                let told = Arc::clone(&told);
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).unwrap_or(0) > 0 {
                        // No name is empty, so a cut line is noticed.
                        let whole = line.strip_suffix('\n').map(str::to_owned);
                        let line = std::mem::take(&mut line);
                        let line = whole.unwrap_or_else(|| format!(":{line}"));
                        told.lock().unwrap().lines.push(line);
                    }
                });
            }
        });
        sink
    }

    /// By UDP.
    pub fn udp(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let sink = Self::at(socket.local_addr().unwrap());
        let told = Arc::clone(&sink.told);
        thread::spawn(move || {
            let mut packet = [0; 1 << 16];
            loop {
                let length = socket.recv(&mut packet).unwrap();
                let text = std::str::from_utf8(&packet[..length]).unwrap();
                let mut told = told.lock().unwrap();
                told.packets.push(length);
                told.lines.extend(text.split('\n').map(str::to_owned));
            }
        });
        sink
    }

    fn at(address: SocketAddr) -> Self {
        Self { address, told: Arc::default(), connections: Arc::default() }
    }

    /// Closes all connections, and says how many there were.
    pub fn hang_up(&self) -> usize {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        connections.iter().for_each(|it| it.shutdown(Shutdown::Both).unwrap());
        connections.len()
    }

    /// How many connections were made, and not been closed from here.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.told.lock().unwrap().lines.clone()
    }

    /// How long each packet was.
    pub fn packets(&self) -> Vec<usize> {
        self.told.lock().unwrap().packets.clone()
    }

    /// Waits until the lines come to what is asked for.
    pub fn until<T>(&self, what: &str, ask: impl Fn(&BTreeMap<String, Sum>) -> Option<T>) -> T {
        eventually(what, || ask(&self.sums()))
    }

    /// Everything that was told, by name.
    pub fn sums(&self) -> BTreeMap<String, Sum> {
        let mut sums = BTreeMap::<_, Sum>::new();
        for line in self.lines() {
            let parsed = add(&line, &mut sums);
            assert!(parsed.is_some(), "{line:?}");
        }
        sums
    }
}

/// Reads a line as strictly as possible.
fn add(line: &str, sums: &mut BTreeMap<String, Sum>) -> Option<()> {
    let (name, rest) = line.split_once(':')?;
    let mut parts = rest.split('|');
    let (value, kind) = (parts.next()?, parts.next()?);
    let legal = !name.is_empty() && !name.contains(['\n', '#', ',', '@']);
    (legal && value.starts_with(|it: char| it.is_ascii_digit())).then_some(())?;
    let sum = sums.entry(name.to_owned()).or_default();
    let mut part = parts.next();
    let mut calls = 1;
    if let Some(rate) = part.and_then(|it| it.strip_prefix('@')) {
        let rate: f64 = rate.parse().ok()?;
        (kind == "ms").then_some(())?;
        // As servers do.
        calls = format!("{:.0}", (1.0 / rate).trunc()).parse().ok()?;
        part = parts.next();
    }
    match kind {
        "c" => {
            let more: u64 = value.parse().ok()?;
            (more > 0).then_some(())?;
            sum.count += more;
        }
        "g" => sum.level = Some(value.parse().ok()?),
        "ms" => {
            value.parse::<f64>().ok()?;
            sum.calls += calls;
        }
        _ => return None,
    }
    if let Some(tags) = part {
        sum.tags = tags.strip_prefix('#')?.to_owned();
    }
    parts.next().is_none().then_some(())
}
