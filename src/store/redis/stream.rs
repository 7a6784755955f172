//! The stream of bytes to and from a server.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, aio::MultiplexedConnection};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use super::{
    reply_scanner::{ExpectedReplies, MostOfReply, ReplyScanner},
    settings::RedisAddress,
};

/// The bounds of the replies of one server.
#[derive(Clone, Debug)]
pub(super) struct ReplyBounds {
    pub(super) expected: ExpectedReplies,
    pub(super) most: MostOfReply,
    /// Set when the connection is cut because the server exceeded a bound.
    pub(super) violation: Arc<OnceLock<String>>,
}

/// A connection of the Redis client, and the task that serves it.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) connection: MultiplexedConnection,
    /// Aborted when the connection is dropped.
    pub(super) _task: JoinSet<()>,
}

/// Connects, and sends AUTH and SELECT. `tls` is `None` for plaintext.
pub(super) async fn connect(
    address: &RedisAddress,
    tls: Option<Arc<ClientConfig>>,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
    bounds: ReplyBounds,
) -> RedisResult<ClientConnection> {
    let (host, port) = match address {
        RedisAddress::Unix(path) => {
            return serve(UnixStream::connect(path).await?, login, config, bounds).await;
        }
        RedisAddress::Tcp { host, port } => (host, *port),
    };
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return serve(stream, login, config, bounds).await };
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    serve(stream, login, config, bounds).await
}

async fn serve<S>(
    stream: S,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
    bounds: ReplyBounds,
) -> RedisResult<ClientConnection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let scanner = ReplyScanner::new(bounds.expected, bounds.most);
    let stream = BoundedStream { stream, scanner, violation: bounds.violation };
    let (connection, driver) =
        MultiplexedConnection::new_with_config(login, stream, config).await?;
    let mut task = JoinSet::new();
    task.spawn(driver);
    Ok(ClientConnection { connection, _task: task })
}

/// Fails reads once the server exceeds a bound.
#[derive(Debug)]
struct BoundedStream<S> {
    stream: S,
    scanner: ReplyScanner,
    violation: Arc<OnceLock<String>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Err(violation) = self.scanner.scan(&buffer.filled()[before..]) else {
            return Poll::Ready(Ok(()));
        };
        buffer.set_filled(before);
        // Only the first one is kept.
        let _ = self.violation.set(violation.to_string());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, violation)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
