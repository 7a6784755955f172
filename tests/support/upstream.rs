//! The HTTP server that Envoy protects.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::LazyLock,
    thread,
};

/// The address of a server that all tests of the process share. It answers every request
/// with 200 and copies the header `x-cost` into the reply.
pub fn address() -> SocketAddr {
    static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || serve(stream));
            }
        });
        address
    });
    *ADDRESS
}

/// Serves one connection. Requests have no body.
fn serve(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    let (mut cost, mut last) = (None, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(value) = text.strip_prefix("x-cost:") {
            cost = Some(value.trim().to_owned());
        } else if text.starts_with("connection: close") {
            last = true;
        } else if text == "\r\n" {
            let cost = match cost.take() {
                Some(cost) => format!("x-cost: {cost}\r\n"),
                None => String::new(),
            };
            // One write: Nagle's algorithm would delay a second one.
            let reply = format!("HTTP/1.1 200 OK\r\n{cost}content-length: 2\r\n\r\nok");
            writer.write_all(reply.as_bytes()).ok()?;
            if last {
                return None;
            }
        }
    }
}
