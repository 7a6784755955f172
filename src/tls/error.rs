//! The TLS files that are rejected.

use std::path::PathBuf;

use super::protocol::Protocol;
use crate::trust::Problem;

/// A TLS file of a server that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsError {
    /// The protocol of the server.
    pub protocol: Protocol,
    /// The purpose of the file.
    pub file: TlsFile,
    /// The path of the file.
    pub path: PathBuf,
    /// The reason, and the expected content.
    pub problem: Problem,
}

/// The purpose of a TLS file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The certificate chain of the server.
    Certificate,
    /// The private key of the server.
    Key,
    /// The CA certificates that verify clients.
    ClientCa,
}
