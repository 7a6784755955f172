//! Connections with a bound on the time until the client starts to speak.

use std::{
    fmt,
    future::{self, Future},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::watch,
    task::coop,
    time::{self, Sleep},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{
    ciphertext::{Ciphertext, Decryption},
    room::{Activity, Place},
    stalls::StallTimeout,
};
use crate::{budget::Share, tls::Protocol};

/// The time within which a new connection must finish its TLS handshake and send
/// the preface of its protocol.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes that a read may return for one of the 128 units that Tokio gives a task for
/// its turn. A connection that reads much pauses then, so that a call counts in the budget
/// before the next are read.
const BYTES_PER_UNIT: usize = 64;

/// The bytes of a new connection that are read at once. hyper recognizes HTTP/2 only by its
/// whole preface.
const READ_AHEAD: usize = 64;

/// A byte stream: plain or encrypted, over any kind of socket.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Duplex for T {}

/// An accepted connection. Reads fail if the peer does not send a preface in
/// time, which neither tonic nor axum checks.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// `None` on unix sockets and within the process.
    peer: Option<SocketAddr>,
    /// Set until the preface has arrived.
    preface: Option<PrefaceTimeout>,
    /// The preface, to be read once more.
    read_ahead: Bytes,
    /// Set on an encrypted connection.
    decryption: Option<Arc<Decryption>>,
    /// The end of its maximum age.
    end: Option<Pin<Box<Sleep>>>,
    stalls: Option<StallTimeout>,
    place: Place,
}

struct PrefaceTimeout {
    /// Bytes of the preface that have not arrived yet.
    missing: usize,
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for PrefaceTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefaceTimeout").field("missing", &self.missing).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        peer: Option<SocketAddr>,
        preface_length: usize,
        place: Place,
    ) -> Self {
        let deadline = Box::pin(time::sleep(PREFACE_TIMEOUT));
        let preface = Some(PrefaceTimeout { missing: preface_length, deadline });
        Self {
            stream,
            peer,
            preface,
            read_ahead: Bytes::new(),
            decryption: None,
            end: None,
            stalls: None,
            place,
        }
    }

    /// Ends the preface timeout early when `stop` becomes true.
    pub fn expect_preface_before(&mut self, mut stop: watch::Receiver<bool>) {
        if let Some(PrefaceTimeout { missing, mut deadline }) = self.preface.take() {
            let deadline = Box::pin(async move {
                tokio::select! {
                    () = deadline.as_mut() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
            self.preface = Some(PrefaceTimeout { missing, deadline });
        }
    }

    /// Waits for the preface, or for a line that is none. It is read once more afterwards. So
    /// nothing that takes memory has to be made for a client that does not begin to speak.
    ///
    /// # Errors
    ///
    /// If the preface does not arrive in time, or if there is no place for the connection.
    pub async fn await_preface(&mut self) -> io::Result<()> {
        let mut preface = Vec::with_capacity(READ_AHEAD);
        while self.preface.is_some() && !preface.contains(&b'\n') {
            if self.read_buf(&mut preface).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.read_ahead = preface.into();
        Ok(())
    }

    /// Performs the TLS handshake, within the preface timeout. The preface follows
    /// the handshake. Bytes count in the budget until they are decrypted.
    ///
    /// # Errors
    ///
    /// If the handshake fails or times out, if the budget has no room for it, or if the client
    /// does not offer the protocol and must.
    pub(super) async fn encrypt(
        mut self,
        config: Arc<ServerConfig>,
        protocol: Protocol,
        share: &Arc<Share>,
    ) -> io::Result<Self> {
        let ciphertext = Ciphertext::new(self.stream, share);
        let decryption = ciphertext.decryption();
        let handshake = TlsAcceptor::from(config).accept(ciphertext);
        let preface = &mut self.preface;
        let late = async {
            match preface {
                Some(preface) => preface.deadline.as_mut().await,
                None => future::pending().await,
            }
        };
        let encrypted = tokio::select! {
            encrypted = handshake => encrypted?,
            () = late => return Err(no_preface()),
            () = share.closed() => return Err(no_memory()),
        };
        decryption.progress();
        // A client that offers others only has been rejected.
        if encrypted.get_ref().1.alpn_protocol().is_none() && !protocol.is_implied() {
            return Err(io::Error::other("the client does not offer h2 by ALPN"));
        }
        Ok(Self { stream: Box::new(encrypted), decryption: Some(decryption), ..self })
    }

    /// Closes the connection after `age` from now, whatever is in flight.
    pub fn limit_age(&mut self, age: Duration) {
        self.end = Some(Box::pin(time::sleep(age)));
    }

    /// Fails a write that makes no progress for `timeout`, because the peer does not read.
    pub fn limit_stalls(&mut self, timeout: Duration) {
        self.stalls = Some(StallTimeout::of_writes(timeout));
    }

    /// [`Self::limit_stalls`], and fails also if nothing is written for `timeout` after the
    /// first byte of a request.
    pub fn limit_requests(&mut self, timeout: Duration) {
        self.stalls = Some(StallTimeout::of_requests(timeout));
    }

    /// The address of the peer; `None` on unix sockets and within the process.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Where to report its calls.
    pub fn activity(&self) -> Activity {
        self.place.activity()
    }

    fn check_stall<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match &mut self.stalls {
            Some(stalls) => stalls.on_write(written, context),
            None => written,
        }
    }
}

fn spend_turn(bytes: usize, context: &mut Context<'_>) {
    for _ in 0..bytes / BYTES_PER_UNIT {
        let Poll::Ready(unit) = coop::poll_proceed(context) else { return };
        unit.made_progress();
    }
}

fn no_preface() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client sent no complete preface in time")
}

fn no_memory() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "closed to make room for calls in flight")
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
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the connection has reached its maximum age",
            )));
        }
        if !self.read_ahead.is_empty() {
            let length = self.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.read_ahead.split_to(length));
            let read = Poll::Ready(Ok(()));
            return match &mut self.stalls {
                Some(stalls) => stalls.on_read(read, length, context),
                None => read,
            };
        }
        let before = buffer.filled().len();
        let mut read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let arrived = buffer.filled().len() - before;
        spend_turn(arrived, context);
        if 0 < arrived
            && let Some(decryption) = &self.decryption
        {
            decryption.progress();
        }
        if let Some(stalls) = &mut self.stalls {
            read = stalls.on_read(read, arrived, context);
        }
        let Some(preface) = &mut self.preface else { return read };
        if read.is_ready() {
            preface.missing = preface.missing.saturating_sub(arrived);
            if preface.missing == 0 {
                self.preface = None;
                self.place.establish()?;
            }
            return read;
        }
        ready!(preface.deadline.as_mut().poll(context));
        // A completed future must not be polled again.
        preface.deadline = Box::pin(future::ready(()));
        Poll::Ready(Err(no_preface()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_stall(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check_stall(written, context)
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
