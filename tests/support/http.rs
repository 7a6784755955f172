//! An HTTP/1.1 client that hides nothing: header values are bytes, and may repeat.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::wait::TIMEOUT;

type Headers<'a> = [(&'a str, &'a [u8])];

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header that occurs at most once. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = Vec::new();
        for (other, value) in &self.headers {
            if other == name {
                values.push(String::from_utf8_lossy(value).into_owned());
            }
        }
        assert!(values.len() <= 1, "{name} occurs {} times", values.len());
        values.pop()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The body of a request with one descriptor for each entry.
pub fn json_request(domain: &str, entries: &[(&str, &str)]) -> String {
    let mut descriptors = Vec::new();
    for (key, value) in entries {
        descriptors.push(json!({ "entries": [{ "key": key, "value": value }] }));
    }
    json!({ "domain": domain, "descriptors": descriptors }).to_string()
}

/// Sends a GET request over a new connection.
pub fn get(to: SocketAddr, path: &str, headers: &Headers<'_>) -> Reply {
    send(to, "GET", path, headers, b"")
}

/// Sends a request over a new connection. Panics if there is no reply.
pub fn send(to: SocketAddr, method: &str, path: &str, headers: &Headers<'_>, body: &[u8]) -> Reply {
    let reply = try_send(to, method, path, headers, body);
    reply.unwrap_or_else(|error| panic!("{method} {path} at {to}: {error}"))
}

/// [`send`] that returns an error if there is no reply.
///
/// # Errors
/// The connection cannot be made, or ends before a whole reply arrives.
pub fn try_send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &Headers<'_>,
    body: &[u8],
) -> io::Result<Reply> {
    exchange(TcpStream::connect(to)?, method, path, headers, body)
}

/// [`send`] over a connection that is open.
///
/// # Errors
/// The connection ends before a whole reply arrives.
pub fn exchange(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &Headers<'_>,
    body: &[u8],
) -> io::Result<Reply> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&request(method, path, headers, body))?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    parse(&reply).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A request after whose reply the server closes the connection. Its host is `test` unless
/// `headers` have one.
pub fn request(method: &str, path: &str, headers: &Headers<'_>, body: &[u8]) -> Vec<u8> {
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: test\r\n" };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    request
}

/// Parses a whole reply. `None` if it is cut off.
pub fn parse(reply: &[u8]) -> Option<Reply> {
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    for line in reply[..end].split(|byte| *byte == b'\n').skip(1) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let body = &reply[end + 4..];
    let body = if chunked { decode_chunks(body)? } else { body.to_vec() };
    Some(Reply { status, headers, body })
}

fn decode_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
