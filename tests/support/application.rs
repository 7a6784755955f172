//! The HTTP server behind a proxy, which records its requests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

/// Answers every request with 200. It runs until the process ends.
#[derive(Debug)]
pub struct Application {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Received>>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub target: Vec<u8>,
    /// The lines of the headers, in lower case.
    headers: Vec<String>,
    pub body: Vec<u8>,
}

impl Received {
    /// The number of lines of a header, whose name is in lower case.
    pub fn lines_of(&self, name: &str) -> usize {
        let start = format!("{name}:");
        self.headers.iter().filter(|line| line.starts_with(&start)).count()
    }
}

impl Application {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::default());
        let received = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let received = Arc::clone(&received);
                thread::spawn(move || serve(stream, &received));
            }
        });
        Self { address, requests }
    }

    /// The requests so far whose target begins with `prefix`.
    pub fn requests_for(&self, prefix: &str) -> Vec<Received> {
        let mut found = Vec::new();
        for request in self.requests.lock().iter() {
            if request.target.starts_with(prefix.as_bytes()) {
                found.push(request.clone());
            }
        }
        found
    }

    /// The number of requests so far.
    pub fn count(&self) -> usize {
        self.requests.lock().len()
    }
}

/// Serves one connection. `None` when it ends.
fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        let mut words = line.split(|byte| *byte == b' ');
        let method = String::from_utf8_lossy(words.next()?).into_owned();
        let target = words.next()?.to_vec();
        let (mut length, mut last, mut headers) = (0, false, Vec::new());
        while line != b"\r\n" {
            line.clear();
            if reader.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            } else if text.starts_with("connection:") && text.contains("close") {
                last = true;
            }
            headers.push(text);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = if method == "HEAD" { "" } else { "ok" };
        received.lock().push(Received { method, target, headers, body });
        // One write: Nagle's algorithm would delay a second one.
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{answer}");
        writer.write_all(reply.as_bytes()).ok()?;
        if last {
            return None;
        }
    }
}
