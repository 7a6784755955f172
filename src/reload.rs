//! Replaces the rules without a restart. A reload replaces all rules, or none
//! if there is an error.
//!
//! The files are read when a [`Watch`] detects a change.

use std::{
    convert::Infallible,
    future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    signal::unix::Signal,
    sync::mpsc,
    task::{self, JoinError},
    time,
};
use tracing::{error, info, warn};

use crate::{
    config::{self, CompileOptions, Diagnostics, SourceFile},
    engine::SharedRules,
    health::Health,
    live::Live,
    metrics::Metrics,
    rule_files::{LinkPolicy, ReadError, RuleSource},
    rules::RuleTree,
    time::{Clock, Timestamp},
    warnings::WarningLimiter,
    watch::{self, Watch},
};

mod reads;

use self::reads::{ReadFailure, Reads};

/// The time for which a start waits for files that are being written.
const MAX_WAIT: Duration = Duration::from_secs(60);

const BUSY: &str = "the rule files keep changing; the previous rules stay active";

/// The reason why a set of rule files was rejected.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The contents of the files have errors.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

/// The effect of a load without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The rules of the files are active.
    New,
    /// The files are those of the last load, which may have failed.
    Unchanged,
}

impl LoadError {
    /// The errors without text of the rule files.
    fn public(&self) -> String {
        match self {
            Self::Read(error) => error.to_string(),
            Self::Invalid(diagnostics) => diagnostics.public(),
        }
    }
}

/// The rules that decide requests, and the handles that report a change.
#[derive(Clone, Debug)]
pub struct ActiveRules {
    /// The rules as of the last load.
    pub rules: SharedRules,
    /// Counts successful and failed loads.
    pub metrics: Arc<Metrics>,
    /// Is told the number of domains after each load, since an instance without any may be
    /// unhealthy.
    pub health: Arc<Health>,
    /// The reason why newer rules were rejected, without text of the rules; `None` if
    /// the newest rules are active.
    pub rejection: Arc<ArcSwapOption<String>>,
    /// The time of a load.
    pub clock: Arc<dyn Clock>,
    /// Counts the hits of each rule; `None` if nobody can see them.
    pub live: Option<Arc<Live>>,
}

impl ActiveRules {
    /// Makes `rules` active instead of all current rules.
    pub fn replace(&self, rules: RuleTree) {
        let domains = rules.domain_count();
        let rules = Arc::new(rules);
        let now = self.clock.now();
        self.metrics.install_rules(&rules);
        self.metrics.set_active_rules(&rules, now);
        if let Some(live) = &self.live {
            live.install(Arc::clone(&rules), now);
        }
        self.rules.store(rules);
        self.health.set_domains(domains);
        self.rejection.store(None);
    }

    /// Records that newer rules were rejected. The current rules stay active.
    pub fn reject(&self, reason: String) {
        self.metrics.count_rejected_rules();
        self.rejection.store(Some(Arc::new(reason)));
    }
}

/// Requests a reload although no file has changed.
#[derive(Debug)]
pub enum ReloadTrigger {
    /// A signal of the operating system.
    Signal(Signal),
    /// A message from within the process.
    Channel(mpsc::Receiver<()>),
}

impl ReloadTrigger {
    /// Waits for the next request. If the sender is gone, waits forever.
    pub async fn recv(&mut self) {
        let received = match self {
            Self::Signal(signal) => signal.recv().await,
            Self::Channel(messages) => messages.recv().await,
        };
        if received.is_none() {
            future::pending().await
        }
    }
}

/// Loads rules from files, and reloads them after a change.
#[derive(Debug)]
pub struct Reloader {
    /// The place of the files.
    pub source: RuleSource,
    /// The symbolic links that are followed.
    pub links: LinkPolicy,
    /// The options for the compilation.
    pub options: CompileOptions,
    /// The rules that a load replaces.
    pub active: ActiveRules,
    /// The hash of the contents, or of the error, at the last load.
    last_hash: Option<u64>,
    reads: Reads,
    hung_reads: WarningLimiter,
}

/// The files that a [`Reloader`] watches. Both methods block.
trait Source: Clone + Send + 'static {
    fn fingerprint(&self) -> u64;
    fn read(&self) -> Result<Vec<SourceFile>, ReadError>;
}

/// The result of a read.
struct Look {
    /// True if a [`ReloadTrigger`] requested it.
    is_requested: bool,
    files: Result<Vec<SourceFile>, ReadError>,
}

#[derive(Clone)]
struct LinkedSource {
    source: RuleSource,
    links: LinkPolicy,
}

impl Source for LinkedSource {
    fn fingerprint(&self) -> u64 {
        self.source.fingerprint()
    }

    fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        self.source.read(self.links)
    }
}

impl Reloader {
    /// Does not load anything before the first call of [`Self::load`].
    pub fn new(
        source: RuleSource,
        links: LinkPolicy,
        options: CompileOptions,
        active: ActiveRules,
    ) -> Self {
        let hung_reads = WarningLimiter::new(
            "the rule files cannot be read; the previous rules stay active",
            "reads of the rule files did not end; the previous rules stay active",
        );
        let reads = Reads::new(reads::TIMEOUT);
        Self { source, links, options, active, last_hash: None, reads, hung_reads }
    }

    /// Reads the files and makes their rules active, unless the files are the
    /// same as in the last call. Blocks.
    ///
    /// # Errors
    ///
    /// If the files cannot be read or have errors; the previous rules stay
    /// active. An error is returned only once: another call with the same files
    /// returns [`Loaded::Unchanged`].
    pub fn load(&mut self) -> Result<Loaded, LoadError> {
        let files = self.source.read(self.links);
        self.load_files(files)
    }

    /// Waits until nobody writes the files, for a minute at most. Does not wait if the last
    /// edit is older than [`watch::QUIET_TIME`].
    ///
    /// # Errors
    ///
    /// If a look at the files panics.
    pub async fn wait_for_writers(&self, now: Timestamp) -> Result<(), JoinError> {
        let source = self.source.clone();
        let modified = task::spawn_blocking(move || source.last_modified()).await?;
        // A time in the future says nothing: the clock of a file server can be ahead.
        let is_quiet =
            |modified: Timestamp| modified <= now && watch::QUIET_TIME < now.since(modified);
        if modified.is_none_or(is_quiet) {
            return Ok(());
        }
        let mut watch = Watch::start(BUSY);
        let fingerprint = || {
            let source = self.source.clone();
            task::spawn_blocking(move || source.fingerprint())
        };
        match time::timeout(MAX_WAIT, watch.changed(fingerprint)).await {
            Ok(quiet) => quiet,
            Err(_) => {
                warn!("{}: the rule files keep changing, and are read nevertheless", self.source);
                Ok(())
            }
        }
    }

    fn load_files(
        &mut self,
        files: Result<Vec<SourceFile>, ReadError>,
    ) -> Result<Loaded, LoadError> {
        let hash = hash(&files);
        if self.last_hash.replace(hash) == Some(hash) {
            return Ok(Loaded::Unchanged);
        }
        match self.compile(files) {
            Ok(rules) => {
                self.active.replace(rules);
                Ok(Loaded::New)
            }
            Err(error) => {
                self.active.reject(error.public());
                Err(error)
            }
        }
    }

    fn compile(&self, files: Result<Vec<SourceFile>, ReadError>) -> Result<RuleTree, LoadError> {
        let files = files?;
        let compiled = config::compile(&files, self.options)?;
        for warning in &compiled.warnings {
            warn!("{warning}");
        }
        let rules = compiled.rules;
        info!(
            files = files.len(),
            domains = rules.domain_count(),
            rules = rules.rules().len(),
            "rules loaded"
        );
        Ok(rules)
    }

    /// Loads the rules whenever the files change, and whenever `trigger` requests
    /// it. Does not return.
    ///
    /// # Errors
    ///
    /// If a look at the files or a load panics.
    pub async fn watch(self, trigger: ReloadTrigger) -> Result<Infallible, JoinError> {
        let source = LinkedSource { source: self.source.clone(), links: self.links };
        self.watch_source(source, trigger).await
    }

    async fn watch_source(
        mut self,
        source: impl Source,
        mut trigger: ReloadTrigger,
    ) -> Result<Infallible, JoinError> {
        let mut watch = Watch::start(BUSY);
        loop {
            let look = match self.next_look(&source, &mut watch, &mut trigger).await {
                Ok(look) => look,
                Err(ReadFailure::Panicked(panic)) => return Err(panic),
                Err(ReadFailure::Hung) => {
                    self.on_hung_read();
                    time::sleep(self.reads.timeout).await;
                    continue;
                }
            };
            let Look { is_requested, files } = look;
            self = task::spawn_blocking(move || {
                match self.load_files(files) {
                    Ok(Loaded::Unchanged) if is_requested => {
                        info!("read the rule files again: they are unchanged");
                    }
                    Ok(_) => {}
                    Err(error) => {
                        error!("new rules rejected, the previous rules stay active\n{error}");
                    }
                }
                self
            })
            .await?;
        }
    }

    /// Waits for a change or a request, and reads the files once nobody writes them.
    async fn next_look(
        &self,
        source: &impl Source,
        watch: &mut Watch,
        trigger: &mut ReloadTrigger,
    ) -> Result<Look, ReadFailure> {
        let fingerprint = || {
            let (reads, source) = (self.reads.clone(), source.clone());
            async move { reads.run(move || source.fingerprint()).await }
        };
        let mut is_requested = false;
        loop {
            tokio::select! {
                changed = watch.changed(fingerprint) => changed?,
                () = trigger.recv() => {
                    is_requested = true;
                    watch.request();
                    continue;
                }
            }
            let read_source = source.clone();
            let read = move || (read_source.read(), read_source.fingerprint());
            let (files, fingerprint) = self.reads.run(read).await?;
            // Otherwise they were edited during the read, which the watch reports again.
            if watch.has_reported(fingerprint) {
                return Ok(Look { is_requested, files });
            }
        }
    }

    /// Rejects the files, until a read ends.
    fn on_hung_read(&mut self) {
        let timeout = self.reads.timeout;
        let reason = format!("{}: a read did not end within {timeout:?}", self.source);
        self.hung_reads.warn(&reason);
        self.active.metrics.count_hung_read();
        let hash = hash(&Err(reason.as_str()));
        if self.last_hash.replace(hash) != Some(hash) {
            self.active.reject(reason);
        }
    }
}

/// Hashes the names and contents of the files, or the error.
fn hash(files: &Result<Vec<SourceFile>, impl ToString>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match files {
        Ok(files) => {
            for file in files {
                (&file.name, &file.bytes).hash(&mut hasher);
            }
        }
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
