//! TLS for connections to Redis.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The TLS settings of connections to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Presented to servers that require a client certificate.
    pub client: Option<ClientCertificate>,
    /// CA certificates in PEM, trusted in addition to those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// Accepts server certificates that were issued for another host name.
    pub skip_hostname_verification: bool,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The file with the private key of the leaf.
    pub key: PathBuf,
}

impl RedisTls {
    /// Reads the files, once for each connection, so that renewed certificates are used
    /// without a restart. An error names the file.
    pub(super) fn read(&self) -> Result<redis::TlsCertificates, String> {
        let client_tls = match &self.client {
            Some(client) => Some(redis::ClientTlsConfig {
                client_cert: read(&client.certificate)?,
                client_key: read(&client.key)?,
            }),
            None => None,
        };
        let root_cert = match &self.ca_file {
            Some(path) => Some(ca_certificates(path)?),
            None => None,
        };
        Ok(redis::TlsCertificates { client_tls, root_cert })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Returns the CA certificates of the file at `path` and those of the operating system, in
/// PEM. The Redis client would otherwise trust only the file.
fn ca_certificates(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| not_ca_certificates(path, &error))?;
        roots.add(certificate).map_err(|error| not_ca_certificates(path, &error))?;
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    for certificate in rustls_native_certs::load_native_certs().certs {
        // The Redis client rejects the whole list if one certificate is malformed.
        if roots.add(certificate.clone()).is_ok() {
            let text = BASE64_STANDARD.encode(&certificate);
            let block =
                format!("\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            pem.extend_from_slice(block.as_bytes());
        }
    }
    Ok(pem)
}

fn not_ca_certificates(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} is not a list of CA certificates: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_valid_certificate_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let tls = RedisTls { ca_file: Some(path.clone()), ..RedisTls::default() };
            let error = tls.read().err().unwrap();
            let path = path.display().to_string();
            assert!(error.contains(&path) && error.contains(expected), "{error}");
        };
        check("", "holds no certificate in PEM");
        check("ca", "holds no certificate in PEM");
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        check(damaged, "is not a list of CA certificates");
    }
}
