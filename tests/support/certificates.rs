//! Certificates: in files, as Kubernetes would bring them, and in use.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The names of the files, as secrets of Kubernetes have them.
const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// One that signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    pub certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Itself, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, name: &str) -> Identity {
        self.sign_for(name, Vec::new())
    }

    /// A certificate that is good only for these purposes.
    pub fn sign_for(&self, name: &str, purposes: Vec<ExtendedKeyUsagePurpose>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // One that is called like its issuer is taken for its own issuer.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = purposes;
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// Writes a certificate for `name` as Kubernetes would.
    pub fn write(&self, directory: &Path, name: &str) -> Identity {
        let identity = self.sign(name);
        identity.write(directory);
        fs::write(directory.join("ca.crt"), self.pem()).unwrap();
        identity
    }

    /// A server called `name` that asks clients for a certificate.
    pub fn server(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let roots = self.roots().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let (chain, key) = self.sign(name).into_parts();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A client that trusts this alone and shows `identity`, if it has one.
    pub fn client(
        &self,
        identity: Option<Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match identity.map(Identity::into_parts) {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Identity {
    pub fn write(&self, directory: &Path) {
        fs::write(directory.join("tls.crt"), self.certificate.pem()).unwrap();
        fs::write(directory.join("tls.key"), self.key.serialize_pem()).unwrap();
    }

    /// Both, in PEM.
    pub fn pem(&self) -> [String; 2] {
        [self.certificate.pem(), self.key.serialize_pem()]
    }

    fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (vec![self.certificate.der().clone()], PrivateKeyDer::Pkcs8(key))
    }
}

/// Speaks TLS to a server called `name`.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    config: &ClientConfig,
    name: &str,
    stream: T,
) -> std::io::Result<TlsStream<T>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config.clone())).connect(name, stream).await
}

/// A secret that Kubernetes shows as a directory: `..data` links to the version
/// that counts, and the files link into it.
#[derive(Debug)]
pub struct Secret {
    directory: TempDir,
    version: u32,
}

impl Secret {
    /// One with the files that `fill` writes.
    pub fn new<T>(fill: impl FnOnce(&Path) -> T) -> (Self, T) {
        let mut secret = Self { directory: TempDir::new().unwrap(), version: 0 };
        let filled = secret.exchange(fill);
        for name in NAMES {
            symlink(format!("..data/{name}"), secret.path(name)).unwrap();
        }
        (secret, filled)
    }

    /// Exchanges all files at once.
    pub fn exchange<T>(&mut self, fill: impl FnOnce(&Path) -> T) -> T {
        self.version += 1;
        let version = format!("..{}", self.version);
        fs::create_dir(self.path(&version)).unwrap();
        let filled = fill(&self.path(&version));
        symlink(&version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if let Some(old) = self.version.checked_sub(1).filter(|it| 0 < *it) {
            fs::remove_dir_all(self.path(&format!("..{old}"))).unwrap();
        }
        filled
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
