//! TLS to the management server.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::*;

/// One that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Writes a certificate for `name` as Kubernetes would.
    pub fn write(&self, directory: &Path, name: &str) {
        let (certificate, key) = self.sign(name);
        fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(directory.join("ca.crt"), self.0.pem()).unwrap();
    }
}

/// A server called `name` that asks clients for a certificate.
pub fn server_config(
    authority: &Authority,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
    let (certificate, key) = authority.sign(name);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve(tls: ServerConfig) -> Ads {
    Ads::serve(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(tls))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_tls_with_a_client_certificate() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    authority.write(files.path(), "limiter");
    let path = |it: &str| files.path().join(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let settings = [
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &certificate),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut server = serve(server_config(&authority, "localhost", &[version])).await;
        let url = format!("localhost:{}", server.address.port());
        let service = follow(&url, &settings);
        let mut stream = server.stream().await;
        greeting(&mut stream, "").await;
        stream.send("v1", "n1", &[rules("shop", 1)]);
        assert_accepted(&stream.request().await, "v1", "n1");
        assert_eq!(page(&service), line("shop", 1));
    }

    // By its address the server has no name that its certificate knows.
    let mut server = serve(server_config(&authority, "gateway", rustls::ALL_VERSIONS)).await;
    let url = server.address.to_string();
    let service = follow(&url, &settings);
    eventually("a refusal", || service.log().contains("certificate").then_some(()));
    drop(service);
    let mut named = settings.to_vec();
    named.push(("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "gateway"));
    let _service = follow(&url, &named);
    greeting(&mut server.stream().await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_were_exchanged_count_at_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    old.write(files.path(), "limiter");
    let path = |it: &str| files.path().join(it).display().to_string();
    let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let mut server = serve(server_config(&new, "localhost", rustls::ALL_VERSIONS)).await;
    let url = format!("localhost:{}", server.address.port());
    let service = follow(
        &url,
        &[
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &certificate),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
        ],
    );
    eventually("a refusal", || service.log().contains("certificate").then_some(()));
    new.write(files.path(), "limiter");
    greeting(&mut server.stream().await, "").await;
}
