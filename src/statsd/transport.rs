//! The way to a server.

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

use super::StatsdProtocol;
use crate::{metrics::ledger::Receipt, net::HostPort};

/// How long a connection, an address or a write may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many bytes fit into a packet that is not cut on the way.
const PACKET: usize = 1_431;
/// How many bytes are written at once to a connection.
const WRITE: usize = 1 << 16;
/// The longest line, in bytes, that servers read from a connection.
const LONGEST: usize = 4_095;

/// The way to a server, whether it is there or not.
#[derive(Debug)]
pub(super) struct Transport {
    server: HostPort,
    link: Link,
}

#[derive(Debug)]
enum Link {
    Tcp(Option<TcpStream>),
    /// The socket, and where its packets go.
    Udp(Option<(UdpSocket, SocketAddr)>),
}

/// Lines, and a receipt for each.
#[derive(Debug, Default)]
pub(super) struct Chunk<'l> {
    text: String,
    /// Each with the place where its line begins.
    receipts: Vec<(usize, Receipt<'l>)>,
}

impl<'l> Chunk<'l> {
    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn push(&mut self, line: &str, receipt: Receipt<'l>) {
        self.receipts.push((self.text.len(), receipt));
        self.text += line;
    }

    /// Signs for all lines of which something has been taken when `taken` bytes
    /// have been. One that is cut is not sent again: the server may have understood
    /// it.
    fn sign(&mut self, taken: usize) {
        let rest = self.receipts.iter().position(|(begin, _)| taken <= *begin);
        let signed = self.receipts.drain(..rest.unwrap_or(self.receipts.len()));
        signed.for_each(|(_, receipt)| receipt.sign());
    }
}

impl Transport {
    pub(super) fn new(server: HostPort, protocol: StatsdProtocol) -> Self {
        let link = match protocol {
            StatsdProtocol::Tcp => Link::Tcp(None),
            StatsdProtocol::Udp => Link::Udp(None),
        };
        Self { server, link }
    }

    /// How long a line may be, in bytes.
    pub(super) const fn longest_line(&self) -> usize {
        match self.link {
            Link::Tcp(_) => LONGEST,
            Link::Udp(_) => PACKET,
        }
    }

    /// How long a chunk may be, in bytes.
    pub(super) const fn largest_chunk(&self) -> usize {
        match self.link {
            Link::Tcp(_) => WRITE,
            Link::Udp(_) => PACKET,
        }
    }

    /// Connects, unless there is a connection that works as far as is known. A
    /// name may stand for another address by now.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        let (open, place) = (self.is_open(), (self.server.host.as_str(), self.server.port));
        match &mut self.link {
            Link::Tcp(link) => {
                if !open {
                    *link = None;
                    *link = Some(in_time(TcpStream::connect(place)).await?);
                }
            }
            Link::Udp(link) => {
                let addresses: Vec<_> = in_time(lookup_host(place)).await?.collect();
                let ipv4 = addresses.iter().find(|it| it.is_ipv4());
                let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                let address = *ipv4.or(addresses.first()).ok_or_else(none)?;
                if link.as_ref().is_none_or(|(_, it)| *it != address) {
                    let any = match address {
                        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                    };
                    let socket = UdpSocket::bind(any).await?;
                    socket.connect(address).await?;
                    *link = Some((socket, address));
                }
            }
        }
        Ok(())
    }

    /// Whether there is a connection that works as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match &self.link {
            Link::Tcp(link) => link.as_ref().is_some_and(is_open),
            Link::Udp(link) => link.is_some(),
        }
    }

    /// Sends all of `chunk`, and signs for what the system takes.
    pub(super) async fn send(&mut self, chunk: &mut Chunk<'_>) -> io::Result<()> {
        let sent = match &mut self.link {
            Link::Tcp(Some(link)) => write(link, chunk).await,
            Link::Udp(Some((socket, _))) => send_packet(socket, chunk).await,
            Link::Tcp(None) | Link::Udp(None) => Err(io::ErrorKind::NotConnected.into()),
        };
        if let (Err(_), Link::Tcp(link)) = (&sent, &mut self.link) {
            *link = None;
        }
        chunk.text.clear();
        sent
    }
}

/// Every byte that is taken is accounted for at once, so this may be given up.
async fn write(link: &mut TcpStream, chunk: &mut Chunk<'_>) -> io::Result<()> {
    let mut taken = 0;
    while taken < chunk.len() {
        match in_time(link.write(&chunk.text.as_bytes()[taken..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => taken += more,
        }
        chunk.sign(taken);
    }
    Ok(())
}

async fn send_packet(socket: &UdpSocket, chunk: &mut Chunk<'_>) -> io::Result<()> {
    let Some(packet) = chunk.text.strip_suffix('\n') else { return Ok(()) };
    in_time(socket.send(packet.as_bytes())).await?;
    chunk.sign(chunk.len());
    Ok(())
}

/// Whether the server has not closed the connection, as far as is known. What it
/// may say is of no interest.
fn is_open(link: &TcpStream) -> bool {
    let mut said = [0; 256];
    loop {
        match link.try_read(&mut said) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no success within {PATIENCE:?}")))
    })
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.link {
            Link::Tcp(_) => "TCP",
            Link::Udp(_) => "UDP",
        };
        write!(f, "{} by {protocol}", self.server)
    }
}
