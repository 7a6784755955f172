//! TLS of the HTTP port, and the plain port for probes beside it.

use std::{fs, io};

use testkit::{http::Reply, network::unused_host, prometheus::Metrics, wait::eventually_async};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A service whose HTTP port uses TLS. Its metrics and health are on ports of their own.
struct Service {
    tollgate: Tollgate,
    probes: SocketAddr,
}

impl Service {
    fn start(secret: &MountedSecret, more: &[(&str, &str)]) -> Self {
        let (certificate, key) = (path(secret, "tls.crt"), path(secret, "tls.key"));
        let host = unused_host();
        let probes = SocketAddr::new(host.into(), 62_082);
        let address = probes.to_string();
        let mut settings = vec![
            ("HTTP_SERVER_USE_TLS", "true"),
            ("HTTP_SERVER_TLS_CERT", &*certificate),
            ("HTTP_SERVER_TLS_KEY", &*key),
            ("PROBE_ADDR", &address),
            ("USE_PROMETHEUS", "true"),
        ];
        settings.extend(more);
        Self { tollgate: Tollgate::start_at(host, RULES, &settings), probes }
    }

    /// With clients that have a certificate of the secret's CA for this name.
    fn start_for(name: &str, secret: &MountedSecret) -> Self {
        let ca = path(secret, "ca.crt");
        Self::start(secret, &[("HTTP_CLIENT_TLS_CACERT", &ca), ("HTTP_CLIENT_TLS_SAN", name)])
    }

    fn metric(&self, name: &str) -> f64 {
        self.metric_of("http", name)
    }

    fn metric_of(&self, listener: &str, name: &str) -> f64 {
        let page = Metrics::scrape(self.tollgate.prometheus, "/metrics");
        page.value(&format!("tollgate_{name}"), &[("listener", listener)])
    }

    async fn connect(&self, config: &ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        shake_hands(self.tollgate.http, config).await
    }

    /// The answer to one request on a new connection.
    async fn get(&self, path: &str, config: &ClientConfig) -> io::Result<Reply> {
        let mut stream = self.connect(config).await?;
        stream.write_all(&http::request("GET", path, &[], b"")).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        http::parse(&reply).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn decide(&self, config: &ClientConfig) -> io::Result<u16> {
        let mut stream = self.connect(config).await?;
        ask(&mut stream).await
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self, config: &ClientConfig) -> Vec<u8> {
        let stream = self.connect(config).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn until_shown(&self, config: &ClientConfig, expected: &Identity) {
        eventually_async("the new certificate", async || {
            self.shown(config).await == expected.certificate.der().as_ref()
        })
        .await;
    }
}

fn client(
    authority: &CertificateAuthority,
    identity: Option<Identity>,
    protocols: &[&str],
) -> ClientConfig {
    let mut config = authority.client_config(identity, &VERSIONS);
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    config
}

/// Asks for a decision on an open connection, which stays open. Returns the status.
async fn ask(stream: &mut TlsStream<TcpStream>) -> io::Result<u16> {
    let body = http::json_request("shop", &[("user", &unique_value())]);
    let head =
        format!("POST /json HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await?;
    let mut reply = Vec::new();
    while !reply.ends_with(b"}]}") {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(http::parse(&reply).unwrap().status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_served_over_both_versions_of_tls() {
    let authority = CertificateAuthority::new();
    let service = Service::start(&secret(&authority), &[]);
    for version in VERSIONS {
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
            let mut config = authority.client_config(None, &[version]);
            config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
            let mut stream = service.connect(&config).await.unwrap();
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(agreed, (!protocols.is_empty()).then(|| b"http/1.1".to_vec()));
            for _ in 0..3 {
                assert_eq!(ask(&mut stream).await.unwrap(), 200);
            }
            assert_eq!(service.get("/ready", &config).await.unwrap().status, 200);
        }
    }
    let page = service.get("/metrics", &client(&authority, None, &[])).await.unwrap();
    assert_eq!(
        Metrics::from_reply(&page)
            .value("tollgate_failed_handshakes_total", &[("listener", "http")]),
        0.0
    );
    let error = service.connect(&client(&authority, None, &["h2"])).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    service.tollgate.wait_for_log("a TLS handshake for HTTP failed: ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_http_are_authenticated_by_their_certificates() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let service = Service::start_for("api", &secret(&authority));
    let known = client(&authority, Some(authority.sign("api")), &["http/1.1"]);
    assert_eq!(service.decide(&known).await.unwrap(), 200);
    for stranger in [None, Some(other.sign("api")), Some(authority.sign("web"))] {
        let config = client(&authority, stranger, &["http/1.1"]);
        assert!(service.decide(&config).await.is_err());
        assert!(service.get("/healthcheck", &config).await.is_err());
    }
    eventually("failures", || service.metric("failed_handshakes_total") == 6.0);
    assert_eq!(service.decide(&known).await.unwrap(), 200);
}

/// Neither a client nor a prober may take an answer of the TLS port for a success.
#[test]
fn a_plain_request_to_the_tls_port_gets_no_answer() {
    let authority = CertificateAuthority::new();
    let service = Service::start(&secret(&authority), &[]);
    let body = http::json_request("shop", &[("user", "ann")]);
    for beginning in [
        http::request("POST", "/json", &[], body.as_bytes()),
        http::request("GET", "/healthcheck", &[], b""),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let mut plain = Plain::connect(service.tollgate.http).unwrap();
        plain.set_read_timeout(Some(TIMEOUT)).unwrap();
        plain.write_all(&beginning).unwrap();
        let mut rest = Vec::new();
        // The connection may be reset.
        let _ = plain.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP") && rest.len() < 16, "an alert at most: {rest:?}");
    }
    eventually("failures", || service.metric("failed_handshakes_total") == 4.0);
    assert_eq!(service.metric_of("http", "connections"), 0.0, "a handshake is no connection");
}

#[test]
fn probes_have_a_plain_port_that_serves_nothing_else() {
    let authority = CertificateAuthority::new();
    let service = Service::start_for("api", &secret(&authority));
    for path in ["/healthcheck", "/ready"] {
        assert_eq!(http::get(service.probes, path, &[]).status, 200, "{path}");
    }
    for path in ["/json", "/metrics", "/rlconfig", "/stats", "/"] {
        assert_eq!(http::get(service.probes, path, &[]).status, 404, "{path}");
    }
    let mut open = Plain::connect(service.probes).unwrap();
    open.write_all(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    open.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    eventually("one connection", || service.metric_of("probes", "connections") == 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_certificates_apply_to_new_connections_of_http() {
    let authority = CertificateAuthority::new();
    let (mut secret, old) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let service = Service::start(&secret, &[]);
    let config = client(&authority, None, &["http/1.1"]);
    service.until_shown(&config, &old).await;
    let mut open = service.connect(&config).await.unwrap();
    assert_eq!(ask(&mut open).await.unwrap(), 200);

    let key = fs::read(secret.path("tls.key")).unwrap();
    let half = secret.replace(|it| {
        let new = authority.write(it, "localhost");
        fs::write(it.join("tls.key"), &key).unwrap();
        new
    });
    eventually("the refusal", || service.metric("certificate_rejected") == 1.0);
    service.tollgate.wait_for_log("new certificates for HTTP rejected, the old ones stay active: ");
    assert_eq!(service.shown(&config).await, old.certificate.der().as_ref());
    fs::write(secret.path("tls.key"), half.key_pem()).unwrap();
    service.until_shown(&config, &half).await;
    eventually("the statistics", || {
        service.metric("certificate_rejected") == 0.0
            && service.metric("certificate_load_success_total") == 2.0
    });
    assert_eq!(service.decide(&config).await.unwrap(), 200);
    assert_eq!(ask(&mut open).await.unwrap(), 200, "what was open goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_handshakes_of_http_keep_out_nobody_and_delay_no_exit() {
    let authority = CertificateAuthority::new();
    let settings = [("MAX_CONNECTIONS", "4"), ("DRAIN_DELAY", "0s"), ("DRAIN_TIMEOUT", "1h")];
    let mut service = Service::start(&secret(&authority), &settings);
    let config = client(&authority, None, &["http/1.1"]);
    let mut open = service.connect(&config).await.unwrap();
    assert_eq!(ask(&mut open).await.unwrap(), 200);
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(service.tollgate.http).await.unwrap();
        // The beginning of a handshake.
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
        unfinished.push(stream);
    }
    let mut next = service.connect(&config).await.unwrap();
    assert_eq!(ask(&mut next).await.unwrap(), 200);
    assert_eq!(ask(&mut open).await.unwrap(), 200);
    assert!(service.metric("unfinished_handshakes") <= 16.0);
    assert_eq!(service.metric("connections"), 2.0);
    service.tollgate.terminate();
    // The drain timeout is much longer.
    assert!(service.tollgate.wait_for_exit().success());
    drop((open, next, unfinished));
}

#[test]
fn tollgate_hit_names_the_mistake_at_an_https_port() {
    let authority = CertificateAuthority::new();
    let secret = secret(&authority);
    let service = Service::start(&secret, &[]);
    let address = service.tollgate.http.to_string();
    let mut hit = Command::new(Tollgate::binary());
    hit.args(["hit", "--domain", "shop", "--address", &address, "--grpc-use-tls", "user=ann"]);
    hit.args(["--grpc-server-ca-file", &path(&secret, "ca.crt")]);
    let output = hit.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("this port does not speak gRPC: name the gRPC port"), "{error}");
}

#[test]
fn a_key_of_another_certificate_names_its_setting_and_file() {
    let authority = CertificateAuthority::new();
    let (secret, other) = (secret(&authority), secret(&authority));
    let key = path(&other, "tls.key");
    let mut process = Tollgate::launch(
        RULES,
        &[
            ("HTTP_SERVER_USE_TLS", "true"),
            ("HTTP_SERVER_TLS_CERT", &path(&secret, "tls.crt")),
            ("HTTP_SERVER_TLS_KEY", &key),
        ],
    );
    assert_eq!(process.wait_for_exit().code(), Some(2));
    let log = process.log();
    assert!(log.contains("HTTP_SERVER_TLS_KEY=") && log.contains(&key), "{log}");
    assert!(!log.contains("listening"), "{log}");
}
