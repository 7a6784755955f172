//! A client that writes HTTP/2 frames without regard to the server's limits.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection whose frames are read and forgotten.
#[derive(Debug)]
pub(super) struct Attacker {
    stream: TcpStream,
}

impl Attacker {
    /// So many connections with this window for each answer, after `attack` has been
    /// called for each. The server may have closed them.
    pub(super) fn all(
        to: SocketAddr,
        connections: usize,
        window: u32,
        mut attack: impl FnMut(&mut Self) -> std::io::Result<()>,
    ) -> Vec<Self> {
        let mut all = Vec::new();
        for _ in 0..connections {
            let mut attacker = Self::connect(to, window).unwrap();
            let _ = attack(&mut attacker);
            all.push(attacker);
        }
        all
    }

    fn connect(to: SocketAddr, window: u32) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        stream.write_all(&frame(SETTINGS, 0, 0, &settings))?;
        let mut reader = stream.try_clone()?;
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while reader.read(&mut buffer).is_ok_and(|read| 0 < read) {}
        });
        Ok(Self { stream })
    }

    /// Begins so many calls, with this body or without an end.
    pub(super) fn calls(
        &mut self,
        calls: u32,
        path: &str,
        body: Option<&[u8]>,
    ) -> std::io::Result<()> {
        self.calls_with(calls, &headers(path), body)
    }

    /// [`Self::calls`] with so many more headers, of one byte each on the wire.
    pub(super) fn calls_with_headers(
        &mut self,
        calls: u32,
        path: &str,
        more: usize,
    ) -> std::io::Result<()> {
        // `x: y`, to be kept by the server, and then references to it.
        let kept = [0x40, 1, b'x', 1, b'y'];
        let references = vec![0x80 | 62; more - 1];
        self.calls_with(calls, &[&headers(path), &kept[..], &references].concat(), None)
    }

    fn calls_with(
        &mut self,
        calls: u32,
        headers: &[u8],
        body: Option<&[u8]>,
    ) -> std::io::Result<()> {
        for call in 0..calls {
            self.stream.write_all(&frames(call, headers, body))?;
        }
        Ok(())
    }
}

/// The frames of whole calls, the first ones of a connection.
pub(super) fn whole_calls(calls: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let headers = headers(path);
    (0..calls).flat_map(|call| frames(call, &headers, Some(body))).collect()
}

fn frames(call: u32, headers: &[u8], body: Option<&[u8]>) -> Vec<u8> {
    let stream = 2 * call + 1;
    let mut bytes = frame(HEADERS, END_HEADERS, stream, headers);
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, stream, body));
    }
    bytes
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers of a gRPC call, as literals that are not indexed.
fn headers(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            // Texts of less than 127 bytes, without Huffman coding.
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
