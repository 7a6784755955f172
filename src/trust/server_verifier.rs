//! Verifies the certificates of servers.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::listed::{self, Listed, Purpose};

/// Accepts a server's certificate if it is one of `listed`, or if `chain` accepts it.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) listed: Listed,
    pub(super) chain: Arc<WebPkiServerVerifier>,
    /// Accepts certificates that are valid except for the name.
    pub(super) allows_any_name: bool,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is verified after everything else.
        let result = if listed::contains(&self.listed, end_entity) {
            listed::verify(end_entity, Purpose::Server, now)?;
            listed::verify_name(end_entity, server_name).map(|()| ServerCertVerified::assertion())
        } else {
            let chain = &self.chain;
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match result {
            Err(error) if self.allows_any_name && is_about_name(&error) => {
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => Err(listed::explain(error, end_entity)),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn is_about_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )
    )
}
