//! Listening sockets, and the connections accepted from them.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::time;

use crate::{metrics::Metrics, net::Address, warnings::WarningLimiter};

/// The functions of `AsyncWrite`, for a wrapper that changes no writes of the stream in `$field`.
macro_rules! pass_writes {
    ($field:ident) => {
        fn poll_write(
            mut self: ::std::pin::Pin<&mut Self>,
            context: &mut ::std::task::Context<'_>,
            bytes: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            ::std::pin::Pin::new(&mut self.$field).poll_write(context, bytes)
        }

        fn poll_write_vectored(
            mut self: ::std::pin::Pin<&mut Self>,
            context: &mut ::std::task::Context<'_>,
            slices: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            ::std::pin::Pin::new(&mut self.$field).poll_write_vectored(context, slices)
        }

        fn is_write_vectored(&self) -> bool {
            self.$field.is_write_vectored()
        }

        fn poll_flush(
            mut self: ::std::pin::Pin<&mut Self>,
            context: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            ::std::pin::Pin::new(&mut self.$field).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: ::std::pin::Pin<&mut Self>,
            context: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            ::std::pin::Pin::new(&mut self.$field).poll_shutdown(context)
        }
    };
}
pub(crate) use pass_writes;

mod ciphertext;
mod connection;
mod encryption;
mod memory;
mod room;
mod serve;
mod socket;
mod stalls;

pub use self::{
    connection::Connection,
    encryption::Encryption,
    memory::Dialer,
    room::{Activity, ConnectionBounds},
};
use self::{room::Room, socket::Socket};

/// The pause after the system failed to accept a connection, as it does when
/// file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The purposes of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// gRPC, over HTTP/2 only.
    Grpc,
    /// HTTP: decisions, health and metrics.
    Http,
    /// Pages for operators.
    Debug,
    /// The separate port for Prometheus.
    Prometheus,
    /// The separate port for health checks.
    Probes,
    /// The admin API.
    Admin,
}

impl Purpose {
    /// The value of the label `listener` in metrics and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Debug => "debug",
            Self::Prometheus => "prometheus",
            Self::Probes => "probes",
            Self::Admin => "admin",
        }
    }

    /// The settings that choose the address.
    const fn settings(self, address: &Address) -> &'static str {
        match (self, address) {
            (Self::Grpc, Address::Tcp(_)) => "GRPC_HOST and GRPC_PORT",
            (Self::Grpc, Address::Unix(_)) => "GRPC_UDS",
            (Self::Http, _) => "HOST and PORT",
            (Self::Debug, _) => "DEBUG_HOST and DEBUG_PORT",
            (Self::Prometheus, _) => "PROMETHEUS_ADDR",
            (Self::Probes, _) => "PROBE_ADDR",
            (Self::Admin, _) => "ADMIN_HOST and ADMIN_PORT",
        }
    }

    /// The number of bytes that a new connection must send within the preface
    /// timeout: the shortest request line, or HTTP/2's preface (RFC 9113,
    /// section 3.4).
    const fn preface_length(self) -> usize {
        match self {
            Self::Grpc => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(),
            Self::Http | Self::Debug | Self::Prometheus | Self::Probes | Self::Admin => {
                "GET / HTTP/1.1\r\n".len()
            }
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
            Self::Debug => "debugging",
            Self::Prometheus => "Prometheus",
            Self::Probes => "probes",
            Self::Admin => "the admin API",
        })
    }
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {} on {address}, as {} has it", .purpose, .purpose.settings(.address))]
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

/// Accepts connections and bounds their number. Removes its unix socket when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Option<Address>,
    purpose: Purpose,
    room: Arc<Room>,
    failures: WarningLimiter,
}

impl Listener {
    /// Listens at `address`. The host `::` accepts IPv4 and IPv6. A stale unix socket is
    /// replaced.
    ///
    /// # Errors
    ///
    /// If the host does not resolve, if the port or the unix socket is in use,
    /// or if the path exists and is not a unix socket.
    pub async fn bind(
        purpose: Purpose,
        address: &Address,
        bounds: ConnectionBounds,
    ) -> Result<Self, ListenError> {
        let error = |source| ListenError { purpose, address: address.clone(), source };
        let socket = Socket::bind(address).await.map_err(error)?;
        let bound = socket.address().map_err(error)?;
        Ok(Self::new(socket, bound, purpose, bounds))
    }

    /// A listener without a socket: the [`Dialer`] opens connections to it
    /// within this process.
    pub fn in_process(purpose: Purpose, bounds: ConnectionBounds) -> (Self, Dialer) {
        let (dialer, incoming) = memory::pair();
        (Self::new(Socket::Memory(incoming), None, purpose, bounds), dialer)
    }

    fn new(
        socket: Socket,
        address: Option<Address>,
        purpose: Purpose,
        bounds: ConnectionBounds,
    ) -> Self {
        let failures = WarningLimiter::new(
            "a connection could not be accepted, retrying",
            "attempts to accept connections failed",
        );
        Self { socket, address, purpose, room: Room::new(purpose, bounds), failures }
    }

    /// The bound address, with the port that the system chose; `None` for a
    /// listener [within the process](Self::in_process).
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// The purpose of the listener.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Reports its connections to `metrics` from now on.
    pub fn report_to(&self, metrics: Arc<Metrics>) {
        self.room.report_to(metrics);
    }

    /// Waits for the next connection. Errors of single connections are logged
    /// and retried. Cancel safe: dropping the future loses no connection.
    pub async fn accept(&mut self) -> Connection {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let (place, stream) = self.room.enter(stream, peer);
                    let preface = self.purpose.preface_length();
                    return Connection::new(Box::new(stream), peer, preface, place);
                }
                Err(error) => {
                    self.failures.warn(&format_args!(
                        "for {}: {error}; if too many files are open, raise `ulimit -n` or lower \
                         MAX_CONNECTIONS",
                        self.purpose
                    ));
                    time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
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
        let bounds = ConnectionBounds { most: 1, most_per_peer: None };
        Listener::bind(Purpose::Http, address, bounds).await
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
