//! Listening sockets, and the connections that come in.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

/// How long a new connection may take to say something sensible.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address of either family, without brackets.
    pub host: String,
    /// 0 lets the system pick one.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {purpose} on {address}")]
pub struct ListenError {
    purpose: &'static str,
    address: Address,
    #[source]
    source: io::Error,
}

/// Accepts connections, up to a number at the same time; others wait in the
/// system's queue.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// How many bytes make a greeting: fewer, and nothing can be known of the
    /// connection yet.
    greeting: usize,
    room: Arc<Semaphore>,
    max_life: Option<Duration>,
}

impl Listener {
    /// Listens at `address` for connections that begin with at least
    /// `greeting` bytes.
    ///
    /// # Errors
    ///
    /// If the host has no address, or the port is in use.
    pub async fn bind(
        purpose: &'static str,
        address: &Address,
        greeting: usize,
        most: usize,
    ) -> Result<Self, ListenError> {
        let error = |source| ListenError { purpose, address: address.clone(), source };
        let socket = TcpListener::bind((address.host.as_str(), address.port)).await;
        let socket = socket.map_err(error)?;
        let bound = socket.local_addr().map_err(error)?;
        let room = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Ok(Self { socket, address: bound, greeting, room, max_life: None })
    }

    /// From now on cuts connections after `max_life`, whatever they are doing.
    pub fn limit_life(&mut self, max_life: Duration) {
        self.max_life = Some(max_life);
    }

    /// Where it listens, with the port that the system picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection. What goes wrong with one is no reason to
    /// stop listening.
    pub async fn accept(&self) -> (Connection, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                unreachable!("the semaphore is never closed")
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are small, and must not wait for more to send.
                    let _ = stream.set_nodelay(true);
                    let deadline = Box::pin(time::sleep(GREETING_TIME));
                    let silence = Some(Silence { missing: self.greeting, deadline });
                    let end = self.max_life.map(|it| Box::pin(time::sleep(it)));
                    return (Connection { stream, silence, end, _permit: permit }, peer);
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// One connection. It ends by itself if the peer opens it and then says
/// nothing: neither HTTP implementation below notices that.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Until the peer has greeted.
    silence: Option<Silence>,
    /// When it is cut.
    end: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Silence {
    /// How many bytes of the greeting have not arrived yet.
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it is too old")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(silence) = &mut self.silence else { return read };
        if read.is_ready() {
            let arrived = buffer.filled().len() - before;
            silence.missing = silence.missing.saturating_sub(arrived);
            if silence.missing == 0 {
                self.silence = None;
            }
            return read;
        }
        ready!(silence.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing")))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
