//! The TLS files that are rejected.

use std::path::PathBuf;

use super::protocol::Protocol;
use crate::{printable::printable_path, trust::Problem};

/// A TLS file of a server that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", printable_path(path))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_control_characters_stay_on_one_line() {
        let path = PathBuf::from("a\nb\u{1b}[31m");
        let (protocol, problem) = (Protocol::Grpc, Problem::WrongKey(path.clone()));
        let error = TlsError { protocol, file: TlsFile::Key, path, problem }.to_string();
        assert!(!error.contains(char::is_control) && error.ends_with("in a\u{fffd}b\u{fffd}[31m"));
    }
}
