//! The reasons why files are rejected.

use std::{fmt, io, path::PathBuf};

use rustls::pki_types;

use crate::printable::printable_path;

/// The largest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 20;

/// The reason why a file with certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Reading failed.
    #[error("expected a file that can be read ({0})")]
    Io(#[from] io::Error),
    /// The path is a directory, a device or a pipe.
    #[error("expected a regular file")]
    NotAFile,
    /// The file is too large.
    #[error("expected at most {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// A PEM section is malformed.
    #[error("expected PEM ({0})")]
    Pem(pki_types::pem::Error),
    /// The file has no PEM section of the expected kind.
    #[error("expected {0} in PEM, and there is none in this file")]
    Missing(&'static str),
    /// The key does not belong to the certificate in the file at this path.
    #[error("this is not the key of the certificate in {}", printable_path(.0))]
    WrongKey(PathBuf),
    /// The certificate expired at this time.
    #[error("this certificate expired at {0}")]
    Expired(jiff::Timestamp),
    /// There is nothing to trust.
    #[error("the operating system has no CA certificates, and no others are set")]
    NoAuthorities,
    /// The TLS library rejected the content.
    #[error("this cannot be used ({0})")]
    Unusable(String),
}

impl Problem {
    /// The TLS library rejected the content.
    pub fn unusable(error: impl fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}
