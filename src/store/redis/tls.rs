//! How connections to Redis are encrypted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// The certificate that servers may ask for, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Who may vouch for a server, besides those whom the system trusts.
    pub authority: Option<PathBuf>,
    /// Whether a certificate may be for another name.
    pub any_name: bool,
}

impl RedisTls {
    /// The certificates, read now.
    ///
    /// # Errors
    ///
    /// Which file cannot be read, or does not hold what it should.
    pub(super) fn read(&self) -> Result<redis::TlsCertificates, String> {
        let client_tls = match &self.client {
            Some((certificate, key)) => Some(redis::ClientTlsConfig {
                client_cert: read(certificate)?,
                client_key: read(key)?,
            }),
            None => None,
        };
        let root_cert = self.authority.as_deref().map(authorities).transpose()?;
        Ok(redis::TlsCertificates { client_tls, root_cert })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The authorities in the file at `path` and those whom the system trusts, in PEM:
/// what the client is given takes the place of the latter.
fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let file = read(path)?;
    let mut all = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&file) {
        let certificate = certificate.map_err(|error| error.to_string());
        let added = certificate.and_then(|it| all.add(it).map_err(|error| error.to_string()));
        added
            .map_err(|error| format!("{} is not a list of authorities: {error}", path.display()))?;
    }
    if all.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    let mut pem = file;
    for certificate in rustls_native_certs::load_native_certs().certs {
        // The client would refuse them all.
        if all.add(certificate.clone()).is_ok() {
            let text = BASE64_STANDARD.encode(&certificate);
            let text =
                format!("\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            pem.extend_from_slice(text.as_bytes());
        }
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let tls = RedisTls { authority: Some(path.clone()), ..RedisTls::default() };
            let error = tls.read().err().unwrap();
            let path = path.display().to_string();
            assert!(error.contains(&path) && error.contains(expected), "{error}");
        };
        check("", "holds no certificate in PEM");
        check("ca", "holds no certificate in PEM");
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        check(damaged, "is not a list of authorities");
    }
}
