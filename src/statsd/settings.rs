//! The settings of one statsd server.

use super::mogrifier::Mogrifier;
use crate::net::HostPort;

/// A server that receives statistics, and the way to send them.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// The address of the server. The host name is looked up for each connection by TCP
    /// and before each flush by UDP.
    pub server: HostPort,
    /// The transport protocol of the lines.
    pub protocol: StatsdProtocol,
    /// The place of tags in a line.
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
