//! The certificates of the listeners.

use std::sync::Arc;

use crate::{
    listen::Encryption,
    metrics::Metrics,
    settings::ListenerSettings,
    time::Clock,
    tls::{CertificateReloader, ServerTls, TlsError},
};

/// The certificates of the listeners that use TLS.
pub(super) struct Certificates {
    pub(super) grpc: Option<Arc<Encryption>>,
    pub(super) http: Option<Arc<Encryption>>,
    pub(super) reloaders: Vec<CertificateReloader>,
}

impl Certificates {
    /// Blocks.
    pub(super) fn load(
        listeners: &ListenerSettings,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let mut reloaders = Vec::new();
        let mut load = |files: &Option<ServerTls>| {
            let Some(files) = files.clone() else { return Ok(None) };
            let reloader =
                CertificateReloader::load(files, Arc::clone(metrics), Arc::clone(clock))?;
            let encryption = Encryption::new(&reloader, Arc::clone(metrics));
            reloaders.push(reloader);
            Ok(Some(encryption))
        };
        let (grpc, http) = (load(&listeners.grpc_tls)?, load(&listeners.http_tls)?);
        Ok(Self { grpc, http, reloaders })
    }
}
