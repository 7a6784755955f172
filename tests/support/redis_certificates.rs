//! Certificates in files, for Redis servers and their clients.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::ExtendedKeyUsagePurpose;
use tempfile::TempDir;

use crate::certificates::CertificateAuthority;

/// Certificates signed by one authority, in files of a temporary directory.
#[derive(Debug)]
pub struct RedisCertificates {
    files: TempDir,
    authority: CertificateAuthority,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Whether a Redis server requires certificates of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    Required,
    NotRequested,
}

impl RedisCertificates {
    #[allow(clippy::new_without_default, reason = "creates files")]
    pub fn new() -> Self {
        let authority = CertificateAuthority::new();
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("ca.pem"), authority.pem()).unwrap();
        Self { files, authority }
    }

    /// A path in the directory. The file need not exist.
    pub fn path(&self, file: &str) -> PathBuf {
        self.files.path().join(file)
    }

    /// The certificate of the authority.
    pub fn ca_certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Writes a certificate for `name`, a host name or an address, and its key.
    pub fn issue(&self, file: &str, name: &str) -> CertificateFiles {
        let purposes =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let identity = self.authority.sign_for(name, purposes);
        let certificate = self.path(&format!("{file}.pem"));
        fs::write(&certificate, identity.certificate_pem()).unwrap();
        let key = self.path(&format!("{file}.key"));
        fs::write(&key, identity.key_pem()).unwrap();
        CertificateFiles { certificate, key }
    }

    /// Arguments for a redis-server with a certificate for `name`.
    pub fn server_arguments(&self, name: &str, clients: ClientCertificates) -> Vec<String> {
        let CertificateFiles { certificate, key } = self.issue("server", name);
        let clients = if clients == ClientCertificates::Required { "yes" } else { "no" };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            "--tls-cert-file".to_owned(),
            text(&certificate),
            "--tls-key-file".to_owned(),
            text(&key),
            "--tls-ca-cert-file".to_owned(),
            text(&self.ca_certificate()),
            "--tls-auth-clients".to_owned(),
            clients.to_owned(),
        ]
    }
}
