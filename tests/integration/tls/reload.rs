//! Certificates that are replaced while the service runs.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use testkit::wait::eventually_async;

use super::*;

/// The certificate that the server presents on a new connection.
async fn shown(service: &Tollgate, config: &ClientConfig) -> Vec<u8> {
    let stream = shake_hands(service.grpc, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Waits until the server presents this certificate.
pub(crate) async fn until_shown(service: &Tollgate, config: &ClientConfig, expected: &Identity) {
    eventually_async("the new certificate", async || {
        shown(service, config).await == expected.certificate.der().as_ref()
    })
    .await;
}

fn metric(service: &Tollgate, name: &str) -> f64 {
    service.metrics().value(&format!("tollgate_certificate_{name}"), &[("listener", "grpc")])
}

/// Clients that send calls without pause, on open and on new connections.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    clients: JoinSet<usize>,
}

impl Load {
    pub(crate) async fn begin(service: &Tollgate, config: &ClientConfig) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            let raw = connect(service.grpc, config).await;
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            clients.spawn(async move {
                let mut failed = 0;
                while !over.load(Ordering::Relaxed) {
                    failed += usize::from(!answers(&raw).await);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                failed
            });
        }
        for _ in 0..2 {
            let (over, config, to) = (Arc::clone(&over), config.clone(), service.grpc);
            clients.spawn(async move {
                let mut failed = 0;
                while !over.load(Ordering::Relaxed) {
                    failed += usize::from(!is_served(to, &config).await);
                }
                failed
            });
        }
        Self { over, calls, clients }
    }

    /// Waits until every client has made more calls.
    pub(crate) async fn more_calls(&self) {
        let enough = self.calls.load(Ordering::Relaxed) + 100;
        eventually_async("more calls", async || self.calls.load(Ordering::Relaxed) >= enough).await;
    }

    /// Stops the clients, and returns the number of failed calls.
    pub(crate) async fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_files_apply_to_new_connections() {
    let authority = CertificateAuthority::new();
    let files = tempfile::tempdir().unwrap();
    let old = authority.write(files.path(), "localhost");
    let path = |it: &str| files.path().join(it).display().to_string();
    let service = Tollgate::start(
        RULES,
        &[
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &path("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", &path("tls.key")),
        ],
    );
    let config = authority.client_config(None, &VERSIONS);
    assert_eq!(shown(&service, &config).await, old.certificate.der().as_ref());
    let open = connect(service.grpc, &config).await;
    assert!(answers(&open).await);

    let staging = tempfile::tempdir_in(files.path()).unwrap();
    let new = authority.write(staging.path(), "localhost");
    for name in ["tls.crt", "tls.key"] {
        fs::rename(staging.path().join(name), path(name)).unwrap();
    }
    until_shown(&service, &config, &new).await;
    // The same with files that are written in place.
    let newest = authority.write(files.path(), "localhost");
    until_shown(&service, &config, &newest).await;
    assert!(answers(&open).await, "what was open goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_a_secret_is_replaced() {
    let authority = CertificateAuthority::new();
    let (mut secret, old) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let service = start(&secret, &["envoy"], &[]);
    let config = authority.client_config(Some(authority.sign("envoy")), &VERSIONS);
    until_shown(&service, &config, &old).await;
    let load = Load::begin(&service, &config).await;
    for _ in 0..3 {
        load.more_calls().await;
        let new = secret.replace(|it| authority.write(it, "localhost"));
        until_shown(&service, &config, &new).await;
    }
    load.more_calls().await;
    assert_eq!(load.end().await, 0);
    assert_eq!(
        (metric(&service, "load_success_total"), metric(&service, "load_error_total")),
        (4.0, 0.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_ca_applies_to_new_connections() {
    let (old, new) = (CertificateAuthority::new(), CertificateAuthority::new());
    let (mut secret, _) = MountedSecret::new(|it| old.write(it, "localhost"));
    let service = start(&secret, &["envoy"], &[]);
    let known = old.client_config(Some(old.sign("envoy")), &VERSIONS);
    let open = connect(service.grpc, &known).await;
    assert!(answers(&open).await);
    let server = |it: &Path| {
        let identity = old.write(it, "localhost");
        fs::write(it.join("ca.crt"), new.pem()).unwrap();
        identity
    };
    let identity = secret.replace(server);
    until_shown(&service, &known, &identity).await;
    // A session of the old CA cannot be resumed either.
    assert!(!is_served(service.grpc, &known).await);
    assert!(is_served(service.grpc, &old.client_config(Some(new.sign("envoy")), &VERSIONS)).await);
    assert!(answers(&open).await, "what was open goes on");
}

/// The metrics of successful, failed and rejected loads.
fn loads(service: &Tollgate) -> [f64; 3] {
    [
        metric(service, "load_success_total"),
        metric(service, "load_error_total"),
        metric(service, "rejected"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_pair_keeps_the_active_one() {
    let authority = CertificateAuthority::new();
    let (mut secret, old) = MountedSecret::new(|it| authority.write(it, "localhost"));
    let service = start(&secret, &[], &[]);
    let config = authority.client_config(None, &VERSIONS);
    assert_eq!(loads(&service), [1.0, 0.0, 0.0]);
    let year = 365.0 * 86_400.0;
    assert!(metric(&service, "not_after_seconds") > 55.0 * year, "far from 1970");

    let key = fs::read(secret.path("tls.key")).unwrap();
    let half = secret.replace(|it| {
        let new = authority.write(it, "localhost");
        fs::write(it.join("tls.key"), &key).unwrap();
        new
    });
    eventually("the refusal", || loads(&service) == [1.0, 1.0, 1.0]);
    assert_eq!(shown(&service, &config).await, old.certificate.der().as_ref());
    assert_eq!(http::get(service.http, "/healthcheck", &[]).status, 200);
    fs::write(secret.path("tls.crt"), "").unwrap();
    eventually("the next refusal", || loads(&service) == [1.0, 2.0, 1.0]);
    fs::write(secret.path("tls.key"), half.key_pem()).unwrap();
    fs::write(secret.path("tls.crt"), half.certificate_pem()).unwrap();
    until_shown(&service, &config, &half).await;
    eventually("the statistics", || loads(&service)[0] == 2.0 && loads(&service)[2] == 0.0);
    let log = service.log();
    let refusals = log.matches("new certificates for gRPC rejected").count();
    assert!((2..=3).contains(&refusals), "each of them once: {log}");
    assert!(log.contains("this is not the key of the certificate in"), "{log}");
}
