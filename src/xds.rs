//! Rules from a management server: put in force as they come, and kept while
//! there is no connection.

use std::{convert::Infallible, error::Error, fmt::Write, iter, time::Duration};

use tokio::{
    task::{self, JoinError},
    time::{self, Instant},
};
use tonic::transport::Channel;
use tracing::{debug, error, info, warn};

use crate::{
    backoff::{Backoff, BackoffSettings},
    config::{self, CompileOptions, Compiled, Diagnostics, SourceTree},
    net::HostPort,
    reload::ActiveRules,
    tls::client::ClientTls,
};

mod connect;
pub mod discovery;

use self::discovery::{Subscriber, Subscription, Update};

/// Where rules come from, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct XdsSettings {
    /// The server.
    pub server: HostPort,
    /// Set if the connection is encrypted.
    pub tls: Option<ClientTls>,
    /// What the server is told.
    pub subscriber: Subscriber,
    /// How long to wait for the next attempt to connect.
    pub backoff: BackoffSettings,
}

/// Follows a server.
#[derive(Debug)]
pub struct XdsClient {
    settings: XdsSettings,
    options: CompileOptions,
    active: ActiveRules,
    /// The version that was accepted last.
    accepted: String,
    backoff: Backoff,
}

/// The delay before the second attempt to connect after the start, unless the initial
/// backoff is shorter: the server is often only a little late then.
const FIRST_DELAY: Duration = Duration::from_secs(1);

type Failure = Box<dyn Error + Send + Sync>;

impl XdsClient {
    /// Puts rules in force with `active`, and has not begun yet.
    pub fn new(settings: XdsSettings, options: CompileOptions, active: ActiveRules) -> Self {
        let backoff = Backoff::starting_at(FIRST_DELAY, settings.backoff);
        Self { settings, options, active, accepted: String::new(), backoff }
    }

    /// Follows the server, and connects again whenever that ends. Does not
    /// return.
    ///
    /// # Errors
    ///
    /// If a look at the rules panics.
    pub async fn run(mut self) -> Result<Infallible, JoinError> {
        loop {
            let failure =
                match connect::connect(&self.settings.server, self.settings.tls.as_ref()).await {
                    Ok(channel) => self.connected(channel).await?,
                    Err(failure) => failure,
                };
            let wait = self.backoff.next_delay();
            let server = &self.settings.server;
            let reason = causes(&*failure);
            warn!(%server, "cannot follow the source of rules, next attempt in {wait:?}: {reason}");
            time::sleep(wait).await;
        }
    }

    /// What ended the connection.
    async fn connected(&mut self, channel: Channel) -> Result<Failure, JoinError> {
        let since = Instant::now();
        self.active.metrics.set_xds_connected(true);
        info!(server = %self.settings.server, "connected to the source of rules");
        let ended = self.converse(channel).await;
        self.active.metrics.set_xds_connected(false);
        // A server that has nothing new to say says nothing.
        if self.settings.backoff.max < since.elapsed() {
            self.backoff.reset();
        }
        ended
    }

    async fn converse(&mut self, channel: Channel) -> Result<Failure, JoinError> {
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
            let Update { receipt, rules } = update;
            let answered = match self.take(&receipt.version, rules).await? {
                Ok(()) => {
                    self.accepted.clone_from(&receipt.version);
                    self.backoff.reset();
                    stream.accept(receipt)
                }
                Err(reason) => stream.refuse(receipt, reason),
            };
            if let Err(status) = answered {
                return Ok(status.into());
            }
        }
    }

    /// Puts the rules of a version in force, or says why not.
    async fn take(
        &self,
        version: &str,
        rules: Result<Vec<SourceTree>, String>,
    ) -> Result<Result<(), String>, JoinError> {
        let compiled = match rules {
            Ok(trees) => {
                let options = self.options;
                let compile = move || config::compile_trees(&trees, options);
                task::spawn_blocking(compile).await?.map_err(|it| lines(&it))
            }
            Err(reason) => Err(reason),
        };
        Ok(match compiled {
            Ok(Compiled { rules, warnings }) => {
                // Nobody wrote these rules by hand, to mend them by hand.
                warnings.iter().for_each(|it| debug!("{it}"));
                info!(
                    version,
                    domains = rules.domain_count(),
                    rules = rules.rules().len(),
                    "rules loaded"
                );
                self.active.replace(rules);
                Ok(())
            }
            Err(reason) => {
                error!(version, "new rules rejected, the previous rules stay active\n{reason}");
                self.active.reject(reason.clone());
                Err(reason)
            }
        })
    }
}

/// One line for each mistake.
fn lines(mistakes: &Diagnostics) -> String {
    let mut text = String::new();
    for (index, it) in mistakes.iter().take(Diagnostics::MAX_SHOWN).enumerate() {
        let _ = write!(text, "{}{it}", if index == 0 { "" } else { "\n" });
    }
    match mistakes.len().saturating_sub(Diagnostics::MAX_SHOWN) {
        0 => text,
        more => text + &format!("\nand {more} more"),
    }
}

/// An error and all that led to it.
fn causes(error: &(dyn Error + 'static)) -> String {
    let all: Vec<_> =
        iter::successors(Some(error), |&it| it.source()).map(ToString::to_string).collect();
    all.join(": ")
}
