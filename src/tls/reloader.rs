//! Replaces the certificate of a server while it runs.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::task::{self, JoinError};
use tracing::{error, info};

use super::{
    error::TlsError,
    protocol::Protocol,
    server::{Contents, LoadedTls, ServerTls},
};
use crate::{metrics::Metrics, printable::printable_path, time::Clock, trust::pem, watch::Watch};

/// The active TLS configuration. A new one applies to new connections only.
pub type SharedServerConfig = Arc<ArcSwap<ServerConfig>>;

/// Loads the TLS files of a server, and loads them again when they change.
#[derive(Debug)]
pub struct CertificateReloader {
    files: ServerTls,
    active: SharedServerConfig,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// The digest of the last read, so that the same contents are rejected only once.
    last_digest: u64,
}

impl CertificateReloader {
    /// Loads the certificate and activates it. Blocks.
    ///
    /// # Errors
    ///
    /// If the files cannot be used.
    pub fn load(
        files: ServerTls,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let contents = files.read();
        let last_digest = digest(&contents);
        let loaded = files.build(&contents?, clock.now())?;
        let active = Arc::new(ArcSwap::new(Arc::clone(&loaded.config)));
        let reloader = Self { files, active, metrics, clock, last_digest };
        reloader.report(&loaded);
        Ok(reloader)
    }

    /// The active configuration, now and after each reload.
    pub fn config(&self) -> SharedServerConfig {
        Arc::clone(&self.active)
    }

    /// The protocol that is served with the certificate.
    pub fn protocol(&self) -> Protocol {
        self.files.protocol
    }

    /// Activates new certificates whenever the files change. Files that cannot be used
    /// are logged and counted, and the active certificate stays. Runs forever.
    ///
    /// # Errors
    ///
    /// If reading the files panics.
    pub async fn watch(mut self) -> Result<Infallible, JoinError> {
        let mut watch = Watch::start("the certificate files keep changing");
        loop {
            let look = || {
                let files = self.files.clone();
                task::spawn_blocking(move || files.fingerprint())
            };
            watch.changed(look).await?;
            let reload = move || {
                if let Err(error) = self.reload() {
                    let protocol = self.protocol();
                    self.metrics.count_rejected_certificate(protocol.label());
                    error!(
                        "new certificates for {protocol} rejected, the old ones stay active: \
                         {error}"
                    );
                }
                self
            };
            self = task::spawn_blocking(reload).await?;
        }
    }

    /// Does nothing if the contents are those of the last read.
    fn reload(&mut self) -> Result<(), TlsError> {
        let contents = self.files.read();
        let digest = digest(&contents);
        if digest == self.last_digest {
            return Ok(());
        }
        self.last_digest = digest;
        let loaded = self.files.build(&contents?, self.clock.now())?;
        self.active.store(Arc::clone(&loaded.config));
        self.report(&loaded);
        Ok(())
    }

    fn report(&self, loaded: &LoadedTls) {
        let listener = self.protocol().label();
        self.metrics.count_certificate_load(listener, loaded.not_after);
        let expires = loaded.not_after.map(|not_after| pem::calendar(not_after).to_string());
        let file = printable_path(&self.files.certificate);
        info!(listener, %file, expires, "certificate loaded");
    }
}

fn digest(contents: &Result<Contents, TlsError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match contents {
        Ok(contents) => contents.hash(&mut hasher),
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}
