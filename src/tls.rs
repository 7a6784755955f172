//! TLS of the gRPC server.

mod error;
mod reloader;
mod server;

pub use self::{
    error::{TlsError, TlsFile},
    reloader::{CertificateReloader, SharedServerConfig},
    server::{ALPN, ClientVerification, LoadedTls, ServerTls},
};
