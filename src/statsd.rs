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

use crate::{
    metrics::{
        Metrics,
        delta_tracker::{Delta, DeltaTracker},
        tags::Tags,
    },
    net::HostPort,
};

mod line;
pub mod mogrifier;
mod transport;

use self::{
    line::LineFormat,
    mogrifier::Mogrifier,
    transport::{Packet, Transport},
};

/// The longest pause after a failure.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(3);

/// A server that receives statistics, and the way to send them.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// The address of the server. The host name is looked up for each connection by TCP
    /// and before each flush by UDP.
    pub server: HostPort,
    /// The transport protocol.
    pub protocol: StatsdProtocol,
    /// The way to write tags.
    pub dialect: TagDialect,
}

/// The transport protocol to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsdProtocol {
    /// One connection that is kept open.
    #[default]
    Tcp,
    /// Packets of less than 1,432 bytes.
    Udp,
}

/// The way to write tags.
#[derive(Clone, Debug)]
pub enum TagDialect {
    /// As a part of names, like Envoy's reference service: `name.__key=value`.
    Statsd,
    /// Behind the value: `name:value|#key:value`. The mogrifiers turn parts of names into
    /// tags.
    DogStatsd(Vec<Mogrifier>),
}

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
