//! Ordinary calls of `ShouldRateLimit`, without what calls of any method need: routes, streams
//! of messages, and memory for each of them.

use std::{future::poll_fn, pin::pin};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use bytes::Bytes;
use h2::server::SendResponse;
use tokio::select;
use tonic::Status;

use super::{ANSWER_BYTES, Broken, Caller, Chunk};
use crate::{
    budget::Held,
    descriptor::Request,
    grpc::{observed::ObservedCall, reply},
    metrics::CountedMethod,
    spans::GrpcMethod,
    store::Store,
};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl<S: Store> Caller<S> {
    /// Answers a request, which was sent with these headers. `held` are the bytes of the call.
    pub(super) async fn decide(
        &self,
        request: Request,
        headers: HeaderMap,
        held: Held,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<(), Broken> {
        let reply = select! {
            biased;
            reply = self.reply(&request, &headers) => reply,
            _ = poll_fn(|context| respond.poll_reset(context)) => return Err(Broken::Cancelled),
        };
        drop((request, headers));
        self.activity.note_call();
        match reply {
            Ok(body) => self.send_reply(body, held, respond).await,
            Err(status) => {
                // The parts of the answer count by themselves.
                drop(held);
                self.send(status.into_http(), respond).await
            }
        }
    }

    async fn reply(&self, request: &Request, headers: &HeaderMap) -> Result<Bytes, Status> {
        let service = &*self.service;
        let (counted, traced) = (CountedMethod::ShouldRateLimit, GrpcMethod::ShouldRateLimit);
        let mut observed =
            ObservedCall::start(service, counted, traced, headers, self.peer.remote_addr);
        let timeout = observed.timeout;
        let answer = pin!(async {
            let decision = service.decide(request, timeout).await?;
            Ok(reply::write(request, &decision, &service.answers))
        });
        observed.answer(answer).await
    }

    /// Sends the body of an answer, and that the call has succeeded.
    async fn send_reply(
        &self,
        body: Bytes,
        mut held: Held,
        respond: &mut SendResponse<Chunk>,
    ) -> Result<(), Broken> {
        let mut response = Response::new(());
        let content_type = HeaderValue::from_static("application/grpc");
        *response.headers_mut() = one_header(CONTENT_TYPE, content_type);
        let mut stream = respond.send_response(response, false)?;
        stream.reserve_capacity(body.len());
        if body.len() <= stream.capacity() {
            held.become_answer(ANSWER_BYTES + body.len())?;
            stream.send_data(Chunk { bytes: body, _held: Some(held) }, false)?;
        } else {
            drop(held);
            self.send_data(body, &mut stream).await?;
        }
        Ok(stream.send_trailers(one_header(GRPC_STATUS.clone(), HeaderValue::from_static("0")))?)
    }
}

/// A map that has no room for others.
fn one_header(name: HeaderName, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, value);
    headers
}
