//! gRPC by hand: bodies that no generated client would send, or sends at once.

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

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct Raw {
    sender: SendRequest<Bytes>,
}

/// A call whose body is still open.
#[derive(Debug)]
pub struct Call {
    reply: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Raw {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await.unwrap()
    }

    /// Speaks HTTP/2 on anything.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, h2::Error> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Begins a call to `ShouldRateLimit`.
    pub async fn begin(&self) -> Call {
        self.try_begin().await.unwrap()
    }

    async fn try_begin(&self) -> Result<Call, h2::Error> {
        let request = Request::post(format!("http://test{PATH}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let mut sender = self.sender.clone().ready().await?;
        let (reply, body) = sender.send_request(request.body(()).unwrap(), false)?;
        Ok(Call { reply, body })
    }

    /// Calls `ShouldRateLimit` with this message.
    pub async fn ask(&self, message: impl AsRef<[u8]>) -> Answer {
        self.try_ask(message).await.unwrap()
    }

    /// Like [`Self::ask`], where a closed connection is an answer.
    pub async fn try_ask(&self, message: impl AsRef<[u8]>) -> Result<Answer, h2::Error> {
        self.try_begin().await?.try_finish(frame(message.as_ref())).await
    }
}

/// The status, and the message if there is one.
pub type Answer = (Code, Vec<u8>);

impl Call {
    /// Sends the whole body, and waits for the answer.
    pub async fn finish(self, body: Vec<u8>) -> Answer {
        self.try_finish(body).await.unwrap()
    }

    async fn try_finish(mut self, body: Vec<u8>) -> Result<Answer, h2::Error> {
        self.body.send_data(body.into(), true)?;
        let (head, mut body) = self.reply.await?.into_parts();
        let message = read(&mut body).await?;
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = status(&trailers).or_else(|| status(&head.headers)).unwrap();
        Ok((status, message.get(5..).unwrap_or_default().to_vec()))
    }
}

/// `message` with what gRPC puts in front of it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The answer's message.
pub fn decode<M: Message + Default>((code, message): &Answer) -> M {
    assert_eq!(*code, Code::Ok);
    M::decode(message.as_slice()).unwrap()
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
