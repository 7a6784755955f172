//! TLS for connections to Redis.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
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
    pub(super) fn config(&self) -> Result<ClientConfig, String> {
        let roots = Arc::new(self.roots()?);
        let provider = Arc::new(ring::default_provider());
        let mut verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
        if self.skip_hostname_verification {
            verifier = Arc::new(AnyNameVerifier(verifier));
        }
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some(client) = &self.client else { return Ok(config.with_no_client_auth()) };
        let chain = client.chain()?;
        let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?)
            .map_err(|error| format!("{}: no private key: {error}", client.key.display()))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("{}: {error}", client.certificate.display()))
    }

    /// The CA certificates of the file and those of the operating system.
    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let pem = read(path)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| not_ca_certificates(path, &error))?;
                roots.add(certificate).map_err(|error| not_ca_certificates(path, &error))?;
            }
            if roots.is_empty() {
                return Err(format!("{} holds no certificate in PEM", path.display()));
            }
        }
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("the operating system has no CA certificates; see REDIS_TLS_CACERT".into());
        }
        Ok(roots)
    }
}

impl ClientCertificate {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let pem = read(&self.certificate)?;
        let mut chain = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let place = self.certificate.display();
            chain.push(certificate.map_err(|error| format!("{place}: {error}"))?);
        }
        Ok(chain)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn not_ca_certificates(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} is not a list of CA certificates: {error}", path.display())
}

/// Accepts certificates that are valid except for the host name.
#[derive(Debug)]
struct AnyNameVerifier(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for AnyNameVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is verified after everything else.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
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
            let error = tls.config().err().unwrap();
            let path = path.display().to_string();
            assert!(error.contains(&path) && error.contains(expected), "{error}");
        };
        check("", "holds no certificate in PEM");
        check("ca", "holds no certificate in PEM");
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        check(damaged, "is not a list of CA certificates");
    }
}
