//! New rules without a restart: all of them, or none.
//!
//! The files are read when [`watch`](crate::watch) says that they have changed.

use std::{
    convert::Infallible,
    future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use tokio::{
    signal::unix::Signal,
    sync::mpsc,
    task::{self, JoinError},
};
use tracing::{error, info, warn};

use crate::{
    config::{self, CompileOptions, Diagnostics},
    engine::SharedRules,
    health::Health,
    metrics::Metrics,
    rule_files::{ReadError, RuleSource},
    rules::RuleTree,
    watch::Watch,
};

/// Why rules were not put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They have mistakes.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

/// The rules in force, and all that is told of a change to them.
#[derive(Clone, Debug)]
pub struct ActiveRules {
    /// The rules in force.
    pub rules: SharedRules,
    /// Where loads are counted.
    pub metrics: Arc<Metrics>,
    /// Told of what is loaded.
    pub health: Arc<Health>,
    /// Why newer rules are not in force, if there are any.
    pub rejection: Arc<ArcSwapOption<String>>,
}

impl ActiveRules {
    /// Puts `rules` in the place of all others.
    pub fn replace(&self, rules: RuleTree) {
        let domains = rules.domain_count();
        let rules = Arc::new(rules);
        self.metrics.install_rules(&rules);
        self.rules.store(rules);
        self.health.set_domains(domains);
        self.rejection.store(None);
    }

    /// Leaves the rules as they are, for this reason.
    pub fn reject(&self, reason: String) {
        self.metrics.count_refused_rules();
        self.rejection.store(Some(Arc::new(reason)));
    }
}

/// Requests a reload although no file has changed.
#[derive(Debug)]
pub enum ReloadTrigger {
    /// A signal of the system.
    Signal(Signal),
    /// A message from within the process.
    Channel(mpsc::Receiver<()>),
}

impl ReloadTrigger {
    async fn recv(&mut self) {
        let received = match self {
            Self::Signal(signal) => signal.recv().await,
            Self::Channel(messages) => messages.recv().await,
        };
        if received.is_none() {
            // Without a sender no request can come.
            future::pending().await
        }
    }
}

/// Puts the rules of some files in force, and keeps them up to date.
#[derive(Debug)]
pub struct Reloader {
    /// Where they come from.
    pub source: RuleSource,
    /// How they are read.
    pub options: CompileOptions,
    /// Takes them.
    pub active: ActiveRules,
    /// What the last attempt found, to tell whether anything is new.
    last: Option<u64>,
}

impl Reloader {
    /// Watches over `rules`, and leaves them as they are until
    /// [`Self::load`] is called.
    pub fn new(source: RuleSource, options: CompileOptions, active: ActiveRules) -> Self {
        Self { source, options, active, last: None }
    }

    /// Puts the rules of the files in force, unless nothing is new.
    ///
    /// # Errors
    ///
    /// If they cannot be read or have mistakes. The rules in force then stay
    /// in force. The same contents are refused once: asked again, this says
    /// that nothing is new.
    pub fn load(&mut self) -> Result<(), LoadError> {
        let read = self.source.read();
        let mut hasher = DefaultHasher::new();
        match &read {
            Ok(files) => files.iter().for_each(|it| (&it.name, &it.bytes).hash(&mut hasher)),
            Err(error) => error.to_string().hash(&mut hasher),
        }
        if self.last.replace(hasher.finish()) == Some(hasher.finish()) {
            return Ok(());
        }
        let result = read.map_err(LoadError::from).and_then(|files| {
            let compiled = config::compile(&files, self.options)?;
            Ok((files.len(), compiled))
        });
        match result {
            Ok((files, compiled)) => {
                for warning in &compiled.warnings {
                    warn!("{warning}");
                }
                let rules = compiled.rules;
                info!(
                    files,
                    domains = rules.domain_count(),
                    rules = rules.rules().len(),
                    "rules loaded"
                );
                self.active.replace(rules);
                Ok(())
            }
            Err(error) => {
                self.active.reject(error.to_string());
                Err(error)
            }
        }
    }

    /// Loads the rules whenever the files change, and when `now` comes. Does
    /// not return.
    ///
    /// # Errors
    ///
    /// If a look at the files panics.
    pub async fn watch(mut self, mut trigger: ReloadTrigger) -> Result<Infallible, JoinError> {
        let mut watch = Watch::start();
        loop {
            let source = &self.source;
            let look = || {
                let source = source.clone();
                move || source.fingerprint()
            };
            tokio::select! {
                changed = watch.changed(look) => changed?,
                () = trigger.recv() => {}
            }
            self = task::spawn_blocking(move || {
                if let Err(error) = self.load() {
                    error!("new rules rejected, the previous rules stay active\n{error}");
                }
                self
            })
            .await?;
        }
    }
}

#[cfg(test)]
mod tests;
