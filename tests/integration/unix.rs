//! gRPC on a Unix socket, and on both IP versions.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream as Blocking},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use prost::Message;
use tempfile::TempDir;
use testkit::{
    certificates::{self, CertificateAuthority, MountedSecret},
    grpc::request_for,
    http,
    network::free_port,
    raw_grpc::RawGrpc,
    tollgate::Tollgate,
    unique_value,
    wait::{TIMEOUT, eventually_async},
};
use tokio::net::{TcpStream, UnixStream};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

fn start(path: &Path, more: &[(&str, &str)]) -> Tollgate {
    let path = path.to_str().unwrap();
    Tollgate::start(RULES, &[&[("GRPC_UDS", path), ("DRAIN_DELAY", "0s")], more].concat())
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("grpc.sock")
}

async fn answers(raw: &RawGrpc) -> bool {
    let request = request_for("shop", &[("user", &unique_value())]).encode_to_vec();
    raw.try_call(request).await.is_ok_and(|reply| reply.code == tonic::Code::Ok)
}

async fn connect(path: &Path) -> RawGrpc {
    RawGrpc::over(UnixStream::connect(path).await.unwrap()).await.unwrap()
}

fn hit(path: &Path) -> Option<i32> {
    let address = format!("unix:{}", path.display());
    let mut command = Command::new(Tollgate::binary());
    command.args(["hit", "--domain", "shop", "--address", &address, "user=ann"]);
    command.output().unwrap().status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_replaces_the_port_and_is_removed_at_shutdown() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let mut service = start(&path, &[]);
    assert!(answers(&connect(&path).await).await);
    for expected in [0, 0, 0, 1] {
        assert_eq!(hit(&path), Some(expected));
    }
    service.stop();
    assert!(!path.exists());
    assert_eq!(hit(&path), Some(2));
}

/// Checks that a process with this socket ends with an error.
fn check_start_fails(path: &Path, expected: &str) {
    let settings = [("GRPC_UDS", path.to_str().unwrap())];
    let mut process = Tollgate::launch(RULES, &settings);
    assert_eq!(process.wait_for_exit().code(), Some(2));
    let log = process.log();
    assert!(log.contains(path.to_str().unwrap()) && log.contains(expected), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_stale_socket_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut service = start(&path, &[]);
    assert!(answers(&connect(&path).await).await);

    check_start_fails(&path, "uses this socket");
    assert!(answers(&connect(&path).await).await, "that one goes on");
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    check_start_fails(&file, "is not a socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    check_start_fails(directory.path(), "is not a socket");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    check_start_fails(&link, "is not a socket");
    check_start_fails(&directory.path().join("none/grpc.sock"), "No such file");

    // Another process has replaced the socket, and keeps it.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    service.stop();
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_socket_are_limited() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let settings = [
        ("MAX_CONNECTIONS", "1"),
        ("GRPC_MAX_CONNECTION_AGE", "1s"),
        ("GRPC_MAX_CONNECTION_AGE_GRACE", "10ms"),
    ];
    let mut service = start(&path, &settings);
    // Closed after a while, as it sends nothing.
    let silent = Blocking::connect(&path).unwrap();
    let raw = connect(&path).await;
    assert!(answers(&raw).await);
    // An endless call on a connection that reaches its maximum age.
    let endless = raw.open_call().await;
    // In favour of others, once no call was answered for 2 s, or at that age.
    eventually_async("a place", async || {
        let stream = UnixStream::connect(&path).await.unwrap();
        match RawGrpc::over(stream).await {
            Ok(next) => answers(&next).await,
            Err(_) => false,
        }
    })
    .await;
    drop((endless, silent, raw));
    service.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_supports_tls() {
    let authority = CertificateAuthority::new();
    let (secret, _) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let file = |it: &str| secret.path(it).display().to_string();
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let settings = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", &*file("tls.crt")),
        ("GRPC_SERVER_TLS_KEY", &*file("tls.key")),
    ];
    let mut service = start(&path, &settings);
    let config = authority.client_config(None, rustls::ALL_VERSIONS);
    let stream = UnixStream::connect(&path).await.unwrap();
    let stream = certificates::connect(&config, "localhost", stream).await.unwrap();
    assert!(answers(&RawGrpc::over(stream).await.unwrap()).await);
    let plain = RawGrpc::over(UnixStream::connect(&path).await.unwrap()).await;
    assert!(plain.is_err() || !answers(&plain.unwrap()).await);
    service.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unspecified_ipv6_address_serves_both_ip_versions() {
    let ports = [free_port().to_string(), free_port().to_string(), free_port().to_string()];
    let settings = [
        ("HOST", "::"),
        ("PORT", ports[0].as_str()),
        ("GRPC_HOST", "::"),
        ("GRPC_PORT", &ports[1]),
        ("DEBUG_HOST", "::"),
        ("DEBUG_PORT", &ports[2]),
    ];
    let service = Tollgate::start(RULES, &settings);
    for host in ["127.0.0.1", "::1"] {
        let ip: std::net::IpAddr = host.parse().unwrap();
        let raw = RawGrpc::connect((ip, service.grpc.port()).into()).await;
        assert!(answers(&raw).await, "{host}");
        assert_eq!(
            http::get((ip, service.http.port()).into(), "/healthcheck", &[]).status,
            200,
            "{host}"
        );
        assert_eq!(http::get((ip, service.debug.port()).into(), "/", &[]).status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_reach_their_maximum_age_at_different_times() {
    let service = Tollgate::start(RULES, &[("GRPC_MAX_CONNECTION_AGE", "5s")]);
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let stream = TcpStream::connect(service.grpc).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        connections.spawn(async {
            connection.await.unwrap();
            drop(sender);
            tokio::time::Instant::now()
        });
    }
    let mut ends = tokio::time::timeout(TIMEOUT, connections.join_all()).await.unwrap();
    ends.sort();
    // The expected distance is 25 ms.
    let mut spread = 0;
    for pair in ends.windows(2) {
        spread += usize::from(Duration::from_millis(1) < pair[1] - pair[0]);
    }
    assert!(20 <= spread, "{spread} of 39");
}
