//! Sends statistics to statsd and DogStatsD servers.
//!
//! Requests send nothing. At a fixed interval a server receives the growth of each
//! counter, the level of each gauge, and the number of calls in each bucket of a
//! histogram: a few lines for each statistic, however many requests there were.
//!
//! No difference is sent twice. Over TCP, data is lost only if the connection breaks
//! after the operating system has accepted it; a difference that was not accepted is part
//! of the next one. Over UDP, a lost packet is not noticed.

use std::{io, sync::Arc, time::Duration};

use tracing::{info, warn};

use crate::metrics::{
    Metrics,
    delta_tracker::{Delta, DeltaTracker},
    tags::Tags,
};

mod line;
pub mod mogrifier;
mod settings;
mod transport;

pub use self::settings::{SinkSettings, StatsdProtocol, TagDialect};
use self::{
    line::LineFormat,
    transport::{Packet, Transport},
};

/// The longest pause after a failure.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(3);

/// Sends the statistics to one server.
#[derive(Debug)]
pub struct StatsdExporter {
    tracker: DeltaTracker,
    format: LineFormat,
    transport: Transport,
    /// Whether the last flush failed. Only the first failure in a row is logged.
    failing: bool,
    long_line_logged: bool,
}

impl StatsdExporter {
    /// An exporter that sends `metrics` with `tags`. It connects at the first flush.
    pub fn new(settings: SinkSettings, tags: &Tags, metrics: Arc<Metrics>) -> Self {
        let SinkSettings { server, protocol, dialect } = settings;
        Self {
            tracker: DeltaTracker::new(metrics),
            format: LineFormat::new(dialect, tags),
            transport: Transport::new(server, protocol),
            failing: false,
            long_line_logged: false,
        }
    }

    /// Sends all changes that the server has not received. Returns the pause until the
    /// next flush: `interval`, or less after a failure. Safe to cancel.
    pub async fn flush(&mut self, interval: Duration) -> Duration {
        match self.try_flush().await {
            Ok(()) => {
                if self.failing {
                    info!("statistics are sent to {} again", self.transport);
                }
                self.failing = false;
                interval
            }
            Err(error) => {
                if !self.failing {
                    warn!("cannot send statistics to {}, retrying: {error}", self.transport);
                }
                self.failing = true;
                interval.min(MAX_RETRY_PAUSE)
            }
        }
    }

    async fn try_flush(&mut self) -> io::Result<()> {
        let Self { tracker, format, transport, long_line_logged, .. } = self;
        transport.connect().await?;
        let mut packet = Packet::default();
        for Delta { name, change, ack } in tracker.deltas() {
            let line = format.line(&name, change);
            if transport.max_line_bytes() < line.len() {
                if !*long_line_logged {
                    warn!("statistic {name:?} is not sent to {transport}: its line is too long");
                }
                *long_line_logged = true;
                continue;
            }
            if transport.max_packet_bytes() < packet.len() + line.len() {
                transport.send(&mut packet).await?;
            }
            packet.push(&line, ack);
        }
        transport.send(&mut packet).await
    }
}

#[cfg(test)]
mod tests;
