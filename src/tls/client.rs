//! How to show oneself to a server, and whom to trust.

use std::{fs, io, path::PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How a connection to a server is encrypted. The files are in PEM, and read for
/// each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The certificate to show, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// More authorities than those of the system.
    pub authorities: Option<PathBuf>,
    /// The name that the server's certificate must have; none for the host that
    /// it is reached by.
    pub server_name: Option<String>,
}

/// A file that is needed cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .0.display())]
pub struct FileError(PathBuf, #[source] io::Error);

impl ClientTls {
    /// What is needed to connect to `host`. Blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn config(self, host: String) -> Result<ClientTlsConfig, FileError> {
        let read = |path: PathBuf| fs::read(&path).map_err(|error| FileError(path, error));
        let mut config = with_system_roots().domain_name(self.server_name.unwrap_or(host));
        if let Some(path) = self.authorities {
            config = config.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some((certificate, key)) = self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(config)
    }
}

/// Trusts whom the system trusts, which may be nobody. Blocks.
pub fn with_system_roots() -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    // Without any of them, tonic would refuse to try.
    match rustls_native_certs::load_native_certs().certs.is_empty() {
        true => config,
        false => config.with_native_roots(),
    }
}
