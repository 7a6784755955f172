//! The TLS files of a server, and the configuration that they become.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::ServerName,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    error::{TlsError, TlsFile},
    protocol::Protocol,
};
use crate::{
    time::Timestamp,
    trust::{Authorities, Problem, pem},
    watch,
};

/// The TLS files of a server, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The protocol of the server.
    pub protocol: Protocol,
    /// The file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The file with the private key of the leaf.
    pub key: PathBuf,
    /// Set if clients must present a certificate.
    pub clients: Option<ClientVerification>,
}

/// The conditions for the certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVerification {
    /// The file with the CA certificates that may have issued client certificates. CA
    /// certificates of the operating system are not trusted.
    pub ca_file: PathBuf,
    /// A subject alternative name that each certificate must have.
    pub name: Option<ServerName<'static>>,
}

/// A valid TLS configuration of a server.
#[derive(Clone, Debug)]
pub struct LoadedTls {
    pub(super) config: Arc<ServerConfig>,
    /// The expiry of the certificate, if it is known.
    pub(super) not_after: Option<Timestamp>,
}

/// The contents of the files.
#[derive(Hash)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl ServerTls {
    /// Reads the files and checks that they can be used at `now`. Blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is larger than 4 MiB or lacks the expected PEM sections,
    /// if the key does not belong to the certificate, or if the certificate has expired.
    pub fn load(&self, now: Timestamp) -> Result<LoadedTls, TlsError> {
        self.build(&self.read()?, now)
    }

    /// A number that changes with the metadata of the files. Blocks.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut paths = vec![&self.certificate, &self.key];
        if let Some(clients) = &self.clients {
            paths.push(&clients.ca_file);
        }
        let mut hasher = DefaultHasher::new();
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) => watch::hash_metadata(&metadata, &mut hasher),
                Err(error) => error.to_string().hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let in_certificate = |problem| self.error(TlsFile::Certificate, problem);
        let certificate = pem::read(&self.certificate).map_err(in_certificate)?;
        let key = pem::read(&self.key).map_err(|problem| self.error(TlsFile::Key, problem))?;
        let client_ca = match &self.clients {
            Some(clients) => {
                let in_ca = |problem| self.error(TlsFile::ClientCa, problem);
                Some(pem::read(&clients.ca_file).map_err(in_ca)?)
            }
            None => None,
        };
        Ok(Contents { certificate, key, client_ca })
    }

    /// Builds the configuration from the contents of the files.
    pub(super) fn build(&self, contents: &Contents, now: Timestamp) -> Result<LoadedTls, TlsError> {
        let in_certificate = |problem| self.error(TlsFile::Certificate, problem);
        let chain = pem::certificates(&contents.certificate).map_err(in_certificate)?;
        let not_after = pem::expiry(&chain[0]);
        if let Some(not_after) = not_after
            && not_after < now
        {
            return Err(in_certificate(Problem::Expired(pem::calendar(not_after))));
        }
        let key =
            pem::private_key(&contents.key).map_err(|problem| self.error(TlsFile::Key, problem))?;
        let verifier = self
            .client_verifier(contents)
            .map_err(|problem| self.error(TlsFile::ClientCa, problem))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| in_certificate(Problem::unusable(error)))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| self.unusable_pair(&error))?;
        config.alpn_protocols = vec![self.protocol.alpn().to_vec()];
        Ok(LoadedTls { config: Arc::new(config), not_after })
    }

    fn client_verifier(&self, contents: &Contents) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
        let (Some(clients), Some(client_ca)) = (&self.clients, &contents.client_ca) else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        Authorities::from_pem(client_ca)?.client_verifier(clients.name.clone())
    }

    /// The error of a certificate and key that the TLS library rejects.
    fn unusable_pair(&self, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.error(TlsFile::Key, Problem::WrongKey(self.certificate.clone()))
            }
            // For example, a key of an unknown kind.
            rustls::Error::General(_) => self.error(TlsFile::Key, Problem::unusable(error)),
            error => self.error(TlsFile::Certificate, Problem::unusable(error)),
        }
    }

    fn error(&self, file: TlsFile, problem: Problem) -> TlsError {
        let path = match (file, &self.clients) {
            (TlsFile::Certificate, _) => &self.certificate,
            (TlsFile::ClientCa, Some(clients)) => &clients.ca_file,
            (TlsFile::Key | TlsFile::ClientCa, _) => &self.key,
        };
        TlsError { protocol: self.protocol, file, path: path.clone(), problem }
    }
}
