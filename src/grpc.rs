//! Envoy's rate-limit service over gRPC, with health and reflection. Its
//! protobuf stays in this module.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request as Call, Response as Reply, Status};

use crate::{
    metrics::Metrics,
    service::{RequestError, Service},
    store::Store,
};

mod call;
pub mod client;
pub mod codec;
pub mod connection;
mod frames;
mod health;
pub mod request;
mod response;
mod routes;
pub mod server;
mod timeout;
mod unread;

use self::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse, rate_limit_service_server::RateLimitService,
};

/// The messages, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/grpc/proto.rs"));
}

/// The encoded `FileDescriptorSet` of the messages, for reflection.
const FILE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/grpc/descriptors.bin"));

/// Serves `envoy.service.ratelimit.v3.RateLimitService`.
#[derive(Debug)]
pub struct Grpc<S>(pub Arc<Service<S>>);

#[tonic::async_trait]
impl<S: Store> RateLimitService for Grpc<S> {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Reply<RateLimitResponse>, Status> {
        let Self(service) = self;
        let timeout = timeout::read(call.metadata());
        let mut watch = CallWatch::start(&service.metrics, timeout);
        let span = service
            .spans
            .as_ref()
            .and_then(|spans| spans.start_grpc_call(call.metadata().as_ref()));
        if let Some(span) = &span
            && let Some(peer) = call.remote_addr()
        {
            span.set_peer(peer);
        }
        let answer = answer(service, call.into_inner(), timeout);
        let result = match &span {
            None => answer.await,
            Some(span) => span.instrument(answer).await,
        };
        watch.end();
        let result = result.map_err(Status::from);
        if let Some(span) = span {
            match &result {
                Ok(_) => span.end_grpc(tonic::Code::Ok.into(), None),
                Err(status) => span.end_grpc(status.code().into(), Some(status.message())),
            }
        }
        Ok(Reply::new(result?))
    }
}

/// Answers one request. `timeout` is the time for which the caller waits.
///
/// # Errors
///
/// See [`Service::decide`].
pub async fn answer<S: Store>(
    service: &Service<S>,
    message: RateLimitRequest,
    timeout: Option<Duration>,
) -> Result<RateLimitResponse, RequestError> {
    let request = request::read(message).map_err(|invalid| service.reject(invalid))?;
    let decision = service.decide(&request, timeout).await?;
    Ok(response::build(&request, &decision, &service.answers))
}

/// Counts a call and its time, and whether its answer came too late: after its deadline,
/// or after the client had cancelled.
struct CallWatch<'a> {
    metrics: &'a Metrics,
    started: Instant,
    timeout: Option<Duration>,
    ended: bool,
}

impl<'a> CallWatch<'a> {
    fn start(metrics: &'a Metrics, timeout: Option<Duration>) -> Self {
        Self { metrics, started: Instant::now(), timeout, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        self.metrics.count_call("ShouldRateLimit", self.started.elapsed());
    }
}

impl Drop for CallWatch<'_> {
    fn drop(&mut self) {
        let cancelled = !self.ended;
        if cancelled || self.timeout.is_some_and(|timeout| timeout <= self.started.elapsed()) {
            self.metrics.count_late_answer();
        }
    }
}

impl From<RequestError> for Status {
    /// A store that does not answer is UNAVAILABLE: a retry may succeed, and the
    /// request is valid. Envoy treats all errors alike, by `failure_mode_deny`.
    fn from(error: RequestError) -> Self {
        let mut status = match &error {
            RequestError::Invalid(invalid) => Self::invalid_argument(invalid.to_string()),
            RequestError::Undecided(undecided) => Self::unavailable(undecided.to_string()),
        };
        status.set_source(Arc::new(error));
        status
    }
}
