//! Statistics for servers of statsd and DogStatsD.
//!
//! Nothing is sent while a request is decided. Every so often a sink is told by
//! how much the counters have grown, what the gauges are, and how many calls took
//! about how long: a few lines for each statistic, however many requests there were.
//!
//! What is promised: a difference is never sent twice. By TCP it is lost only if
//! the connection breaks after the system has taken it; what it has not taken is
//! part of the next difference. By UDP nobody is told what is lost, so only what
//! the system refuses to send is.

use std::{io, sync::Arc, time::Duration};

use tracing::{info, warn};

use crate::{
    metrics::{
        Metrics,
        ledger::{Due, Ledger},
        tags::Tags,
    },
    net::HostPort,
};

mod transport;
mod line;
pub mod mogrifier;

use self::{
    line::Format,
    mogrifier::Mogrifier,
    transport::{Chunk, Transport},
};

/// How long to wait after a failure, unless statistics are due earlier.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// A server that is told the statistics, and how.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Where it is. Its name is looked up whenever that helps.
    pub server: HostPort,
    /// How it is reached.
    pub protocol: StatsdProtocol,
    /// How it takes tags.
    pub dialect: TagDialect,
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsdProtocol {
    /// By a connection.
    #[default]
    Tcp,
    /// By packets of less than 1,432 bytes.
    Udp,
}

/// How a server takes tags.
#[derive(Clone, Debug)]
pub enum TagDialect {
    /// As a part of names, as Envoy's reference service puts them there:
    /// `name.__key=value`.
    Statsd,
    /// Behind names, some of which these change.
    DogStatsd(Vec<Mogrifier>),
}

/// Tells one server the statistics.
#[derive(Debug)]
pub struct StatsdExporter {
    ledger: Ledger,
    format: Format,
    channel: Transport,
    /// Whether a failure has been logged, and no success since.
    failing: bool,
    /// Whether a line that is too long has been logged.
    told_too_long: bool,
}

impl StatsdExporter {
    /// Tells the server of `settings` about `metrics`, with `tags`. Does not
    /// connect yet.
    pub fn new(settings: SinkSettings, tags: &Tags, metrics: Arc<Metrics>) -> Self {
        let SinkSettings { server, protocol, dialect } = settings;
        Self {
            ledger: Ledger::new(metrics),
            format: Format::new(dialect, tags),
            channel: Transport::new(server, protocol),
            failing: false,
            told_too_long: false,
        }
    }

    /// Tells everything that the server has not been told, and after how long at
    /// most to do so again, where that is every `interval`. May be given up at any
    /// time. A failure is logged when it is the first after a success.
    pub async fn flush(&mut self, interval: Duration) -> Duration {
        match self.try_flush().await {
            Ok(()) => {
                if self.failing {
                    info!("statistics reach {} again", self.channel);
                }
                self.failing = false;
                interval
            }
            Err(error) => {
                if !self.failing {
                    warn!("statistics do not reach {}: {error}; trying again", self.channel);
                }
                self.failing = true;
                interval.min(TRY_AGAIN)
            }
        }
    }

    async fn try_flush(&mut self) -> io::Result<()> {
        let Self { ledger, format, channel, told_too_long, .. } = self;
        channel.ready().await?;
        let mut chunk = Chunk::default();
        for Due { name, what, receipt } in ledger.due() {
            let line = format.line(&name, what);
            if channel.longest_line() < line.len() {
                if !*told_too_long {
                    warn!("{name:?} is too long for {channel}, which is not told about it");
                }
                *told_too_long = true;
                continue;
            }
            if channel.largest_chunk() < chunk.len() + line.len() {
                channel.send(&mut chunk).await?;
            }
            chunk.push(&line, receipt);
        }
        channel.send(&mut chunk).await
    }
}

#[cfg(test)]
mod tests;
