//! gRPC on a unix socket, and on addresses of both families.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream as Blocking},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use prost::Message;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};

use crate::support::{
    SOON,
    certificates::{self, Authority, Secret},
    fresh,
    grpc::ask,
    http,
    process::Process,
    raw::Raw,
    tollgate::Tollgate,
};

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 3 }
";

/// A service on a socket, and the directory of both.
struct OnSocket {
    files: TempDir,
    process: Process,
}

impl OnSocket {
    fn start(path: &Path, more: &[(&str, &str)]) -> Self {
        let path = path.to_str().unwrap();
        let settings = [&[("GRPC_UDS", path), ("DRAIN_DELAY", "0s")], more].concat();
        let (files, mut process) = Tollgate::launch(RULES, &settings);
        let listens = |log: &str| log.contains(&format!("\"unix:{path}\"")).then_some(());
        process.until("listens on its socket", listens);
        process.until("listens for HTTP", |log| Tollgate::address(log, "debug"));
        Self { files, process }
    }

    fn end(mut self) {
        self.process.signal("TERM");
        assert!(self.process.ended(SOON).success());
        drop(self.files);
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("grpc.sock")
}

async fn answers(raw: &Raw) -> bool {
    let request = ask("shop", &[("user", &fresh())]).encode_to_vec();
    raw.try_ask(request).await.is_ok_and(|(code, _)| code == tonic::Code::Ok)
}

async fn connect(path: &Path) -> Raw {
    Raw::over(UnixStream::connect(path).await.unwrap()).await.unwrap()
}

fn hit(path: &Path) -> Option<i32> {
    let address = format!("unix:{}", path.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["hit", "--domain", "shop", "--address", &address, "user=ann"]);
    command.output().unwrap().status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_takes_the_place_of_the_port_and_is_gone_at_the_end() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let service = OnSocket::start(&path, &[]);
    assert!(answers(&connect(&path).await).await);
    assert_eq!([(); 4].map(|()| hit(&path)), [0, 0, 0, 1].map(Some));
    service.end();
    assert!(!path.exists());
    assert_eq!(hit(&path), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let service = OnSocket::start(&path, &[]);
    assert!(answers(&connect(&path).await).await);

    let refused = |path: &Path, expected: &str| {
        let settings = [("GRPC_UDS", path.to_str().unwrap())];
        let (_files, mut process) = Tollgate::launch(RULES, &settings);
        assert_eq!(process.ended(SOON).code(), Some(2));
        let log = process.log();
        assert!(log.contains(path.to_str().unwrap()) && log.contains(expected), "{log}");
    };
    refused(&path, "uses this socket");
    assert!(answers(&connect(&path).await).await, "that one goes on");
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    refused(&file, "something else than a socket");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    refused(directory.path(), "something else than a socket");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused(&link, "something else than a socket");
    refused(&directory.path().join("none/grpc.sock"), "No such file");

    // Another has taken its place, and keeps it.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    service.end();
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited_as_those_of_a_port_are() {
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let settings = [
        ("MAX_CONNECTIONS", "1"),
        ("GRPC_MAX_CONNECTION_AGE", "1s"),
        ("GRPC_MAX_CONNECTION_AGE_GRACE", "10ms"),
    ];
    let service = OnSocket::start(&path, &settings);
    // There is room for the next once this has been silent for long enough.
    let silent = Blocking::connect(&path).unwrap();
    let raw = connect(&path).await;
    assert!(answers(&raw).await);
    // A call without an end, on a connection that is too old for it.
    let endless = raw.begin().await;
    let next = connect(&path).await;
    assert!(answers(&next).await);
    drop((endless, silent, next, raw));
    service.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_encrypted_if_it_is_asked_for() {
    let authority = Authority::new();
    let (secret, _) = Secret::new(|it| authority.write(it, "localhost"));
    let file = |it: &str| secret.path(it).display().to_string();
    let directory = TempDir::new().unwrap();
    let path = socket(&directory);
    let settings = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", &*file("tls.crt")),
        ("GRPC_SERVER_TLS_KEY", &*file("tls.key")),
    ];
    let service = OnSocket::start(&path, &settings);
    let config = authority.client(None, rustls::ALL_VERSIONS);
    let stream = UnixStream::connect(&path).await.unwrap();
    let stream = certificates::connect(&config, "localhost", stream).await.unwrap();
    assert!(answers(&Raw::over(stream).await.unwrap()).await);
    let plain = Raw::over(UnixStream::connect(&path).await.unwrap()).await;
    assert!(plain.is_err() || !answers(&plain.unwrap()).await);
    service.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_colons_are_both_families() {
    let hosts = ["HOST", "GRPC_HOST", "DEBUG_HOST"].map(|it| (it, "::"));
    let service = Tollgate::start(RULES, &hosts);
    for host in ["127.0.0.1", "::1"] {
        let at = |port: u16| (host.parse::<std::net::IpAddr>().unwrap(), port).into();
        let raw = Raw::connect(at(service.grpc.port())).await;
        assert!(answers(&raw).await, "{host}");
        assert_eq!(http::get(at(service.http.port()), "/healthcheck", &[]).status, 200, "{host}");
        assert_eq!(http::get(at(service.debug.port()), "/", &[]).status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_begin_together_do_not_end_together() {
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
    let mut ends = tokio::time::timeout(SOON, connections.join_all()).await.unwrap();
    ends.sort();
    // They are about 25 ms from one another, over a second.
    let apart = |it: &&[tokio::time::Instant]| Duration::from_millis(1) < it[1] - it[0];
    let spread = ends.windows(2).filter(apart).count();
    assert!(20 <= spread, "{spread} of 39");
}
