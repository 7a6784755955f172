//! Certificates: in files, as Kubernetes mounts them, and for TLS clients and servers.

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

/// The files of a Kubernetes secret of type `kubernetes.io/tls`.
const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A certificate authority.
#[derive(Debug)]
pub struct CertificateAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    pub certificate: rcgen::Certificate,
    key: KeyPair,
}

impl CertificateAuthority {
    #[allow(clippy::new_without_default, reason = "generates a key")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The certificate of the authority in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, name: &str) -> Identity {
        self.sign_for(name, Vec::new())
    }

    /// A certificate for these purposes only; for any purpose if there are none.
    pub fn sign_for(&self, name: &str, purposes: Vec<ExtendedKeyUsagePurpose>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // A certificate with the name of its issuer is taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = purposes;
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// Writes the files of a Kubernetes secret with a certificate for `name`.
    pub fn write(&self, directory: &Path, name: &str) -> Identity {
        let identity = self.sign(name);
        identity.write(directory);
        fs::write(directory.join("ca.crt"), self.pem()).unwrap();
        identity
    }

    /// The configuration of a server named `name` that requires client certificates.
    pub fn server_config(
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

    /// The configuration of a client that trusts only this authority.
    pub fn client_config(
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
    /// A certificate that is its own authority, as `openssl req -x509` makes it.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// The configuration of a server that asks for no client certificates.
    pub fn server_config(self) -> ServerConfig {
        let (chain, key) = self.into_parts();
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    pub fn write(&self, directory: &Path) {
        fs::write(directory.join("tls.crt"), self.certificate.pem()).unwrap();
        fs::write(directory.join("tls.key"), self.key.serialize_pem()).unwrap();
    }

    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (vec![self.certificate.der().clone()], PrivateKeyDer::Pkcs8(key))
    }
}

/// Starts TLS with a server named `name`.
///
/// # Errors
/// The handshake fails.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    config: &ClientConfig,
    name: &str,
    stream: T,
) -> std::io::Result<TlsStream<T>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config.clone())).connect(name, stream).await
}

/// A directory in which Kubernetes mounts a secret: `..data` is a link to the current
/// version, and the files are links into `..data`.
#[derive(Debug)]
pub struct MountedSecret {
    directory: TempDir,
    version: u32,
}

impl MountedSecret {
    /// A secret with the files that `write_files` writes.
    pub fn new<T>(write_files: impl FnOnce(&Path) -> T) -> (Self, T) {
        let mut secret = Self { directory: TempDir::new().unwrap(), version: 0 };
        let written = secret.replace(write_files);
        for name in NAMES {
            symlink(format!("..data/{name}"), secret.path(name)).unwrap();
        }
        (secret, written)
    }

    /// Replaces all files in one step.
    pub fn replace<T>(&mut self, write_files: impl FnOnce(&Path) -> T) -> T {
        self.version += 1;
        let version = format!("..{}", self.version);
        fs::create_dir(self.path(&version)).unwrap();
        let written = write_files(&self.path(&version));
        symlink(&version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(self.path(&format!("..{}", self.version - 1))).unwrap();
        }
        written
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
