//! TLS of the connections of a listener.

use std::sync::Arc;

use tracing::debug;

use super::Connection;
use crate::{
    budget::Share,
    metrics::Metrics,
    tls::{CertificateReloader, Protocol, SharedServerConfig},
    warnings::ClientWarnings,
};

/// Encrypts the connections of a listener.
#[derive(Debug)]
pub struct Encryption {
    config: SharedServerConfig,
    protocol: Protocol,
    metrics: Arc<Metrics>,
    failures: ClientWarnings,
}

impl Encryption {
    /// With the certificate that is active when a connection begins.
    pub fn new(certificates: &CertificateReloader, metrics: Arc<Metrics>) -> Arc<Self> {
        let protocol = certificates.protocol();
        Arc::new(Self {
            config: certificates.config(),
            protocol,
            metrics,
            failures: failures(protocol),
        })
    }

    /// Performs the TLS handshake of a connection, within the preface timeout. `None` if it
    /// fails, which is counted and logged.
    pub async fn begin(&self, connection: Connection, share: &Arc<Share>) -> Option<Connection> {
        let peer = connection.peer();
        let error = match connection.encrypt(self.config.load_full(), self.protocol, share).await {
            Ok(connection) => return Some(connection),
            Err(error) => error,
        };
        self.metrics.count_failed_handshake(self.protocol.label());
        let place = peer.map_or("a Unix socket".to_owned(), |peer| peer.to_string());
        debug!("a TLS handshake with {place} failed: {error}");
        self.failures.warn(peer.map(|peer| peer.ip()), &format!("{place}: {error}"));
        None
    }
}

fn failures(protocol: Protocol) -> ClientWarnings {
    match protocol {
        Protocol::Grpc => {
            ClientWarnings::new("a TLS handshake for gRPC failed", "TLS handshakes for gRPC failed")
        }
        Protocol::Http => {
            ClientWarnings::new("a TLS handshake for HTTP failed", "TLS handshakes for HTTP failed")
        }
    }
}
