//! One gRPC call over HTTP/2. Its message is read whole before the handler runs, so an
//! unfinished call takes little memory.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{body, http};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use tokio::{sync::Semaphore, time};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as _, Service as _},
    transport::server::TcpConnectInfo,
};

mod decision;

use super::{method::Kind, ordinary, routes::Methods};
use crate::{
    budget::{self, CALL_BYTES, Held, NoRoom, ReadError, ReadLimits, Reader, Share},
    listen::Activity,
    metrics::CutOff,
    service::{LARGEST_MESSAGE, Service},
    store::Store,
};

/// The most long streams of one connection: a client has one for each service whose
/// health it watches.
const MAX_LONG_STREAMS: usize = 8;

/// The memory of the buffers of a stream of reflection.
const REFLECTION_BYTES: usize = 2 * CALL_BYTES;

/// The memory of a health watch, beside that of a call.
const WATCH_BYTES: usize = CALL_BYTES;

/// The memory of a header, about, without its name and value, and with the room that is left
/// when a table of headers has grown.
pub(super) const HEADER_BYTES: usize = 224;

/// The longest name of an encoding. tonic repeats the name if it does not know it, and each
/// of its bytes may become three in the answer.
const LONGEST_ENCODING: usize = 40;

/// The memory of an answer that waits to be written, about, without its message: h2 keeps its
/// headers, its trailers and its stream.
const ANSWER_BYTES: usize = 4 << 10;

/// The flag and the length before a message.
const MESSAGE_HEADER: usize = 5;

/// Serves the calls of one connection.
#[derive(Debug)]
pub(super) struct Caller<S> {
    pub(super) methods: Methods,
    /// Answers ordinary calls; `methods` answer all others.
    pub(super) service: Arc<Service<S>>,
    pub(super) peer: TcpConnectInfo,
    /// The time for a message to arrive, and for its answer to be taken.
    pub(super) patience: Duration,
    pub(super) share: Arc<Share>,
    pub(super) activity: Activity,
    pub(super) long_streams: Semaphore,
}

/// A call that has begun.
struct Call {
    kind: Kind,
    parts: http::request::Parts,
    message: Message,
}

/// The request body of a call.
enum Message {
    /// All of it was read.
    Read(Result<budget::Body, ReadError>),
    /// A part of it has not arrived.
    Arrives(Reader<Chunks>),
    /// It is a stream of messages.
    Stream(Chunks, Held),
}

/// A part of an answer, which counts in the budget until it has been written.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    _held: Option<Held>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// Why a call ends without a status.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client did not take the answer in time")]
    NotTaken,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("the answer could not be built")]
    Failed,
    #[error("the call was cancelled")]
    Cancelled,
}

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Self {
        Self::Cancelled
    }
}

/// The most long streams of one connection.
pub(super) fn long_streams() -> Semaphore {
    Semaphore::new(MAX_LONG_STREAMS)
}

impl<S: Store> Caller<S> {
    /// Serves a call in a task of its own, or refuses it if the budget has no room. Reads
    /// as much of the message as has arrived, so that the budget knows at once which calls
    /// wait for the client.
    pub(super) fn start(
        self: &Arc<Self>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Chunk>,
    ) {
        let (mut parts, body) = request.into_parts();
        cut_encoding(&mut parts.headers);
        let kind = self.methods.kinds.of(parts.uri.path());
        let bytes = CALL_BYTES + header_bytes(&parts);
        parts.uri = match kind {
            Kind::Decision => self.methods.kinds.decision(),
            Kind::Unary(_) | Kind::Watch | Kind::Streams => copy(&parts.uri),
        };
        match self.share.hold(bytes, false) {
            Ok(held) => {
                let message = match kind {
                    Kind::Decision | Kind::Unary(_) | Kind::Watch => {
                        self.read_arrived(Chunks(body), held)
                    }
                    Kind::Streams => Message::Stream(Chunks(body), held),
                };
                // A task would keep the headers of a refused call until it runs.
                if let Message::Read(Err(ReadError::NoRoom(refusal))) = message {
                    return refuse(refusal, respond);
                }
                tokio::spawn(Arc::clone(self).serve(Call { kind, parts, message }, respond));
            }
            Err(refusal) => refuse(refusal, respond),
        }
    }

    fn read_arrived(&self, chunks: Chunks, held: Held) -> Message {
        let limits =
            ReadLimits { longest: LARGEST_MESSAGE + MESSAGE_HEADER, patience: self.patience };
        let mut reader = Reader::new(chunks, limits, held);
        match reader.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => Message::Read(read),
            Poll::Pending => Message::Arrives(reader),
        }
    }

    async fn serve(self: Arc<Self>, call: Call, mut respond: SendResponse<Chunk>) {
        let served = match call.kind {
            Kind::Decision | Kind::Unary(_) => self.serve_message(call, &mut respond).await,
            // Boxed, because the future of a unary call should not have room for it.
            Kind::Watch | Kind::Streams => Box::pin(self.serve_long(call, &mut respond)).await,
        };
        match served {
            Ok(()) | Err(Broken::Cancelled) => {}
            Err(Broken::Failed) => respond.send_reset(Reason::INTERNAL_ERROR),
            Err(Broken::NotTaken) => {
                self.share.budget().count_cut_off(CutOff::AnswerNotTaken);
                respond.send_reset(Reason::CANCEL);
            }
            Err(Broken::NoRoom(_)) => respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        }
    }

    async fn serve_message(
        &self,
        call: Call,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<(), Broken> {
        let Call { kind, parts, message } = call;
        let read = match message {
            Message::Read(read) => read,
            Message::Arrives(reader) => reader.read().await,
            Message::Stream(..) => return Err(Broken::Failed),
        };
        let budget::Body { bytes, mut held } = match read {
            Ok(message) => message,
            Err(ReadError::Cancelled) => return Err(Broken::Cancelled),
            Err(ReadError::TooLong) => {
                let response = self.handle(parts, too_long(), respond).await?;
                return self.send(response, respond).await;
            }
            Err(error) => {
                let status = refusal(&error, self.patience);
                return self.send(status.into_http(), respond).await;
            }
        };
        if let Kind::Decision = kind
            && let Some(request) = ordinary::read(&parts.headers, &bytes)
        {
            // Boxed, because a new task is moved several times.
            return Box::pin(self.decide(request, parts.headers, held, respond)).await;
        }
        let decoded = kind.decoded_bytes(bytes.get(MESSAGE_HEADER..).unwrap_or_default());
        if let Err(refusal) = held.grow(decoded) {
            let status = Status::resource_exhausted(refusal.to_string());
            return self.send(status.into_http(), respond).await;
        }
        let response = self.handle(parts, bytes.into(), respond).await?;
        self.activity.note_call();
        if !matches!(kind, Kind::Watch) {
            // The parts of the answer count by themselves.
            drop(held);
            return self.send(response, respond).await;
        }
        // It counts until it ends.
        held.wait()?;
        held.grow(WATCH_BYTES)?;
        self.send(response, respond).await
    }

    /// Watches and reflection, which a connection may have only a few of.
    async fn serve_long(
        &self,
        call: Call,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<(), Broken> {
        let Ok(_permit) = self.long_streams.try_acquire() else {
            self.share.budget().count_cut_off(CutOff::TooManyStreams);
            let why = format!(
                "expected at most {MAX_LONG_STREAMS} streams of health watches and reflection on \
                 one connection"
            );
            return self.send(Status::resource_exhausted(why).into_http(), respond).await;
        };
        let Call { kind, parts, message } = call;
        let Message::Stream(chunks, mut held) = message else {
            return self.serve_message(Call { kind, parts, message }, respond).await;
        };
        if let Err(refusal) = held.wait().and_then(|()| held.grow(REFLECTION_BYTES)) {
            let status = Status::resource_exhausted(refusal.to_string());
            return self.send(status.into_http(), respond).await;
        }
        let messages = body::Body::from_stream(timely(chunks, self.patience));
        let response = self.handle(parts, messages, respond).await?;
        self.activity.note_call();
        self.send(response, respond).await
    }

    async fn handle(
        &self,
        parts: http::request::Parts,
        body: body::Body,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<http::Response<Body>, Broken> {
        let mut request = http::Request::from_parts(parts, body);
        request.extensions_mut().insert(self.peer.clone());
        let handling = self.methods.routes.clone().call(request);
        tokio::select! {
            biased;
            response = handling => match response {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            _ = poll_fn(|context| respond.poll_reset(context)) => Err(Broken::Cancelled),
        }
    }

    async fn send(
        &self,
        response: http::Response<Body>,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<(), Broken> {
        let (parts, mut body) = response.into_parts();
        let ends = body.is_end_stream();
        let mut stream = respond.send_response(http::Response::from_parts(parts, ()), ends)?;
        if ends {
            return Ok(());
        }
        loop {
            let frame = tokio::select! {
                biased;
                frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => frame,
                _ = poll_fn(|context| stream.poll_reset(context)) => return Err(Broken::Cancelled),
            };
            let Some(frame) = frame else {
                return Ok(stream.send_data(Chunk { bytes: Bytes::new(), _held: None }, true)?);
            };
            match frame.map_err(|_| Broken::Failed)?.into_data() {
                Ok(data) => self.send_data(data, &mut stream).await?,
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => return Ok(stream.send_trailers(trailers)?),
                    // HTTP has no frames of other kinds.
                    Err(_) => return Err(Broken::Failed),
                },
            }
        }
    }

    /// Sends as much as the client's windows allow, until all is sent or its time is over.
    async fn send_data(
        &self,
        mut data: Bytes,
        stream: &mut SendStream<Chunk>,
    ) -> Result<(), Broken> {
        stream.reserve_capacity(data.len());
        let room = stream.capacity().min(data.len());
        self.send_chunk(data.split_to(room), stream)?;
        if data.is_empty() {
            return Ok(());
        }
        let _connection = self.share.hold_connection();
        let _waiting = self.share.hold_answer(CALL_BYTES + data.len())?;
        let rest = async {
            while !data.is_empty() {
                stream.reserve_capacity(data.len());
                let room = poll_fn(|context| stream.poll_capacity(context)).await;
                let room = room.ok_or(Broken::Cancelled)??.min(data.len());
                self.send_chunk(data.split_to(room), stream)?;
            }
            Ok(())
        };
        time::timeout(self.patience, rest).await.unwrap_or(Err(Broken::NotTaken))
    }

    fn send_chunk(&self, bytes: Bytes, stream: &mut SendStream<Chunk>) -> Result<(), Broken> {
        if bytes.is_empty() {
            return Ok(());
        }
        let held = self.share.hold_answer(ANSWER_BYTES + bytes.len())?;
        Ok(stream.send_data(Chunk { bytes, _held: Some(held) }, false)?)
    }
}

/// The path and authority in memory of their own. h2 leaves them in the buffer in which they
/// arrived, with other frames.
fn copy(uri: &http::Uri) -> http::Uri {
    // An error is impossible, because h2 has parsed it.
    uri.to_string().try_into().unwrap_or_default()
}

/// Cuts the name of the encoding.
fn cut_encoding(headers: &mut http::HeaderMap) {
    let Some(name) = headers.get("grpc-encoding") else { return };
    if let Some(begin) = name.as_bytes().get(..LONGEST_ENCODING)
        && let Ok(begin) = http::HeaderValue::from_bytes(begin)
    {
        headers.insert("grpc-encoding", begin);
    }
}

fn refuse(refusal: NoRoom, mut respond: SendResponse<Chunk>) {
    let refusal = Status::resource_exhausted(refusal.to_string()).into_http();
    // An error means that the stream or the connection has ended.
    let _ = respond.send_response(refusal, true);
}

/// The memory of the headers, about.
fn header_bytes(parts: &http::request::Parts) -> usize {
    let http::request::Parts { method, uri, .. } = parts;
    // The query, which gRPC does not use, may be long.
    let path = uri.path_and_query().map_or(0, |it| it.as_str().len());
    let authority = uri.authority().map_or(0, |it| it.as_str().len());
    let mut bytes = method.as_str().len() + path + authority;
    for (name, value) in &parts.headers {
        bytes += HEADER_BYTES + name.as_str().len() + value.len();
    }
    bytes
}

/// The status for a message that was not read whole.
fn refusal(error: &ReadError, patience: Duration) -> Status {
    match error {
        ReadError::Late => {
            Status::deadline_exceeded(format!("the message did not arrive within {patience:?}"))
        }
        ReadError::NoRoom(_) => Status::resource_exhausted(error.to_string()),
        ReadError::TooLong | ReadError::Cancelled => Status::cancelled(error.to_string()),
    }
}

/// The beginning of a message that is too long. The handler refuses and counts such messages
/// by their length.
fn too_long() -> body::Body {
    let length = u32::try_from(LARGEST_MESSAGE + 1).unwrap_or(u32::MAX).to_be_bytes();
    body::Body::from([&[0][..], &length].concat())
}

/// The content of DATA frames. Reading it opens the client's windows.
struct Chunks(RecvStream);

impl Stream for Chunks {
    type Item = Result<Bytes, h2::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let read = self.0.poll_data(context);
        if let Poll::Ready(Some(Ok(data))) = &read {
            // An error means that the stream has ended; the next read returns it.
            let _ = self.0.flow_control().release_capacity(data.len());
        }
        read
    }
}

/// `chunks` until one of them takes longer than `patience`.
fn timely(
    chunks: Chunks,
    patience: Duration,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match time::timeout(patience, chunks.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(chunks))),
            Ok(Some(Err(error))) => Some((Err(Status::cancelled(error.to_string())), None)),
            Ok(None) => None,
            Err(_) => {
                let why = format!("no message arrived within {patience:?}");
                Some((Err(Status::deadline_exceeded(why)), None))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_of_an_encoding_is_cut() {
        let cut = |name: &[u8]| {
            let mut headers = http::HeaderMap::new();
            headers.insert("grpc-encoding", http::HeaderValue::from_bytes(name).unwrap());
            cut_encoding(&mut headers);
            headers["grpc-encoding"].as_bytes().to_vec()
        };
        assert_eq!(cut(b"identity"), b"identity");
        assert_eq!(cut(&[b'%'; 14_000]), [b'%'; LONGEST_ENCODING]);
        assert_eq!(cut(&[0xe9; 14_000]), [0xe9; LONGEST_ENCODING]);
    }

    #[test]
    fn all_that_a_client_can_make_long_counts() {
        let bytes = |uri: String, method: &str, value: &str| {
            let call = http::Request::builder().uri(uri).method(method).header("x", value);
            header_bytes(&call.body(()).unwrap().into_parts().0)
        };
        let least = bytes("http://a/b".to_owned(), "POST", "");
        let long = "x".repeat(1_000);
        for grown in [
            bytes(format!("http://a/b?{long}"), "POST", ""),
            bytes(format!("http://a{long}/b"), "POST", ""),
            bytes("http://a/b".to_owned(), &format!("POST{long}"), ""),
            bytes("http://a/b".to_owned(), "POST", &long),
        ] {
            assert!((least + 1_000..=least + 1_001).contains(&grown), "{least} {grown}");
        }
    }
}
