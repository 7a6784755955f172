//! TLS of the servers for gRPC and HTTP.

mod error;
mod protocol;
mod reloader;
mod server;

pub use self::{
    error::{TlsError, TlsFile},
    protocol::Protocol,
    reloader::{CertificateReloader, SharedServerConfig},
    server::{ClientVerification, LoadedTls, ServerTls},
};
