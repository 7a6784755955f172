//! An HTTP/1.1 client that hides nothing: header values are bytes, and may
//! repeat.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::SOON;

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Every value of a header, in order. `name` is in lower case.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.iter().filter(|(it, _)| it == name);
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value of a header that is there at most once.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        assert!(values.len() <= 1, "{name} is there {} times", values.len());
        values.pop()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Gets `path` over a connection of its own.
pub fn get(to: SocketAddr, path: &str, headers: &[(&str, &[u8])]) -> Reply {
    send(to, "GET", path, headers, b"")
}

/// Makes one request over a connection of its own.
pub fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Reply {
    let reply = exchange(to, method, path, headers, body);
    reply.unwrap_or_else(|error| panic!("{method} {path} at {to}: {error}"))
}

/// Like [`send`], where a closed connection is an answer.
pub fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Result<Reply, std::io::Error> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&request(method, path, headers, body))?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    parse(&reply).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

/// A request for which the server closes the connection.
pub fn request(method: &str, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n").into_bytes();
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

/// Reads a whole reply; `None` if it is cut off.
pub fn parse(reply: &[u8]) -> Option<Reply> {
    let end = reply.windows(4).position(|it| it == b"\r\n\r\n")?;
    let mut lines = reply[..end].split(|it| *it == b'\n').map(<[u8]>::trim_ascii);
    let status = std::str::from_utf8(lines.next()?).ok()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    for line in lines {
        let colon = line.iter().position(|it| *it == b':')?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let body = &reply[end + 4..];
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some(Reply { status, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
