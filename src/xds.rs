//! Rules from an xDS management server. They become active as they arrive, and stay
//! active while there is no connection.

use std::{convert::Infallible, error::Error, fmt::Write, time::Duration};

use tokio::{
    task::{self, JoinError},
    time::{self, Instant},
};
use tonic::transport::Channel;
use tracing::{debug, error, info, warn};

use crate::{
    backoff::{Backoff, BackoffSettings},
    causes,
    config::{self, CompileOptions, Compiled, Diagnostics, SourceTree},
    net::HostPort,
    reload::ActiveRules,
    trust::ClientTls,
    warnings::WarningLimiter,
};

mod connect;
pub mod discovery;
mod pace;

use self::{
    discovery::{Subscriber, Subscription, Update},
    pace::Pace,
};

/// The connection to the management server.
#[derive(Clone, Debug, PartialEq)]
pub struct XdsSettings {
    /// The address of the server.
    pub server: HostPort,
    /// Set if the connection uses TLS.
    pub tls: Option<ClientTls>,
    /// The identity of this process, and the bounds of a stream.
    pub subscriber: Subscriber,
    /// The delays between two attempts to connect.
    pub backoff: BackoffSettings,
}

/// Receives rules from the management server.
#[derive(Debug)]
pub struct XdsClient {
    settings: XdsSettings,
    options: CompileOptions,
    active: ActiveRules,
    /// The last accepted version, or empty before the first.
    accepted: String,
    backoff: Backoff,
    pace: Pace,
    /// The reason of the last rejection.
    rejection: String,
    repeats: WarningLimiter,
}

/// The delay before the second attempt to connect after the start, unless the initial
/// backoff is shorter: the server often starts a little later than tollgate.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The reason why a connection ended.
type DisconnectReason = Box<dyn Error + Send + Sync>;

impl XdsClient {
    /// A client that activates rules through `active`. [`run`](Self::run) starts it.
    pub fn new(settings: XdsSettings, options: CompileOptions, active: ActiveRules) -> Self {
        let backoff = Backoff::starting_at(FIRST_DELAY, settings.backoff);
        active.metrics.set_xds_connected(false);
        let repeats = WarningLimiter::new(
            "the xDS server sent the same rules again",
            "times the xDS server sent the same rules again",
        );
        Self {
            settings,
            options,
            active,
            accepted: String::new(),
            backoff,
            pace: Pace::new(),
            rejection: String::new(),
            repeats,
        }
    }

    /// Receives rules, and connects again with backoff when a connection ends. Runs
    /// forever.
    ///
    /// # Errors
    ///
    /// If compiling rules panics.
    pub async fn run(mut self) -> Result<Infallible, JoinError> {
        loop {
            let tls = self.settings.tls.as_ref();
            let disconnect = match connect::connect(&self.settings.server, tls).await {
                Ok(channel) => self.use_connection(channel).await?,
                Err(error) => error,
            };
            let delay = self.backoff.next_delay();
            let server = &self.settings.server;
            let reason = causes::text(&*disconnect);
            warn!(%server, "no connection to the xDS server, next attempt in {delay:?}: {reason}");
            time::sleep(delay).await;
        }
    }

    /// Receives rules until the connection ends.
    async fn use_connection(&mut self, channel: Channel) -> Result<DisconnectReason, JoinError> {
        let connected = Instant::now();
        self.active.metrics.set_xds_connected(true);
        info!(server = %self.settings.server, "connected to the xDS server");
        let ended = self.receive(channel).await;
        self.active.metrics.set_xds_connected(false);
        // A long connection is a success even if the server had no new rules to send.
        if self.settings.backoff.max < connected.elapsed() {
            self.backoff.reset();
        }
        ended
    }

    async fn receive(&mut self, channel: Channel) -> Result<DisconnectReason, JoinError> {
        let accepted = self.accepted.clone();
        let opened = Subscription::open(channel, &self.settings.subscriber, accepted).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(status) => return Ok(status.into()),
        };
        loop {
            let update = match stream.next().await {
                Ok(Some(update)) => update,
                Ok(None) => return Ok("the server ended the stream".into()),
                Err(status) => return Ok(status.into()),
            };
            let Update { version, rules } = update;
            let activated = self.activate(&version.name, rules).await?;
            self.pace.wait(activated.is_ok()).await;
            let answered = match activated {
                Ok(()) => {
                    self.accepted.clone_from(&version.name);
                    self.backoff.reset();
                    stream.accept(version)
                }
                Err(reason) => stream.reject(version, reason),
            };
            if let Err(status) = answered {
                return Ok(status.into());
            }
        }
    }

    /// Compiles and activates the rules of a version. The inner error is the reason why
    /// the rules are rejected.
    async fn activate(
        &mut self,
        version: &str,
        rules: Result<Vec<SourceTree>, String>,
    ) -> Result<Result<(), String>, JoinError> {
        let mut public = None;
        let compiled = match rules {
            Ok(trees) => {
                let options = self.options;
                let compile = move || config::compile_trees(&trees, options);
                task::spawn_blocking(compile).await?.map_err(|diagnostics| {
                    public = Some(diagnostics.public());
                    lines(&diagnostics)
                })
            }
            Err(reason) => Err(reason),
        };
        match compiled {
            Ok(Compiled { rules, warnings }) => {
                // Only for debugging: these rules were generated, not written by hand.
                for warning in warnings {
                    debug!("{warning}");
                }
                let (domains, count) = (rules.domain_count(), rules.rules().len());
                if self.accepted == version {
                    self.repeats.warn(&format_args!("version {version:?}"));
                } else {
                    info!(version, domains, rules = count, "rules loaded");
                }
                self.rejection.clear();
                self.active.replace(rules);
                Ok(Ok(()))
            }
            Err(reason) => {
                if self.rejection == reason {
                    self.repeats.warn(&format_args!("version {version:?}, which was rejected"));
                } else {
                    error!(version, "new rules rejected, the previous rules stay active\n{reason}");
                    self.rejection.clone_from(&reason);
                }
                self.active.reject(public.unwrap_or_else(|| reason.clone()));
                Ok(Err(reason))
            }
        }
    }
}

/// One line for each of the first diagnostics, and the number of the others.
fn lines(diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(Diagnostics::MAX_SHOWN) {
        let _ = writeln!(text, "{diagnostic}");
    }
    match diagnostics.len().saturating_sub(Diagnostics::MAX_SHOWN) {
        0 => drop(text.pop()),
        more => text += &format!("and {more} more"),
    }
    text
}
