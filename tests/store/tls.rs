//! Encrypted connections.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;
use tollgate::store::redis::RedisTls;

use super::*;
use crate::cluster_servers::Node;

/// Certificates in files.
struct Certificates {
    files: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let authority = CertifiedIssuer::self_signed(params, key).expect("it can be signed");
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(files.path().join("ca.pem"), authority.pem()).expect("a file can be made");
        Self { files, authority }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.files.path().join(file)
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, file: &str, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a name");
        // One that is called like its issuer is taken for its own issuer.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.authority).expect("it can be signed");
        let paths =
            [("pem", certificate.pem()), ("key", key.serialize_pem())].map(|(kind, text)| {
                let path = self.path(&format!("{file}.{kind}"));
                fs::write(&path, text).expect("a file can be made");
                path
            });
        paths.into()
    }

    /// A server whose certificate is for `name`, and its TLS port.
    fn server(&self, name: &str, clients: &str) -> (Node, u16) {
        let (certificate, key) = self.issue("server", name);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = socket.local_addr().expect("it is bound").port();
        drop(socket);
        let text = |it: &PathBuf| it.to_str().expect("it is text").to_owned();
        let node = Node::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &text(&certificate),
            "--tls-key-file",
            &text(&key),
            "--tls-ca-cert-file",
            &text(&self.path("ca.pem")),
            "--tls-auth-clients",
            clients,
        ]);
        (node, port)
    }
}

async fn counts(port: u16, tls: RedisTls) -> Result<u64, StoreError> {
    let url = format!("rediss://localhost:{port}");
    let settings =
        RedisSettings::parse(&url, None, Duration::from_secs(5)).expect("the URL is valid");
    assert_eq!(settings.tls, Some(RedisTls::default()));
    hit(&Redis::new(&RedisSettings { tls: Some(tls), ..settings }), "a").await
}

#[tokio::test]
async fn a_server_is_only_trusted_with_a_certificate_that_is_good() {
    let certificates = Certificates::new();
    let authority = Some(certificates.path("ca.pem"));
    let trusting = RedisTls { authority, ..RedisTls::default() };
    let (_node, port) = certificates.server("localhost", "no");
    assert_eq!(counts(port, trusting.clone()).await.unwrap(), 1);
    let error = counts(port, RedisTls::default()).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let (_node, port) = certificates.server("elsewhere", "no");
    let error = counts(port, trusting.clone()).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert_eq!(counts(port, RedisTls { any_name: true, ..trusting }).await.unwrap(), 1);
    let other = Certificates::new();
    let theirs = RedisTls { any_name: true, authority: Some(other.path("ca.pem")), client: None };
    assert!(counts(port, theirs).await.is_err(), "nobody we trust has signed it");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let certificates = Certificates::new();
    let (_node, port) = certificates.server("localhost", "yes");
    let authority = Some(certificates.path("ca.pem"));
    let tls = RedisTls { authority, ..RedisTls::default() };
    assert!(counts(port, tls.clone()).await.is_err());
    let client = Some(certificates.issue("client", "tollgate"));
    assert_eq!(counts(port, RedisTls { client, ..tls.clone() }).await.unwrap(), 1);
    let gone = Some((certificates.path("gone.pem"), certificates.path("gone.key")));
    let error = counts(port, RedisTls { client: gone, ..tls }).await.unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("gone.pem"), "{error}");
}
