//! Listening sockets, and the connections accepted from them.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time};

use crate::{net::Address, warnings::WarningLimiter};

mod connection;
mod memory;
mod socket;
mod stalls;

pub use self::{connection::Connection, memory::Dialer};
use self::{socket::Socket, stalls::RequestTimeout};

/// The pause after the system failed to accept a connection, as it does when
/// file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The protocols spoken on a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 if the client starts with its preface.
    Http,
    /// HTTP/2 only.
    Http2,
}

impl Protocol {
    /// The number of bytes that a new connection must send within the preface
    /// timeout: the shortest request line, or HTTP/2's preface (RFC 9113,
    /// section 3.4).
    const fn preface_length(self) -> usize {
        match self {
            Self::Http => "GET / HTTP/1.1\r\n".len(),
            Self::Http2 => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(),
        }
    }
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {} on {address}, as {} has it", .purpose.name, .purpose.settings)]
pub struct ListenError {
    purpose: Purpose,
    address: Address,
    #[source]
    source: io::Error,
}

impl ListenError {
    /// Returns true if another listener has the address.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// The use of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// What clients use it for.
    pub name: &'static str,
    /// The settings that choose its address.
    pub settings: &'static str,
}

/// Accepts a bounded number of concurrent connections; more of them wait in
/// the system's queue. Removes its unix socket when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Option<Address>,
    protocol: Protocol,
    room: Arc<Semaphore>,
    failures: WarningLimiter,
}

impl Listener {
    /// Listens at `address`, with at most `max_connections` at a time. The host
    /// `::` accepts IPv4 and IPv6. A stale unix socket is replaced.
    ///
    /// # Errors
    ///
    /// If the host does not resolve, if the port or the unix socket is in use,
    /// or if the path exists and is not a unix socket.
    pub async fn bind(
        purpose: Purpose,
        address: &Address,
        protocol: Protocol,
        max_connections: usize,
    ) -> Result<Self, ListenError> {
        let error = |source| ListenError { purpose, address: address.clone(), source };
        let socket = Socket::bind(address).await.map_err(error)?;
        let bound = socket.address().map_err(error)?;
        Ok(Self::new(socket, bound, protocol, max_connections))
    }

    /// A listener without a socket: the [`Dialer`] opens connections to it
    /// within this process.
    pub fn in_process(protocol: Protocol, max_connections: usize) -> (Self, Dialer) {
        let (dialer, incoming) = memory::pair();
        (Self::new(Socket::Memory(incoming), None, protocol, max_connections), dialer)
    }

    fn new(
        socket: Socket,
        address: Option<Address>,
        protocol: Protocol,
        max_connections: usize,
    ) -> Self {
        let room = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let failures = WarningLimiter::new(
            "a connection could not be accepted, retrying",
            "attempts to accept connections failed",
        );
        Self { socket, address, protocol, room, failures }
    }

    /// The bound address, with the port that the system chose; `None` for a
    /// listener [within the process](Self::in_process).
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Waits for the next connection. Errors of single connections are logged
    /// and retried. Cancel safe: dropping the future loses no connection.
    pub async fn accept(&mut self) -> Connection {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                unreachable!("the semaphore is never closed")
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let stream = match self.protocol {
                        Protocol::Http => Box::new(RequestTimeout::new(stream)),
                        Protocol::Http2 => stream,
                    };
                    return Connection::new(stream, peer, self.protocol.preface_length(), permit);
                }
                Err(error) => {
                    self.failures.warn(&error);
                    time::sleep(ACCEPT_RETRY).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::HostPort;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(HostPort { host: host.into(), port })
    }

    async fn bind(address: &Address) -> Result<Listener, ListenError> {
        let purpose = Purpose { name: "a test", settings: "it" };
        Listener::bind(purpose, address, Protocol::Http, 1).await
    }

    /// Listens at `one`, then at the same port of `other`.
    struct Conflict {
        predicted: bool,
        refused: bool,
    }

    impl Conflict {
        async fn between(one: &str, other: &str) -> Self {
            let first = bind(&tcp(one, 0)).await.unwrap();
            let Some(Address::Tcp(first_address)) = first.address() else { unreachable!() };
            let second = HostPort { host: other.into(), port: first_address.port };
            let predicted = second.is_taken_by(first_address);
            Self { predicted, refused: bind(&Address::Tcp(second)).await.is_err() }
        }
    }

    #[tokio::test]
    async fn predicted_conflicts_are_those_of_the_system() {
        const HOSTS: [&str; 5] = ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1"];
        for one in HOSTS {
            for other in HOSTS {
                let mut found = Conflict::between(one, other).await;
                // Another process may use that port of the second address.
                for _ in 0..4 {
                    if found.refused && !found.predicted {
                        found = Conflict::between(one, other).await;
                    }
                }
                assert_eq!(found.predicted, found.refused, "{one}, then {other}");
            }
        }
    }
}
