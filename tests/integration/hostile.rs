//! Redis servers that send more than they were asked for, or send calls elsewhere.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use testkit::{
    http::{self, json_request},
    tollgate::Tollgate,
    wait::eventually,
};

const RULES: &str = "domain: shop\ndescriptors:\n- key: user\n  \
                     rate_limit: { unit: year, requests_per_unit: 1 }\n";

/// Accepts connections for the rest of the test run, and serves each on a thread.
fn serve(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.unwrap());
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The arguments of the next command.
fn command(stream: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let bytes: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut argument = vec![0; bytes + 2];
        stream.read_exact(&mut argument).ok()?;
        argument.truncate(bytes);
        arguments.push(String::from_utf8_lossy(&argument).into_owned());
    }
    Some(arguments)
}

/// The begin of a stream, and the part of it that repeats without end.
const STREAMS: [(&str, &str); 5] = [
    ("$536870912\r\n", "aaaaaaaa"),
    ("+", "aaaaaaaa"),
    ("*100000000\r\n", ":1\r\n"),
    ("", ":1\r\n"),
    ("", ">2\r\n+message\r\n+a\r\n"),
];

/// A server that replies to PING, and to the next command with one of the streams.
struct Flood {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The most bytes that one connection took.
    most_bytes: Arc<AtomicUsize>,
}

fn flood() -> Flood {
    let (connections, most_bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, most) = (Arc::clone(&connections), Arc::clone(&most_bytes));
    let address = serve(move |mut stream| {
        let (begin, repeated) = STREAMS[count.load(SeqCst) % STREAMS.len()];
        let mut commands = BufReader::new(stream.try_clone().unwrap());
        if command(&mut commands).is_none() || stream.write_all(b"+PONG\r\n").is_err() {
            return;
        }
        if command(&mut commands).is_none() {
            return;
        }
        let repeated = repeated.repeat(4_000);
        let mut sent = 0;
        let mut reply = stream.write_all(begin.as_bytes());
        while reply.is_ok() && sent < 1 << 30 {
            reply = stream.write_all(repeated.as_bytes());
            sent += repeated.len();
            most.fetch_max(sent, SeqCst);
        }
        count.fetch_add(1, SeqCst);
    });
    Flood { address, connections, most_bytes }
}

#[test]
fn replies_without_end_are_cut_off_in_every_topology() {
    for (kind, prefix) in [("single", ""), ("cluster", ""), ("sentinel", "main,")] {
        let server = flood();
        let url = format!("{prefix}{}", server.address);
        let settings = [("REDIS_URL", url.as_str()), ("REDIS_TYPE", kind), ("LOG_LEVEL", "info")];
        let service = Tollgate::start(RULES, &settings);
        let before = service.peak_memory();
        eventually("connections", || server.connections.load(SeqCst) >= 2 * STREAMS.len());
        let more = service.peak_memory().saturating_sub(before) >> 20;
        let most = server.most_bytes.load(SeqCst) >> 20;
        let log = service.log();
        println!("{kind}: {more} MiB, {most} MiB sent, {} lines", log.lines().count());
        // With the buffers of both sockets, which a busy machine fills. The server has 1 GiB.
        assert!(more < 100 && most < 64, "{kind}: {more} MiB of {most} MiB");
        assert!(log.lines().count() < 40, "{kind}: {log}");
        assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 500);
        let reason = if kind == "cluster" { "because of its replies" } else { "is longer than" };
        service.wait_for_log(reason);
    }
}

/// Each call is redirected to a port that nothing listens on, and that is new.
#[test]
fn redirections_to_ever_new_nodes_do_not_fill_the_log() {
    let next_port = Arc::new(AtomicUsize::new(20_000));
    let ports = Arc::clone(&next_port);
    let address = serve(move |mut stream| {
        let own = stream.local_addr().unwrap();
        let mut commands = BufReader::new(stream.try_clone().unwrap());
        while let Some(arguments) = command(&mut commands) {
            let reply = match arguments[0].as_str() {
                "PING" => "+PONG\r\n".to_owned(),
                "CLUSTER" => format!(
                    "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{}\r\n$1\r\na\r\n",
                    own.port()
                ),
                _ => format!("-MOVED 1 127.0.0.2:{}\r\n", ports.fetch_add(1, SeqCst)),
            };
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    });
    let url = address.to_string();
    let service = Tollgate::start(RULES, &[("REDIS_URL", &url), ("REDIS_TYPE", "cluster")]);
    eventually("redirections", || {
        for user in 0..50 {
            let body = json_request("shop", &[("user", &user.to_string())]);
            http::send(service.http, "POST", "/json", &[], body.as_bytes());
        }
        20_400 < next_port.load(SeqCst)
    });
    let log = service.log();
    let lines = log.lines().count();
    println!("{lines} lines");
    assert!(lines < 150 && log.contains("127.0.0.2:20"), "{lines}: {log}");
}
