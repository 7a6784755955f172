//! Connections that cannot be held open for nothing.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, oneshot},
    time::{self, Sleep},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::tls::ALPN;

/// How long a new connection may take to say something sensible.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// What is below: a socket of either kind, encrypted or not.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Duplex for T {}

/// One connection. It ends by itself if the peer opens it and then says
/// nothing: no implementation of HTTP that is used notices that.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Who it is with, unless that is another process of this machine.
    peer: Option<SocketAddr>,
    /// Until the peer has greeted.
    silence: Option<Silence>,
    /// When it is cut.
    end: Option<Pin<Box<Sleep>>>,
    /// Says that it is open.
    open: Option<oneshot::Sender<()>>,
    _permit: OwnedSemaphorePermit,
}

struct Silence {
    /// How many bytes of the greeting have not arrived yet.
    missing: usize,
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Silence").field("missing", &self.missing).finish_non_exhaustive()
    }
}

impl Connection {
    /// The peer has some seconds for `greeting` bytes.
    pub(super) fn new(
        stream: Stream,
        peer: Option<SocketAddr>,
        greeting: usize,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let deadline = Box::pin(time::sleep(GREETING_TIME));
        let silence = Some(Silence { missing: greeting, deadline });
        Self { stream, peer, silence, end: None, open: None, _permit: permit }
    }

    /// Whoever has not greeted when `moment` comes has no more time.
    pub fn expect_greeting_before(&mut self, moment: impl Future<Output = ()> + Send + 'static) {
        if let Some(Silence { missing, mut deadline }) = self.silence.take() {
            let deadline = Box::pin(async move {
                tokio::select! {
                    () = deadline.as_mut() => {}
                    () = moment => {}
                }
            });
            self.silence = Some(Silence { missing, deadline });
        }
    }

    /// Encrypts it, if the client can do so in the time that it has to greet, and
    /// wants to speak HTTP/2. The greeting is what comes after that.
    ///
    /// # Errors
    ///
    /// What the client did wrong.
    pub async fn encrypt(mut self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let handshake = TlsAcceptor::from(config).accept(self.stream);
        let encrypted = match &mut self.silence {
            Some(silence) => tokio::select! {
                encrypted = handshake => encrypted?,
                () = silence.deadline.as_mut() => return Err(silent()),
            },
            None => handshake.await?,
        };
        if encrypted.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the client does not offer h2 by ALPN"));
        }
        Ok(Self { stream: Box::new(encrypted), ..self })
    }

    /// From now on cuts it after `life`, whatever it is doing.
    pub fn limit_life(&mut self, life: Duration) {
        self.end = Some(Box::pin(time::sleep(life)));
    }

    /// Waits until this has been dropped. Only the last that was made of these
    /// does.
    pub fn closed(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (open, closed) = oneshot::channel();
        self.open = Some(open);
        async { drop(closed.await) }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing")
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
        Poll::Ready(Err(silent()))
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
        TcpConnectInfo { local_addr: None, remote_addr: self.peer }
    }
}
