//! TLS of connections to other gRPC servers.

use std::{fs, io, path::PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The TLS settings of a connection. The files are in PEM and are read for each
/// connection, so that renewed certificates are used without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Presented to servers that require a client certificate.
    pub identity: Option<ClientIdentity>,
    /// CA certificates that are trusted in addition to those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate must have. If it is not set, the host that
    /// the connection is made to.
    pub server_name: Option<String>,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The file with the private key of the leaf.
    pub key: PathBuf,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .0.display())]
pub struct FileError(PathBuf, #[source] io::Error);

impl ClientTls {
    /// Reads the files and returns the configuration of a connection to `host`. Blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn config(self, host: String) -> Result<ClientTlsConfig, FileError> {
        let mut config = with_system_roots().domain_name(self.server_name.unwrap_or(host));
        if let Some(path) = self.ca_file {
            config = config.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some(ClientIdentity { certificate, key }) = self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(config)
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, FileError> {
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(FileError(path, error)),
    }
}

/// A configuration that trusts the CA certificates of the operating system, if it has any.
/// Blocks.
pub fn with_system_roots() -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    // Without any certificate, `with_native_roots` would make every connection fail.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        config
    } else {
        config.with_native_roots()
    }
}
