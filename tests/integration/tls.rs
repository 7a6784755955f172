//! TLS: certificates of clients, and handshakes that fail or do not end.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream as Plain},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use testkit::{
    certificates::{self, CertificateAuthority, Identity, MountedSecret},
    grpc::request_for,
    http,
    network::free_port,
    raw_grpc::RawGrpc,
    tollgate::Tollgate,
    unique_value,
    wait::{TIMEOUT, eventually},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

mod http_port;
pub(crate) mod reload;

const RULES: &str = "
domain: shop
descriptors:
- key: user
  rate_limit: { unit: year, requests_per_unit: 1000000 }
";

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// Starts a service with the certificates of `secret`. Client certificates are verified
/// if `check`, a list of names, is not empty.
fn start(secret: &MountedSecret, check: &[&str], more: &[(&str, &str)]) -> Tollgate {
    let (certificate, key) = (path(secret, "tls.crt"), path(secret, "tls.key"));
    let ca = path(secret, "ca.crt");
    let mut settings = vec![
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", &*certificate),
        ("GRPC_SERVER_TLS_KEY", &*key),
    ];
    if !check.is_empty() {
        settings.push(("GRPC_CLIENT_TLS_CACERT", &*ca));
    }
    for name in check {
        settings.push(("GRPC_CLIENT_TLS_SAN", *name));
    }
    settings.extend(more);
    Tollgate::start(RULES, &settings)
}

fn sign_for(authority: &CertificateAuthority, purpose: ExtendedKeyUsagePurpose) -> Identity {
    authority.sign_for("envoy", vec![purpose])
}

fn path(secret: &MountedSecret, name: &str) -> String {
    secret.path(name).display().to_string()
}

fn secret(authority: &CertificateAuthority) -> MountedSecret {
    MountedSecret::new(|directory| authority.write(directory, "localhost")).0
}

async fn shake_hands(
    to: SocketAddr,
    config: &ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await.unwrap();
    certificates::connect(config, "localhost", stream).await
}

async fn connect(to: SocketAddr, config: &ClientConfig) -> RawGrpc {
    RawGrpc::over(shake_hands(to, config).await.unwrap()).await.unwrap()
}

/// Whether a client with this configuration is served on a new connection.
async fn is_served(to: SocketAddr, config: &ClientConfig) -> bool {
    // With TLS 1.3 the client completes the handshake before the server verifies its
    // certificate.
    let Ok(stream) = shake_hands(to, config).await else { return false };
    let Ok(raw) = RawGrpc::over(stream).await else { return false };
    answers(&raw).await
}

async fn answers(raw: &RawGrpc) -> bool {
    let request = request_for("shop", &[("user", &unique_value())]).encode_to_vec();
    raw.try_call(request).await.is_ok_and(|reply| reply.code == Code::Ok)
}

fn failures(service: &Tollgate) -> f64 {
    service.metrics().value("tollgate_failed_handshakes_total", &[("listener", "grpc")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_tls_and_health_checks_work() {
    let authority = CertificateAuthority::new();
    let service = start(&secret(&authority), &[], &[]);
    for version in VERSIONS {
        let stream =
            shake_hands(service.grpc, &authority.client_config(None, &[version])).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert!(answers(&RawGrpc::over(stream).await.unwrap()).await);
    }
    let tls = ClientTlsConfig::new().domain_name("localhost");
    let tls = tls.ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Endpoint::from_shared(format!("https://{}", service.grpc)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: "ratelimit".to_owned() };
    let status = HealthClient::new(channel).check(request).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    assert_eq!(failures(&service), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_authenticated_by_their_certificates() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), other.pem()).unwrap();
    // The other CA is the one of the system.
    let system = [("SSL_CERT_FILE", bundle.path().to_str().unwrap())];
    let secret = secret(&authority);
    let by_name = start(&secret, &["envoy"], &system);
    let by_authority = {
        let ca = path(&secret, "ca.crt");
        start(&secret, &[], &[("GRPC_CLIENT_TLS_CACERT", &ca), system[0]])
    };
    for version in VERSIONS {
        for (case, expected) in [
            ("no certificate", [false, false]),
            ("another authority", [false, false]),
            ("another name", [true, false]),
            ("for servers", [false, false]),
            ("for clients", [true; 2]),
            ("for anything", [true; 2]),
        ] {
            let identity = match case {
                "no certificate" => None,
                "another authority" => Some(other.sign("envoy")),
                "another name" => Some(authority.sign("curl")),
                "for servers" => Some(sign_for(&authority, ExtendedKeyUsagePurpose::ServerAuth)),
                "for clients" => Some(sign_for(&authority, ExtendedKeyUsagePurpose::ClientAuth)),
                _ => Some(authority.sign("envoy")),
            };
            let config = authority.client_config(identity, &[version]);
            let found = [
                is_served(by_authority.grpc, &config).await,
                is_served(by_name.grpc, &config).await,
            ];
            assert_eq!(found, expected, "{case}, {:?}", version.version);
        }
    }
    assert_eq!([&by_authority, &by_name].map(failures), [6.0, 8.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_client_is_trusted_if_its_certificate_is_in_the_ca_file() {
    let authority = CertificateAuthority::new();
    let client = Identity::self_signed("envoy");
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("clients.crt");
    std::fs::write(&ca, client.certificate_pem()).unwrap();
    let ca = [("GRPC_CLIENT_TLS_CACERT", ca.to_str().unwrap())];
    let secret = secret(&authority);
    let service = start(&secret, &[], &ca);
    let by_other_name = start(&secret, &[], &[ca[0], ("GRPC_CLIENT_TLS_SAN", "gateway")]);
    let config = authority.client_config(Some(client), &VERSIONS);
    assert!(is_served(service.grpc, &config).await);
    assert!(!is_served(by_other_name.grpc, &config).await);
    by_other_name.wait_for_log("certificate not valid for name");
    // The same name, and another key.
    let other = Identity::self_signed("envoy");
    assert!(!is_served(service.grpc, &authority.client_config(Some(other), &VERSIONS)).await);
    service.wait_for_log("it says CA:TRUE, expected CA:FALSE; or add this certificate itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_are_rejected_at_once() {
    let authority = CertificateAuthority::new();
    let service = start(&secret(&authority), &[], &[("LOG_LEVEL", "debug")]);
    for beginning in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut plain = Plain::connect(service.grpc).unwrap();
        plain.set_read_timeout(Some(TIMEOUT)).unwrap();
        plain.write_all(beginning.as_bytes()).unwrap();
        let mut rest = Vec::new();
        // The connection may be reset.
        let _ = plain.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP") && rest.len() < 16, "an alert at most: {rest:?}");
    }
    for version in VERSIONS {
        let mut config = authority.client_config(None, &[version]);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let error = shake_hands(service.grpc, &config).await.unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        config.alpn_protocols = Vec::new();
        assert!(!is_served(service.grpc, &config).await, "without ALPN");
    }
    eventually("failures", || failures(&service) == 6.0);
    let log = service.log();
    assert!(log.contains("does not offer h2 by ALPN"), "{log}");
    assert!(!log.contains("sent no complete preface"), "at once: {log}");
    assert!(is_served(service.grpc, &authority.client_config(None, &VERSIONS)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_handshakes_delay_neither_clients_nor_the_exit() {
    let authority = CertificateAuthority::new();
    let settings = [("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "1h")];
    let mut service = start(&secret(&authority), &[], &settings);
    // The first bytes of a handshake message of 512 bytes.
    let beginnings = [&b""[..], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]];
    let mut slow = Vec::new();
    for number in 0..300 {
        let mut stream = Plain::connect(service.grpc).unwrap();
        stream.write_all(beginnings[number % 2]).unwrap();
        slow.push(stream);
    }
    let config = authority.client_config(None, &VERSIONS);
    assert!(is_served(service.grpc, &config).await);
    let silent = shake_hands(service.grpc, &config).await.unwrap();
    service.terminate();
    // The drain timeout is much longer.
    assert!(service.wait_for_exit().success());
    drop((slow, silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_in_favour_of_others() {
    let authority = CertificateAuthority::new();
    let service = start(
        &secret(&authority),
        &[],
        &[("MAX_CONNECTIONS", "2"), ("MAX_CONNECTIONS_PER_PEER", "2")],
    );
    let config = authority.client_config(None, &VERSIONS);
    let _before = TcpStream::connect(service.grpc).await.unwrap();
    let _after = shake_hands(service.grpc, &config).await.unwrap();
    let (first, second) =
        (connect(service.grpc, &config).await, connect(service.grpc, &config).await);
    assert!(answers(&first).await && answers(&second).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_handshakes_take_no_places_of_connections() {
    let authority = CertificateAuthority::new();
    let service = start(&secret(&authority), &[], &[("MAX_CONNECTIONS", "4")]);
    let config = authority.client_config(None, &VERSIONS);
    let established = connect(service.grpc, &config).await;
    assert!(answers(&established).await);
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(service.grpc).await.unwrap();
        // The beginning of a handshake.
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
        unfinished.push(stream);
    }
    let begin = Instant::now();
    let next = connect(service.grpc, &config).await;
    assert!(answers(&next).await && answers(&established).await);
    // Earlier than the timeout of handshakes.
    assert!(begin.elapsed() < Duration::from_secs(8));
    let metrics = service.metrics();
    let listener = [("listener", "grpc")];
    assert!(metrics.value("tollgate_unfinished_handshakes", &listener) <= 16.0);
    assert_eq!(metrics.value("tollgate_connections", &listener), 2.0);
    service.wait_for_log("unfinished handshakes");
}

/// The beginning of a ClientHello of 60,000 bytes, in records of 16 KiB.
fn half_hello() -> Vec<u8> {
    let hello = [&[1, 0, 0xea, 0x60][..], &[b'x'; 50_000]].concat();
    let mut records = Vec::new();
    for part in hello.chunks(16 << 10) {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        records.extend([&[0x16, 3, 1], &length[..], part].concat());
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_are_bounded_in_bytes() {
    let authority = CertificateAuthority::new();
    let settings = [("MAX_BYTES_IN_FLIGHT", "4194304")];
    let service = start(&secret(&authority), &[], &settings);
    let config = authority.client_config(None, &VERSIONS);
    let established = connect(service.grpc, &config).await;
    assert!(answers(&established).await);
    let idle = service.resident_memory();
    let mut unfinished = Vec::new();
    for _ in 0..900 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 5), 0).into()).unwrap();
        let mut stream = socket.connect(service.grpc).await.unwrap();
        let _ = stream.write_all(&half_hello()).await;
        unfinished.push(stream);
    }
    let next = connect(service.grpc, &config).await;
    assert!(answers(&next).await && answers(&established).await);
    let cost = service.peak_memory().saturating_sub(idle) >> 20;
    println!("half handshakes: {cost} MiB");
    // Without a bound, they take 60.
    assert!(cost < 40, "{cost} MiB");
}

#[test]
fn a_key_of_another_certificate_is_an_error_before_a_port_opens() {
    let authority = CertificateAuthority::new();
    let (secret, other) = (secret(&authority), secret(&authority));
    let mut process = Tollgate::launch(
        RULES,
        &[
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &path(&secret, "tls.crt")),
            ("GRPC_SERVER_TLS_KEY", &path(&other, "tls.key")),
        ],
    );
    assert_eq!(process.wait_for_exit().code(), Some(2));
    let log = process.log();
    assert!(log.contains("GRPC_SERVER_TLS_KEY=") && !log.contains("listening"), "{log}");
}

#[test]
fn tollgate_hit_supports_tls() {
    let authority = CertificateAuthority::new();
    let secret = secret(&authority);
    let port = free_port().to_string();
    let address = [("GRPC_HOST", "127.0.0.1"), ("GRPC_PORT", port.as_str())];
    let service = start(&secret, &["localhost"], &address);
    let hit = |rest: &[&str]| {
        let address = format!("localhost:{port}");
        let mut command = Command::new(Tollgate::binary());
        command.args(["hit", "--domain", "shop", "--address", &address]).args(rest).arg("user=ann");
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (certificate, key) = (path(&secret, "tls.crt"), path(&secret, "tls.key"));
    let ca = path(&secret, "ca.crt");
    let all = [
        &["--grpc-use-tls", "--grpc-server-ca-file", &*ca][..],
        &["--grpc-cert-file", &*certificate, "--grpc-key-file", &*key],
    ];
    let (code, answer) = hit(&all.concat());
    assert_eq!(code, Some(0));
    assert!(answer.starts_with("OK\n"), "{answer}");
    let without_authority = [&["--grpc-use-tls"], all[1]].concat();
    for (flags, advice) in [
        (&[][..], "set --grpc-use-tls\n"),
        (all[0], " --grpc-cert-file and --grpc-key-file\n"),
        (&without_authority, "name the CA certificate of the service with --grpc-server-ca-file\n"),
    ] {
        let (code, error) = hit(flags);
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(error.ends_with(advice), "{flags:?}: {error}");
    }
    service.wait_for_log("a TLS handshake for gRPC failed: 127.0.0.1:");
}

#[test]
fn tollgate_hit_names_the_mistake_in_the_port_or_its_flags() {
    let service = Tollgate::start(RULES, &[]);
    for (address, flags, advice) in [
        // A busy service may close the connection before its reason has been read.
        (service.http, &[][..], "gRPC is on GRPC_PORT, 8081 by default"),
        (service.grpc, &["--grpc-use-tls"], "this port does not use TLS: omit --grpc-use-tls, "),
        (service.http, &["--grpc-use-tls"], "or name the gRPC port, 8081 by default\n"),
    ] {
        let mut command = Command::new(Tollgate::binary());
        command.args(["hit", "--domain", "shop", "--address", &address.to_string(), "user=ann"]);
        let output = command.args(flags).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(error.contains(advice), "{flags:?}: {error}");
    }
}
