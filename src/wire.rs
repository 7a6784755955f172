//! The protocol: messages in, messages out. Only this module knows protobuf.
//!
//! Both ways in, gRPC and JSON over HTTP, end in [`Service::answer`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::{Request as Call, Response as Reply, Status};

use crate::{
    descriptor::Request,
    engine::Engine,
    metrics::{Failure, Metrics},
    store::{Store, StoreError},
};

pub mod codec;
pub mod discovery;
pub mod json;
pub mod metadata;
pub mod patience;
pub mod request;
pub mod response;

use self::{
    pb::envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_service_server::RateLimitService,
    },
    request::InvalidRequest,
    response::ResponseSettings,
};

/// The messages, as `proto/` defines them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

/// The definitions of the messages, for reflection: an encoded
/// `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message that is read, in bytes: gRPC's own default.
pub const LARGEST_MESSAGE: usize = 4 << 20;

/// Answers requests, and counts what it answers.
#[derive(Debug)]
pub struct Service<S> {
    /// Decides.
    pub engine: Engine<S>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is said beside the decision.
    pub response: ResponseSettings,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller's mistake.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// No rules have been loaded since the start.
    #[error("no rate limit configuration loaded")]
    NoRules,
    /// Not the caller's mistake.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: Store> Service<S> {
    /// Answers one request. `patience` is how long the caller waits, if it has
    /// said so.
    ///
    /// # Errors
    ///
    /// If the request makes no sense, or if the store does not answer.
    pub async fn answer(
        &self,
        message: RateLimitRequest,
        patience: Option<Duration>,
    ) -> Result<RateLimitResponse, Refusal> {
        let result = self.try_answer(message, patience).await;
        match &result {
            Ok(_) => {}
            Err(Refusal::Invalid(_) | Refusal::NoRules) => self.metrics.failed(Failure::Service),
            Err(Refusal::Store(_)) => self.metrics.failed(Failure::Store),
        }
        result
    }

    /// Has the statistics take over what the store says of itself.
    pub fn measure(&self) {
        self.metrics.measure(&self.engine.store);
    }

    async fn try_answer(
        &self,
        message: RateLimitRequest,
        patience: Option<Duration>,
    ) -> Result<RateLimitResponse, Refusal> {
        let request = Request::try_from(message)?;
        if !self.engine.rules.load().is_loaded() {
            return Err(Refusal::NoRules);
        }
        let decision = self.engine.decide(&request, patience).await?;
        self.metrics.observe(&request, &decision);
        Ok(response::build(&request, &decision, &self.response))
    }
}

/// The gRPC service.
#[derive(Debug)]
pub struct Grpc<S>(pub Arc<Service<S>>);

#[tonic::async_trait]
impl<S: Store> RateLimitService for Grpc<S> {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Reply<RateLimitResponse>, Status> {
        let Self(service) = self;
        let started = Instant::now();
        let patience = patience::of(call.metadata());
        let mut waiting = Waiting { metrics: &service.metrics, started, patience, answered: false };
        let result = service.answer(call.into_inner(), patience).await;
        waiting.answered = true;
        service.metrics.answered("ShouldRateLimit", started.elapsed());
        Ok(Reply::new(result?))
    }
}

/// A caller that waits. Whoever has given up ends the call, and with it this.
struct Waiting<'a> {
    metrics: &'a Metrics,
    started: Instant,
    patience: Option<Duration>,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered || self.patience.is_some_and(|it| it <= self.started.elapsed()) {
            self.metrics.late();
        }
    }
}

impl From<Refusal> for Status {
    /// A store that does not answer is `UNAVAILABLE`: the service may be asked
    /// again, and it is not the caller's fault. Envoy treats every failure
    /// alike, by its own `failure_mode_deny`.
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Invalid(invalid) => Self::invalid_argument(invalid.to_string()),
            Refusal::NoRules | Refusal::Store(_) => Self::unavailable(refusal.to_string()),
        }
    }
}
