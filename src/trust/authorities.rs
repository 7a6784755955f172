//! The certificates that are trusted.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::{WantsClientCert, WebPkiServerVerifier},
    crypto::ring,
    pki_types::ServerName,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    client_verifier::ClientVerifier, error::Problem, listed::Listed, pem,
    server_verifier::ServerVerifier,
};

/// Certificates that are trusted, and those that may have issued trusted certificates.
#[derive(Clone, Debug)]
pub struct Authorities {
    listed: Listed,
    roots: RootCertStore,
}

impl Authorities {
    /// Trusts nothing.
    pub fn none() -> Self {
        Self { listed: Listed::new(), roots: RootCertStore::empty() }
    }

    /// The certificates in `pem`: at least one.
    ///
    /// # Errors
    ///
    /// If there is none, or one is malformed.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Problem> {
        let listed = pem::certificates(pem)?;
        let mut roots = RootCertStore::empty();
        for certificate in &listed {
            roots.add(certificate.clone()).map_err(Problem::unusable)?;
        }
        Ok(Self { listed, roots })
    }

    /// Adds the CA certificates of the operating system, if it has any. Blocks.
    #[must_use]
    pub fn with_system(mut self) -> Self {
        let system = rustls_native_certs::load_native_certs().certs;
        self.roots.add_parsable_certificates(system.iter().cloned());
        self.listed.extend(system);
        self
    }

    /// Starts the configuration of a client that verifies the certificates of servers.
    ///
    /// # Errors
    ///
    /// If there are no authorities.
    pub fn client_config(
        self,
        allows_any_name: bool,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Problem> {
        let verifier = self.server_verifier(allows_any_name)?;
        Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Problem::unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)))
    }

    pub(super) fn server_verifier(self, allows_any_name: bool) -> Result<ServerVerifier, Problem> {
        if self.roots.is_empty() {
            return Err(Problem::NoAuthorities);
        }
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots), provider)
            .build()
            .map_err(Problem::unusable)?;
        Ok(ServerVerifier { listed: self.listed, chain, allows_any_name })
    }

    /// Verifies the certificates of clients, each of which must have the subject
    /// alternative name `name` if it is set.
    ///
    /// # Errors
    ///
    /// If there are no authorities.
    pub fn client_verifier(
        self,
        name: Option<ServerName<'static>>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots), provider)
            .build()
            .map_err(Problem::unusable)?;
        Ok(Arc::new(ClientVerifier { listed: self.listed, chain, name }))
    }
}
