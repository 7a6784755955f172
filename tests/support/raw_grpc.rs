//! A gRPC client on the level of HTTP/2, for bodies that no generated client sends.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::{
    Code,
    codegen::http::{HeaderMap, Request},
};

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// gRPC puts a flag and a length of four bytes before each message.
const FRAME_HEADER: usize = 5;

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct RawGrpc {
    sender: SendRequest<Bytes>,
}

/// A call whose request body is still open.
#[derive(Debug)]
pub struct OpenCall {
    reply: ResponseFuture,
    body: SendStream<Bytes>,
}

/// The status of a call, and its message, which is empty if there is none.
#[derive(Debug)]
pub struct RawReply {
    pub code: Code,
    pub message: Vec<u8>,
}

impl RawReply {
    /// Panics unless the call succeeded with a message of this type.
    pub fn decode<M: Message + Default>(&self) -> M {
        assert_eq!(self.code, Code::Ok);
        M::decode(self.message.as_slice()).unwrap()
    }
}

impl RawGrpc {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await.unwrap()
    }

    /// Starts HTTP/2 on any stream.
    ///
    /// # Errors
    /// The stream does not accept the HTTP/2 preface.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, h2::Error> {
        Self::with_window(stream, 65_535).await
    }

    /// [`Self::over`], with room for so many bytes of each answer until they are read.
    ///
    /// # Errors
    /// The stream does not accept the HTTP/2 preface.
    pub async fn with_window(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        window: u32,
    ) -> Result<Self, h2::Error> {
        let mut builder = h2::client::Builder::new();
        let (sender, connection) = builder.initial_window_size(window).handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Starts a call to `ShouldRateLimit` without a body.
    pub async fn open_call(&self) -> OpenCall {
        self.try_open_call().await.unwrap()
    }

    /// Starts a call without a body, or returns the error of the connection.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn try_open_call(&self) -> Result<OpenCall, h2::Error> {
        self.try_open_call_of(PATH).await
    }

    /// [`Self::try_open_call`] of the method with this path.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn try_open_call_of(&self, path: &str) -> Result<OpenCall, h2::Error> {
        let request = Request::post(format!("http://test{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let mut sender = self.sender.clone().ready().await?;
        let (reply, body) = sender.send_request(request.body(()).unwrap(), false)?;
        Ok(OpenCall { reply, body })
    }

    /// Calls `ShouldRateLimit` with this message.
    pub async fn call(&self, message: impl AsRef<[u8]>) -> RawReply {
        self.try_call(message).await.unwrap()
    }

    /// [`Self::call`] that returns an error if the connection is closed.
    ///
    /// # Errors
    /// The connection or the stream ends without a status.
    pub async fn try_call(&self, message: impl AsRef<[u8]>) -> Result<RawReply, h2::Error> {
        self.try_open_call().await?.try_finish(frame(message.as_ref())).await
    }
}

impl OpenCall {
    /// Sends a part of the request body, and resets the stream.
    pub fn abort(mut self, body: Vec<u8>) {
        self.body.send_data(body.into(), false).unwrap();
        self.body.send_reset(h2::Reason::CANCEL);
    }

    /// Sends a part of the request body.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send_part(&mut self, part: Bytes) -> Result<(), h2::Error> {
        self.body.send_data(part, false)
    }

    /// Sends the whole request body.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send_whole(&mut self, body: Vec<u8>) -> Result<(), h2::Error> {
        self.body.send_data(body.into(), true)
    }

    /// Waits for the reply without ending the request body.
    ///
    /// # Errors
    /// The connection or the stream ends without a status.
    pub async fn reply(self) -> Result<RawReply, h2::Error> {
        let Self { reply, body: _body } = self;
        read_reply(reply).await
    }

    /// Sends the whole request body, and leaves the windows of the reply closed.
    ///
    /// # Errors
    /// The server resets the stream.
    pub async fn finish_unread(mut self, body: Vec<u8>) -> Result<(), h2::Error> {
        self.body.send_data(body.into(), true)?;
        let mut reply = self.reply.await?.into_body();
        while let Some(data) = reply.data().await {
            data?;
        }
        Ok(())
    }

    /// Sends the whole request body and waits for the reply.
    pub async fn finish(self, body: Vec<u8>) -> RawReply {
        self.try_finish(body).await.unwrap()
    }

    async fn try_finish(mut self, body: Vec<u8>) -> Result<RawReply, h2::Error> {
        self.body.send_data(body.into(), true)?;
        read_reply(self.reply).await
    }
}

async fn read_reply(reply: ResponseFuture) -> Result<RawReply, h2::Error> {
    let (head, mut body) = reply.await?.into_parts();
    let message = read(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let code = status(&trailers).or_else(|| status(&head.headers)).unwrap();
    Ok(RawReply { code, message: message.get(FRAME_HEADER..).unwrap_or_default().to_vec() })
}

/// Puts the gRPC frame header before `message`.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

fn status(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}
