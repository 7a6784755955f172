//! The span of a call.

use std::net::SocketAddr;

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{Status, TraceContextExt},
};
use opentelemetry_sdk::trace::Span;

use super::text::integer;

const GRPC_STATUS: &str = "rpc.grpc.status_code";
/// gRPC's status code CANCELLED.
const GRPC_CANCELLED: i32 = 1;
/// The gRPC status codes of server errors: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
/// INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_SERVER_ERRORS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// The protocol of a recorded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallProtocol {
    Grpc,
    Http,
}

/// The span of a recorded call. If it is dropped without an end, the call counts as
/// cancelled by the client.
#[derive(Debug)]
pub struct ServerSpan {
    context: Context,
    protocol: CallProtocol,
    ended: bool,
}

impl ServerSpan {
    pub(super) fn new(span: Span, protocol: CallProtocol) -> Self {
        Self { context: Context::new().with_span(span), protocol, ended: false }
    }

    /// Runs a part of the call. Spans that are started inside are children of this span.
    pub async fn instrument<F: Future>(&self, part: F) -> F::Output {
        part.with_context(self.context.clone()).await
    }

    /// Records the address of the client.
    pub fn set_peer(&self, peer: SocketAddr) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("network.peer.address", peer.ip().to_string()));
        span.set_attribute(integer("network.peer.port", peer.port()));
    }

    /// Ends a gRPC call with the status `code`, and with the message of an error.
    pub fn end_grpc(mut self, code: i32, error: Option<&str>) {
        self.ended = true;
        let span = self.context.span();
        span.set_attribute(KeyValue::new(GRPC_STATUS, i64::from(code)));
        if GRPC_SERVER_ERRORS.contains(&code) {
            span.set_status(Status::error(error.unwrap_or_default().to_owned()));
        }
    }

    /// Ends an HTTP call with `status`.
    pub fn end_http(mut self, status: u16) {
        self.ended = true;
        let span = self.context.span();
        span.set_attribute(integer("http.response.status_code", status));
        if 500 <= status {
            span.set_status(Status::error(""));
        }
    }
}

impl Drop for ServerSpan {
    fn drop(&mut self) {
        let span = self.context.span();
        if !self.ended {
            match self.protocol {
                CallProtocol::Grpc => {
                    span.set_attribute(KeyValue::new(GRPC_STATUS, i64::from(GRPC_CANCELLED)));
                }
                CallProtocol::Http => {
                    span.set_status(Status::error("cancelled by the client"));
                }
            }
        }
        span.end();
    }
}
