//! TLS of connections to servers.

use std::path::{Path, PathBuf};

use rustls::ClientConfig;

use super::{authorities::Authorities, error::Problem, pem};
use crate::printable::printable_path;

/// The TLS settings of connections to servers. The files are in PEM and are read for each
/// connection, so that renewed certificates are used without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Presented to servers that require a client certificate.
    pub identity: Option<ClientIdentity>,
    /// Certificates that are trusted in addition to those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate must have.
    pub name: ExpectedName,
}

/// The name that the certificate of a server must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExpectedName {
    /// The host that the connection is made to.
    #[default]
    Host,
    /// This name.
    Name(String),
    /// Any name.
    Any,
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The file with the private key of the leaf.
    pub key: PathBuf,
}

/// The reason why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file cannot be used.
    #[error("{}: {_1}", printable_path(.0))]
    File(PathBuf, Problem),
    /// Nothing is trusted.
    #[error(transparent)]
    Authorities(#[from] Problem),
}

impl ClientTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or if no certificate is trusted.
    pub fn config(&self) -> Result<ClientConfig, ClientTlsError> {
        let allows_any_name = self.name == ExpectedName::Any;
        let config = self.authorities()?.client_config(allows_any_name)?;
        let Some(identity) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let ClientIdentity { certificate, key } = identity;
        let chain = read(certificate, pem::certificates)?;
        let key = read(key, pem::private_key)?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| in_file(certificate, Problem::unusable(error)))
    }

    fn authorities(&self) -> Result<Authorities, ClientTlsError> {
        let own = match &self.ca_file {
            Some(path) => read(path, Authorities::from_pem)?,
            None => Authorities::none(),
        };
        Ok(own.with_system())
    }

    /// The name that the certificate of `host` must have.
    pub fn name_for(&self, host: &str) -> String {
        match &self.name {
            ExpectedName::Name(name) => name.clone(),
            ExpectedName::Host | ExpectedName::Any => host.to_owned(),
        }
    }
}

fn read<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, Problem>,
) -> Result<T, ClientTlsError> {
    let result = pem::read(path).and_then(|bytes| parse(&bytes));
    result.map_err(|problem| in_file(path, problem))
}

fn in_file(path: &Path, problem: Problem) -> ClientTlsError {
    ClientTlsError::File(path.to_owned(), problem)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_ca_file_without_a_valid_certificate_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        // Control characters would change the lines of a log or a terminal.
        let path = directory.path().join("ca\n\u{1b}[31m.pem");
        let check = |text: &str, expected: &str| {
            fs::write(&path, text).unwrap();
            let tls = ClientTls { ca_file: Some(path.clone()), ..ClientTls::default() };
            let error = tls.config().err().unwrap().to_string();
            assert!(error.contains("/ca\u{fffd}\u{fffd}[31m.pem: "), "{error:?}");
            assert!(error.contains(expected), "{error}");
        };
        check("", "expected a certificate in PEM");
        check("ca", "expected a certificate in PEM");
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        check(damaged, "this cannot be used");
    }
}
