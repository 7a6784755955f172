//! The connection to a statsd server.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

use super::settings::StatsdProtocol;
use crate::{metrics::delta_tracker::Ack, net::HostPort};

/// The timeout of a connection attempt, of a lookup and of a write.
const IO_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest UDP payload that is not fragmented on an Ethernet with some tunnel headers.
const MAX_UDP_BYTES: usize = 1_431;
/// The number of bytes per write to a TCP connection.
const TCP_WRITE_BYTES: usize = 1 << 16;
/// The number of reads, of 4 KiB each, that discard what the server has sent.
const MAX_DISCARDS: u32 = 16;
/// The longest line that statsd servers read from a TCP connection.
const MAX_TCP_LINE_BYTES: usize = 4_095;

/// A server, connected or not.
#[derive(Debug)]
pub(super) struct Transport {
    server: HostPort,
    connection: StatsdConnection,
}

/// The connection of either protocol, or `None` while not connected.
#[derive(Debug)]
enum StatsdConnection {
    Tcp(Option<TcpStream>),
    Udp(Option<ConnectedSocket>),
}

#[derive(Debug)]
struct ConnectedSocket {
    socket: UdpSocket,
    peer: SocketAddr,
}

/// Lines to send, and an acknowledgement for each.
#[derive(Debug, Default)]
pub(super) struct Packet<'t> {
    text: String,
    acks: Vec<LineAck<'t>>,
}

#[derive(Debug)]
struct LineAck<'t> {
    /// The offset of the line in the packet.
    start: usize,
    ack: Ack<'t>,
}

impl<'t> Packet<'t> {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Appends `line`, which ends with a line break.
    pub(super) fn push(&mut self, line: &str, ack: Ack<'t>) {
        self.acks.push(LineAck { start: self.text.len(), ack });
        self.text += line;
    }

    /// Commits every line that starts within the first `sent` bytes. A line that was sent
    /// in part is not sent again: the server may have counted it.
    fn commit(&mut self, sent: usize) {
        let lines = self.acks.partition_point(|line| line.start < sent);
        for line in self.acks.drain(..lines) {
            line.ack.commit();
        }
    }
}

impl Transport {
    pub(super) fn new(server: HostPort, protocol: StatsdProtocol) -> Self {
        let connection = match protocol {
            StatsdProtocol::Tcp => StatsdConnection::Tcp(None),
            StatsdProtocol::Udp => StatsdConnection::Udp(None),
        };
        Self { server, connection }
    }

    pub(super) const fn max_line_bytes(&self) -> usize {
        match self.connection {
            StatsdConnection::Tcp(_) => MAX_TCP_LINE_BYTES,
            StatsdConnection::Udp(_) => MAX_UDP_BYTES,
        }
    }

    pub(super) const fn max_packet_bytes(&self) -> usize {
        match self.connection {
            StatsdConnection::Tcp(_) => TCP_WRITE_BYTES,
            StatsdConnection::Udp(_) => MAX_UDP_BYTES,
        }
    }

    /// Connects by TCP unless a connection is open. By UDP, looks up the address each
    /// time, and replaces the socket if the address has changed.
    pub(super) async fn connect(&mut self) -> io::Result<()> {
        let is_open = self.is_open();
        let host_and_port = (self.server.host.as_str(), self.server.port);
        match &mut self.connection {
            StatsdConnection::Tcp(stream) => {
                if !is_open {
                    *stream = None;
                    *stream = Some(with_timeout(TcpStream::connect(host_and_port)).await?);
                }
            }
            StatsdConnection::Udp(connected) => {
                let peer = look_up(&self.server).await?;
                let is_current = match connected {
                    Some(connected) => connected.peer == peer,
                    None => false,
                };
                if !is_current {
                    let socket = connect_udp(peer).await?;
                    *connected = Some(ConnectedSocket { socket, peer });
                }
            }
        }
        Ok(())
    }

    /// Whether there is a connection that the server has not closed, as far as the
    /// operating system has noticed.
    pub(super) fn is_open(&self) -> bool {
        match &self.connection {
            StatsdConnection::Tcp(Some(stream)) => is_open(stream),
            StatsdConnection::Udp(Some(_)) => true,
            StatsdConnection::Tcp(None) | StatsdConnection::Udp(None) => false,
        }
    }

    /// Sends and empties `packet`, and commits the lines that the operating system
    /// accepts. Closes the TCP connection on an error.
    pub(super) async fn send(&mut self, packet: &mut Packet<'_>) -> io::Result<()> {
        let sent = match &mut self.connection {
            StatsdConnection::Tcp(Some(stream)) => write(stream, packet).await,
            StatsdConnection::Udp(Some(connected)) => send_packet(&connected.socket, packet).await,
            StatsdConnection::Tcp(None) | StatsdConnection::Udp(None) => {
                Err(io::ErrorKind::NotConnected.into())
            }
        };
        if let (Err(_), StatsdConnection::Tcp(stream)) = (&sent, &mut self.connection) {
            *stream = None;
        }
        packet.text.clear();
        sent
    }
}

/// Looks up the host name. An IPv4 address comes before an IPv6 address.
async fn look_up(server: &HostPort) -> io::Result<SocketAddr> {
    let found = with_timeout(lookup_host((server.host.as_str(), server.port))).await?;
    let mut first = None;
    for address in found {
        if address.is_ipv4() {
            return Ok(address);
        }
        first.get_or_insert(address);
    }
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

async fn connect_udp(peer: SocketAddr) -> io::Result<UdpSocket> {
    let local = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

/// Safe to cancel: accepted bytes are committed after each write.
async fn write(stream: &mut TcpStream, packet: &mut Packet<'_>) -> io::Result<()> {
    let mut sent = 0;
    while sent < packet.len() {
        match with_timeout(stream.write(&packet.text.as_bytes()[sent..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => sent += written,
        }
        packet.commit(sent);
    }
    Ok(())
}

async fn send_packet(socket: &UdpSocket, packet: &mut Packet<'_>) -> io::Result<()> {
    let Some(payload) = packet.text.strip_suffix('\n') else { return Ok(()) };
    with_timeout(socket.send(payload.as_bytes())).await?;
    packet.commit(packet.len());
    Ok(())
}

/// Whether the server has not closed the connection. Discards what the server sends. A
/// server that sends more than it is sent would keep this busy, and its connection counts
/// as closed.
fn is_open(stream: &TcpStream) -> bool {
    let mut discarded = [0; 4_096];
    for _ in 0..MAX_DISCARDS {
        match stream.try_read(&mut discarded) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    false
}

async fn with_timeout<T>(operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(IO_TIMEOUT, operation).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("timed out after {IO_TIMEOUT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.connection {
            StatsdConnection::Tcp(_) => "TCP",
            StatsdConnection::Udp(_) => "UDP",
        };
        write!(f, "{} by {protocol}", self.server)
    }
}
