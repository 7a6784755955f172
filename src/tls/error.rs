//! The reasons why TLS files are rejected.

use std::{fmt, io, path::PathBuf};

use rustls::pki_types::pem;

/// The largest TLS file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 20;

/// A TLS file of the gRPC server that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsError {
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

/// The reason why a TLS file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Reading failed.
    #[error("expected a file that can be read ({0})")]
    Io(#[from] io::Error),
    /// The path is a directory, a device or a pipe.
    #[error("expected a regular file")]
    NotAFile,
    /// The file is too large for a TLS file.
    #[error("expected at most {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// A PEM section is malformed.
    #[error("expected PEM ({0})")]
    Pem(pem::Error),
    /// The file has no PEM section of the expected kind.
    #[error("expected {0} in PEM, and there is none in this file")]
    Missing(&'static str),
    /// The key does not belong to the certificate in the file at this path.
    #[error("this is not the key of the certificate in {}", .0.display())]
    WrongKey(PathBuf),
    /// The certificate expired at this time.
    #[error("this certificate expired at {0}")]
    Expired(jiff::Timestamp),
    /// The TLS library rejected the content.
    #[error("this cannot be used ({0})")]
    Unusable(String),
}

impl Problem {
    pub(super) fn unusable(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}
