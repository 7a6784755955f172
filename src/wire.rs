//! The protocol: messages in, messages out. Only this module knows protobuf.
//!
//! Both ways in, gRPC and JSON over HTTP, end in [`Service::answer`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::{Request as Call, Response as Reply, Status};

use crate::{
    engine::{Engine, decision::Decision, failures::Failures},
    metrics::{ErrorType, Metrics},
    spans::{DecisionSpan, Tracing},
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
    /// How many descriptors one request may have.
    pub max_descriptors: usize,
    /// Logs invalid requests.
    pub invalid: Failures,
    /// What is said beside the decision.
    pub response: ResponseSettings,
    /// Records it; none if nothing is recorded.
    pub spans: Option<Tracing>,
}

/// What becomes of a request.
#[derive(Debug)]
pub struct Answer {
    /// What the caller is told.
    pub message: RateLimitResponse,
    /// What was decided.
    pub decision: Decision,
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
    ) -> Result<Answer, Refusal> {
        let mut span = self.spans.as_ref().and_then(Tracing::start_decision);
        let result = self.try_answer(message, patience, span.as_mut()).await;
        if let (Some(span), Err(refusal)) = (span, &result) {
            span.record_error(refusal);
        }
        match &result {
            Ok(_) => {}
            Err(refusal @ (Refusal::Invalid(_) | Refusal::NoRules)) => {
                self.metrics.count_error(ErrorType::Service);
                if let Refusal::Invalid(invalid) = refusal {
                    self.invalid.failed(invalid);
                }
            }
            Err(Refusal::Store(_)) => self.metrics.count_error(ErrorType::Store),
        }
        result
    }

    async fn try_answer(
        &self,
        message: RateLimitRequest,
        patience: Option<Duration>,
        mut span: Option<&mut DecisionSpan>,
    ) -> Result<Answer, Refusal> {
        let request = request::read(message, self.max_descriptors)?;
        if let Some(span) = &mut span {
            span.record_request(&request);
        }
        if !self.engine.rules.load().is_loaded() {
            return Err(Refusal::NoRules);
        }
        let decision = self.engine.decide(&request, patience).await?;
        self.metrics.observe(&request, &decision);
        if let Some(span) = span {
            span.record_decision(&decision);
        }
        let message = response::build(&request, &decision, &self.response);
        Ok(Answer { message, decision })
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
        let span =
            service.spans.as_ref().and_then(|it| it.start_grpc_call(call.metadata().as_ref()));
        if let Some((span, peer)) = span.as_ref().zip(call.remote_addr()) {
            span.set_peer(peer);
        }
        let mut waiting = Waiting { metrics: &service.metrics, started, patience, answered: false };
        let answer = service.answer(call.into_inner(), patience);
        let result = match &span {
            None => answer.await,
            Some(span) => span.instrument(answer).await,
        };
        waiting.answered = true;
        service.metrics.count_call("ShouldRateLimit", started.elapsed());
        let result = result.map_err(Status::from);
        if let Some(span) = span {
            let error = result.as_ref().err();
            let code = error.map_or(tonic::Code::Ok, Status::code);
            span.end_grpc(code.into(), error.map(Status::message));
        }
        Ok(Reply::new(result?.message))
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
            self.metrics.count_late_answer();
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
