//! A client that sends any bytes, from any address of the machine.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
};

use socket2::{Domain, Socket, Type};
use testkit::{
    http::{self, Reply},
    wait::TIMEOUT,
};

/// A loopback address that no other case sends from.
pub fn unused_peer() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, _, high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// A request after whose reply the proxy closes the connection.
#[derive(Clone, Debug)]
pub struct Request {
    from: Ipv4Addr,
    method: &'static str,
    target: Vec<u8>,
    /// Complete lines.
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// A GET request from a peer of its own.
    pub fn get(target: impl AsRef<[u8]>) -> Self {
        let (target, headers) = (target.as_ref().to_vec(), Vec::new());
        Self { from: unused_peer(), method: "GET", target, headers, body: Vec::new() }
    }

    pub fn from(mut self, peer: Ipv4Addr) -> Self {
        self.from = peer;
        self
    }

    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Adds a line.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.extend_from_slice(name.as_bytes());
        self.headers.extend_from_slice(b": ");
        self.headers.extend_from_slice(value.as_ref());
        self.headers.extend_from_slice(b"\r\n");
        self
    }

    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("X-Api-Key", key)
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// `None` if the proxy ends the connection without a reply.
    pub fn send(&self, to: SocketAddr) -> Option<Reply> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((self.from, 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        // The proxy may refuse a long request before it has read all of it.
        let _ = stream.write_all(&self.bytes());
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        if self.method == "HEAD" && announces_chunks(&reply) {
            // There are none: it is the head of a reply to GET.
            reply.extend_from_slice(b"0\r\n\r\n");
        }
        http::parse(&reply)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.method.as_bytes().to_vec();
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(b" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n");
        bytes.extend_from_slice(&self.headers);
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn announces_chunks(head: &[u8]) -> bool {
    String::from_utf8_lossy(head)
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked\r\n")
}
