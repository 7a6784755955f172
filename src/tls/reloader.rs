//! Certificates that are exchanged while they are in use.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::task::{self, JoinError};
use tracing::{error, info};

use super::{Contents, Loaded, ServerTls, TlsError, calendar};
use crate::{metrics::Metrics, time::Clock, watch::Watch};

/// How new connections are encrypted. Those that are open do not change.
pub type SharedServerConfig = Arc<ArcSwap<ServerConfig>>;

/// Puts certificates in force, and keeps them up to date.
#[derive(Debug)]
pub struct CertificateReloader {
    files: ServerTls,
    in_use: SharedServerConfig,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// What the last attempt found, to tell whether anything is new.
    last: u64,
}

impl CertificateReloader {
    /// Puts the certificates in `files` in force. Blocks.
    ///
    /// # Errors
    ///
    /// If they cannot be used.
    pub fn start(
        files: ServerTls,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let read = files.read();
        let last = digest(&read);
        let loaded = files.compile(&read?, clock.now())?;
        let in_use = Arc::new(ArcSwap::new(Arc::clone(&loaded.config)));
        let keeper = Self { files, in_use, metrics, clock, last };
        keeper.tell(&loaded);
        Ok(keeper)
    }

    /// What is in force, now and later.
    pub fn config(&self) -> SharedServerConfig {
        Arc::clone(&self.in_use)
    }

    /// Puts certificates in force whenever the files change and can be used. Does
    /// not return.
    ///
    /// # Errors
    ///
    /// If a look at the files panics.
    pub async fn watch(mut self) -> Result<Infallible, JoinError> {
        let mut watch = Watch::start();
        loop {
            let files = &self.files;
            let look = || {
                let files = files.clone();
                move || files.fingerprint()
            };
            watch.changed(look).await?;
            self = task::spawn_blocking(move || {
                if let Err(error) = self.load() {
                    self.metrics.count_refused_certificate();
                    error!("new certificates refused, the old ones stay in force: {error}");
                }
                self
            })
            .await?;
        }
    }

    /// The same contents are refused once.
    fn load(&mut self) -> Result<(), TlsError> {
        let read = self.files.read();
        let found = digest(&read);
        if std::mem::replace(&mut self.last, found) == found {
            return Ok(());
        }
        let loaded = self.files.compile(&read?, self.clock.now())?;
        self.in_use.store(Arc::clone(&loaded.config));
        self.tell(&loaded);
        Ok(())
    }

    fn tell(&self, loaded: &Loaded) {
        self.metrics.count_certificate_load(loaded.not_after);
        let until = loaded.not_after.map(|it| calendar(it).to_string());
        info!(file = %self.files.certificate.display(), until, "certificate loaded");
    }
}

fn digest(read: &Result<Contents, TlsError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match read {
        Ok(it) => (&it.certificate, &it.key, &it.authorities).hash(&mut hasher),
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}
