//! Listening sockets, and the connections that come in.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time};
use tracing::warn;

mod connection;
mod socket;
mod turns;

pub use self::connection::Connection;
use self::{socket::Socket, turns::Turns};

/// How long to wait when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// The longest path of a unix socket, in bytes: what fits into the system's
/// `sockaddr_un`, with a zero behind it.
pub const LONGEST_PATH: usize = 107;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address of either family, without brackets.
    pub host: String,
    /// 0 lets the system pick one.
    pub port: u16,
}

impl Address {
    /// Whether nothing can listen here once something listens at `other`. What a
    /// name stands for is not asked: two that differ may be the same.
    pub fn is_taken_by(&self, other: &Self) -> bool {
        let [own, theirs] = [self, other].map(|it| it.host.parse::<IpAddr>().ok());
        let takes = |all: Option<IpAddr>, one: Option<IpAddr>| match all {
            Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => one.is_some_and(|it| it.is_ipv4()),
            // Connections of both families come in there.
            Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => true,
            _ => false,
        };
        let same_host = match (own, theirs) {
            (None, None) => self.host.eq_ignore_ascii_case(&other.host),
            _ => own == theirs || takes(own, theirs) || takes(theirs, own),
        };
        self.port != 0 && self.port == other.port && same_host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a port.
    Tcp(Address),
    /// On a unix socket, at a path of at most [`LONGEST_PATH`] bytes.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is spoken on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 if the client begins with it.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

impl Protocol {
    /// How many bytes make a greeting: fewer, and nothing can be known of the
    /// connection yet.
    const fn greeting(self) -> usize {
        match self {
            // The shortest request line.
            Self::Http1 => "GET / HTTP/1.1\r\n".len(),
            // RFC 9113, section 3.4.
            Self::Http2 => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(),
        }
    }
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {purpose} on {place}")]
pub struct ListenError {
    purpose: &'static str,
    place: Place,
    #[source]
    source: io::Error,
}

/// Accepts connections, up to a number at the same time; others wait in the
/// system's queue. When it is dropped, its unix socket is removed.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    place: Place,
    protocol: Protocol,
    room: Arc<Semaphore>,
}

impl Listener {
    /// Listens at `place`. The address `::` takes connections of both families. A unix socket
    /// that nobody listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// If the host has no address, if the port or the unix socket is in use, or
    /// if something else than a unix socket is at its path.
    pub async fn bind(
        purpose: &'static str,
        place: &Place,
        protocol: Protocol,
        most: usize,
    ) -> Result<Self, ListenError> {
        let error = |source| ListenError { purpose, place: place.clone(), source };
        let socket = Socket::bind(place).await.map_err(error)?;
        let place = socket.place().map_err(error)?;
        let room = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Ok(Self { socket, place, protocol, room })
    }

    /// Where it listens, with the port that the system picked.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Waits for the next connection. What goes wrong with one is no reason to
    /// stop listening. If this is dropped, nothing is lost.
    pub async fn accept(&self) -> Connection {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                unreachable!("the semaphore is never closed")
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let stream = match self.protocol {
                        Protocol::Http1 => Box::new(Turns::new(stream)),
                        Protocol::Http2 => stream,
                    };
                    return Connection::new(stream, peer, self.protocol.greeting(), permit);
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    time::sleep(BREATH).await;
                }
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        (Self::accept(self).await, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a unix socket can be at `path`.
pub fn is_socket_path(path: &Path) -> bool {
    (1..=LONGEST_PATH).contains(&path.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: u16) -> Place {
        Place::Tcp(Address { host: host.into(), port })
    }

    /// Whether nothing can listen at `other` once something does at the same port of
    /// `one`: as it is said, and as it is.
    async fn both(one: &str, other: &str) -> [bool; 2] {
        let first = Listener::bind("a", &place(one, 0), Protocol::Http1, 1).await.unwrap();
        let Place::Tcp(first_at) = first.place() else { unreachable!() };
        let second_at = Address { host: other.into(), port: first_at.port };
        let is_taken = second_at.is_taken_by(first_at);
        let second = Listener::bind("b", &Place::Tcp(second_at), Protocol::Http1, 1).await;
        [is_taken, second.is_err()]
    }

    #[tokio::test]
    async fn what_is_taken_is_what_the_system_refuses() {
        const HOSTS: [&str; 5] = ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1"];
        for (one, other) in HOSTS.iter().flat_map(|one| HOSTS.map(|other| (*one, other))) {
            let mut found = both(one, other).await;
            // Somebody else may have that port of the other address.
            for _ in 0..4 {
                if found == [false, true] {
                    found = both(one, other).await;
                }
            }
            assert_eq!(found[0], found[1], "{one}, then {other}");
        }
    }

    #[test]
    fn names_are_compared_as_they_are() {
        let at = |host: &str, port| Address { host: host.into(), port };
        assert!(at("localhost", 80).is_taken_by(&at("Localhost", 80)));
        assert!(at("localhost", 80).is_taken_by(&at("::", 80)));
        assert!(!at("localhost", 80).is_taken_by(&at("127.0.0.1", 80)));
        assert!(!at("::", 80).is_taken_by(&at("::", 81)));
        assert!(!at("::", 0).is_taken_by(&at("::", 0)));
    }
}
