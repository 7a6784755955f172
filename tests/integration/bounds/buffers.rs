//! Peers that fill the buffers of connections, and not those of calls.

use tokio::net::TcpStream;

use super::*;

/// The budget of these tests. It is small, so that the memory without a bound is far more.
const BUDGET: (&str, &str) = ("MAX_BYTES_IN_FLIGHT", "4194304");

/// The most memory that such an attack may cost.
const MOST: usize = 40 * MIB;

/// So many connections of another address than that of the clients, which each send this. The
/// server may close them.
async fn send_on_each(to: SocketAddr, connections: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 5), 0).into()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        let _ = timeout(TIMEOUT, stream.write_all(bytes)).await.expect("a write");
        open.push(stream);
    }
    open
}

/// Sends this on so many connections, while clients beside see no error.
async fn withstands(name: &str, connections: usize, to_grpc: bool, bytes: &[u8]) {
    let service = Tollgate::start_ready(RULES, &[BUDGET]);
    let beside = Beside::start(&service).await;
    beside.more_calls().await;
    let idle = service.resident_memory();
    let to = if to_grpc { service.grpc } else { service.http };
    let open = send_on_each(to, connections, bytes).await;
    // All has been read once calls on new connections are answered.
    for _ in 0..3 {
        assert_eq!(service.post_json(&http::json_request("shop", &[("user", "ann")])).status, 200);
        beside.more_calls().await;
    }
    let cost = service.peak_memory().saturating_sub(idle);
    drop(open);
    let errors = beside.stop().await;
    println!("{name}: {} KiB; {:?}", cost >> 10, cut_off(&service));
    assert!(errors.is_empty(), "{name}: {errors:?}");
    assert!(cost <= MOST, "{name}: {} MiB", cost / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_heads_of_many_connections_are_bounded() {
    let head = [b"GET /ready HTTP/1.1\r\nx: ", &[b'y'; 31_000][..]].concat();
    withstands("half heads", 900, false, &head).await;
}

/// An HTTP/2 connection that begins with this.
fn connection(frames: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", frames].concat()
}

fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    [&length[1..], &[1, flags], &stream.to_be_bytes(), block].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_count_as_what_they_become() {
    // `x: y`, to be kept by the server, and then references to it of one byte each.
    let block = [&[0x40, 1, b'x', 1, b'y'][..], &[0x80 | 62; 470]].concat();
    withstands("headers without an end", 900, true, &connection(&headers(0, 1, &block))).await;
}

/// Calls that end at once, and each add a `:path` of one byte to the table of the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_the_table_of_headers_count_as_what_they_keep() {
    // POST, http, `:path: /` to be kept, and `x` with 15,000 bytes not to be kept.
    let start = [0x83, 0x86, 0x44, 1, b'/', 0, 1, b'x', 0x7f, 0x99, 0x74];
    let block = [&start[..], &[b'y'; 15_000]].concat();
    let mut calls = Vec::new();
    for call in 0..110 {
        // With an end of the headers and of the call.
        calls.extend(headers(5, 2 * call + 1, &block));
    }
    withstands("entries of the table", 60, true, &connection(&calls)).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_head_ends_the_connection() {
    let service = InProcess::start(RULES, &[]).await;
    for (bytes, ends) in [(7_000, false), (30_000, true)] {
        let mut stream = service.dialers.http.connect().await.unwrap();
        let long = "y".repeat(bytes);
        let request = format!("GET /healthcheck HTTP/1.1\r\nhost: test\r\nx: {long}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(1), stream.read_to_string(&mut answer)).await;
        assert_eq!(read.is_ok(), ends, "{bytes}");
        // Only with an end there is a whole answer here.
        assert_eq!(answer.contains("connection: close"), ends, "{answer}");
    }
}
