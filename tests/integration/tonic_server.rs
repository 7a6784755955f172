//! Calls that no client library makes get the same answers as from the server of tonic, which
//! does not read messages whole, and serves HTTP/2 by hyper.

use std::convert::Infallible;

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse,
    rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
};
use futures_util::stream::{self, StreamExt};
use prost::Message;
use testkit::{grpc::request_for, raw_grpc::frame};
use tokio::io::{DuplexStream, duplex};
use tonic::{
    Request as Call, Response as Reply, Status, codegen::http::Request, transport::Server,
};

use crate::in_process::InProcess;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

/// Allows each request.
struct AllowAll;

#[tonic::async_trait]
impl RateLimitService for AllowAll {
    async fn should_rate_limit(
        &self,
        _: Call<RateLimitRequest>,
    ) -> Result<Reply<RateLimitResponse>, Status> {
        Ok(Reply::new(RateLimitResponse::default()))
    }
}

/// A connection to a server of tonic.
fn connect_to_tonic() -> DuplexStream {
    let (client, server) = duplex(64 << 10);
    let incoming = stream::iter([Ok::<_, Infallible>(server)]).chain(stream::pending());
    let router = Server::builder().add_service(RateLimitServiceServer::new(AllowAll));
    tokio::spawn(router.serve_with_incoming(incoming));
    client
}

struct OddCall<'a> {
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Vec<u8>,
}

impl<'a> OddCall<'a> {
    fn with_body(body: Vec<u8>) -> Self {
        Self { method: "POST", headers: GRPC, body }
    }

    fn with_headers(headers: &'a [(&'a str, &'a str)], body: &[u8]) -> Self {
        Self { headers, ..Self::with_body(body.to_vec()) }
    }
}

/// The parts of an answer by which a client judges it.
#[derive(Debug, PartialEq)]
struct Answer {
    http_status: u16,
    fields: [Option<String>; 5],
    has_message: bool,
    /// The status is in the header.
    is_header_alone: bool,
}

async fn ask(connection: DuplexStream, call: &OddCall<'_>) -> Answer {
    let (sender, connection) = h2::client::handshake(connection).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(call.method).uri(format!("http://test{PATH}"));
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (reply, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(call.body.clone().into(), true).unwrap();
    let (head, mut body) = reply.await.unwrap().into_parts();
    let is_header_alone = body.is_end_stream();
    let mut has_message = false;
    while let Some(data) = body.data().await {
        has_message |= !data.unwrap().is_empty();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let field = |name: &str| {
        let value = head.headers.get(name).or_else(|| trailers.get(name))?;
        Some(value.to_str().unwrap().to_owned())
    };
    let names = ["content-type", "grpc-status", "grpc-message", "grpc-encoding", "connection"];
    Answer {
        http_status: head.status.as_u16(),
        fields: names.map(field),
        has_message,
        is_header_alone,
    }
}

#[tokio::test(start_paused = true)]
async fn odd_calls_get_the_answers_of_tonic() {
    let message = frame(&request_for("shop", &[("user", "ann")]).encode_to_vec());
    let with_flag = |flag| [&[flag], &message[1..]].concat();
    let too_long = frame(&vec![0; (4 << 20) + 1]);
    let with = |more: &'static [(&str, &str)]| [GRPC, more].concat();
    let gzip = with(&[("grpc-encoding", "gzip")]);
    let identity = with(&[("grpc-encoding", "identity"), ("grpc-accept-encoding", "gzip")]);
    let (no_time, bad_time) = (with(&[("grpc-timeout", "0n")]), with(&[("grpc-timeout", "1s")]));
    let service = InProcess::start("domain: shop\n", &[]).await;
    for (name, call) in [
        ("a message", OddCall::with_body(message.clone())),
        ("no message", OddCall::with_body(Vec::new())),
        ("half a frame header", OddCall::with_body(message[..3].to_vec())),
        ("half a message", OddCall::with_body(message[..9].to_vec())),
        ("two messages", OddCall::with_body(message.repeat(2))),
        ("bytes behind a message", OddCall::with_body([&message[..], b"abc"].concat())),
        ("a compressed message", OddCall::with_body(with_flag(1))),
        ("another flag", OddCall::with_body(with_flag(2))),
        ("a message of 4 MiB and a byte", OddCall::with_body(too_long)),
        ("gzip", OddCall::with_headers(&gzip, &with_flag(1))),
        ("no compression", OddCall::with_headers(&identity, &message)),
        ("a timeout of 0", OddCall::with_headers(&no_time, &message)),
        ("a malformed timeout", OddCall::with_headers(&bad_time, &message)),
        ("no headers", OddCall::with_headers(&[], &message)),
        ("text", OddCall::with_headers(&[("content-type", "text/plain")], &message)),
        ("GET", OddCall { method: "GET", ..OddCall::with_body(message.clone()) }),
    ] {
        let ours = ask(service.dialers.grpc.connect().await.unwrap(), &call).await;
        let theirs = ask(connect_to_tonic(), &call).await;
        assert_eq!(ours, theirs, "{name}");
    }
}
