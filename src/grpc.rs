//! Envoy's rate-limit service over gRPC, with health and reflection. Its
//! protobuf stays in this module. The server serves services of other modules, too.

use std::{pin::pin, sync::Arc, time::Duration};

use tonic::{Request as Call, Response as Reply, Status};

use crate::{
    metrics::CountedMethod,
    service::{RequestError, Service},
    spans::GrpcMethod,
    store::Store,
};

mod call;
pub mod client;
pub mod codec;
pub mod connection;
mod frames;
mod health;
mod kept;
pub mod ordinary;
pub mod method;
pub mod observed;
pub mod reply;
pub mod request;
pub mod response;
pub mod routes;
pub mod server;
mod table;
mod timeout;
pub mod unread;

use self::{
    observed::ObservedCall,
    pb::envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_service_server::RateLimitService,
    },
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
        let (counted, traced) = (CountedMethod::ShouldRateLimit, GrpcMethod::ShouldRateLimit);
        let (headers, peer) = (call.metadata().as_ref(), call.remote_addr());
        let mut observed = ObservedCall::start(service, counted, traced, headers, peer);
        let answer = pin!(answer(service, call.into_inner(), observed.timeout));
        Ok(Reply::new(observed.answer(answer).await?))
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
