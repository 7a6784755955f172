//! TLS of the gRPC server, and of connections to other servers.

pub mod client;
mod error;
mod pem;
mod reloader;
mod san_verifier;
mod server;

pub use self::{
    error::{Problem, TlsError, TlsFile},
    reloader::{CertificateReloader, SharedServerConfig},
    server::{ALPN, ClientVerification, LoadedTls, ServerTls},
};
