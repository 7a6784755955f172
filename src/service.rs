//! The rate-limit service, for any protocol: takes a [`Request`], returns a
//! [`Decision`], and counts, logs and traces the result.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tracing::Level;

use crate::{
    answer::AnswerSettings,
    decision_log::{DecisionLog, log_decision, log_failure},
    descriptor::{Request, invalid::InvalidRequest},
    engine::{DecideError, Engine, LoadedRules, decision::Decision},
    live::Live,
    metrics::{ErrorType, Metrics},
    spans::{DecisionSpan, Tracing},
    store::Store,
    warnings::WarningLimiter,
};

pub mod counters;

/// The largest message accepted, in bytes: gRPC's default.
pub const LARGEST_MESSAGE: usize = 4 << 20;

/// Decides requests and records the results.
#[derive(Debug)]
pub struct Service<S> {
    /// Makes the decisions.
    pub engine: Engine<S>,
    /// Counts decisions and errors.
    pub metrics: Arc<Metrics>,
    /// Counts decisions for the admin API; `None` without it.
    pub live: Option<Arc<Live>>,
    /// The most descriptors of one request: MAX_DESCRIPTORS.
    pub max_descriptors: usize,
    /// Logs invalid requests, at a bounded rate.
    pub invalid: WarningLimiter,
    /// The optional parts of answers.
    pub answers: AnswerSettings,
    /// `None` if decisions are not logged.
    pub decision_log: Option<DecisionLog>,
    /// `None` if tracing is off.
    pub spans: Option<Tracing>,
    /// The requests in progress.
    pub in_progress: InProgress,
}

/// The number of requests that are being decided.
#[derive(Clone, Debug, Default)]
pub struct InProgress(Arc<AtomicUsize>);

/// A request that is being decided until this is dropped.
struct RequestInProgress<'a>(&'a AtomicUsize);

impl InProgress {
    /// Whether no request is being decided.
    pub fn is_empty(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    fn start(&self) -> RequestInProgress<'_> {
        self.0.fetch_add(1, Relaxed);
        RequestInProgress(&self.0)
    }
}

impl Drop for RequestInProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Why a request has no decision.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The request is valid, but the engine cannot decide it.
    #[error(transparent)]
    Undecided(#[from] DecideError),
}

impl<S: Store> Service<S> {
    /// Decides one request by the active rules: see [`Self::decide_by`].
    ///
    /// # Errors
    ///
    /// As [`Self::decide_by`].
    pub async fn decide(
        &self,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<Decision, RequestError> {
        self.decide_by(self.engine.rules.load(), request, timeout).await
    }

    /// Decides one request by `rules`. `timeout` is the time for which the caller waits.
    ///
    /// # Errors
    ///
    /// If the request is invalid, if no rules are loaded, or if the store does not
    /// answer and no policy applies. The error has been counted.
    pub async fn decide_by(
        &self,
        rules: LoadedRules,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<Decision, RequestError> {
        let _in_progress = self.in_progress.start();
        let mut span = self.start_span();
        let result = self.try_decide(rules, request, timeout, span.as_mut()).await;
        if let Err(error) = &result {
            self.record_error(span, error);
            if tracing::enabled!(Level::DEBUG) {
                log_failure(request, error);
            }
        }
        result
    }

    /// Records a request whose message could not be read: it is too large or malformed.
    pub fn reject_unread(&self, reason: &impl Display) {
        self.metrics.count_error(ErrorType::Service);
        self.invalid.warn(reason);
    }

    /// Records a request whose message could be read, but whose content is invalid.
    pub fn reject(&self, invalid: InvalidRequest) -> RequestError {
        let error = RequestError::Invalid(invalid);
        self.record_error(self.start_span(), &error);
        error
    }

    fn start_span(&self) -> Option<DecisionSpan> {
        self.spans.as_ref()?.start_decision()
    }

    fn record_error(&self, span: Option<DecisionSpan>, error: &RequestError) {
        if let Some(span) = span {
            span.record_error(error);
        }
        match error {
            RequestError::Invalid(invalid) => {
                self.metrics.count_error(ErrorType::Service);
                self.invalid.warn(invalid);
            }
            RequestError::Undecided(DecideError::NoRules) => {
                self.metrics.count_error(ErrorType::Service);
            }
            RequestError::Undecided(DecideError::Store(_)) => {
                self.metrics.count_error(ErrorType::Store);
            }
        }
    }

    async fn try_decide(
        &self,
        rules: LoadedRules,
        request: &Request,
        timeout: Option<Duration>,
        mut span: Option<&mut DecisionSpan>,
    ) -> Result<Decision, RequestError> {
        request.validate(self.max_descriptors)?;
        if let Some(span) = &mut span {
            span.record_request(request);
        }
        let decision = self.engine.decide_by(rules, request, timeout).await?;
        self.metrics.observe(request, &decision);
        if let Some(live) = &self.live {
            live.observe(request, &decision);
        }
        if let Some(log) = &self.decision_log {
            log.record(request, &decision, &self.engine.keys);
        }
        if tracing::enabled!(Level::DEBUG) {
            log_decision(request, &decision, &self.engine.rules.load());
        }
        if let Some(span) = span {
            span.record_decision(&decision);
        }
        Ok(decision)
    }
}
