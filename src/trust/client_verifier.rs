//! Verifies the certificates of clients.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::listed::{self, Listed, Purpose};

/// Accepts a client's certificate if it is one of `listed`, or if `chain` accepts it.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) listed: Listed,
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    /// A subject alternative name that each certificate must have.
    pub(super) name: Option<ServerName<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if listed::contains(&self.listed, end_entity) {
            listed::verify(end_entity, Purpose::Client, now)?;
        } else {
            let result = self.chain.verify_client_cert(end_entity, intermediates, now);
            result.map_err(|error| listed::explain(error, end_entity))?;
        }
        if let Some(name) = &self.name {
            listed::verify_name(end_entity, name)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
