//! Decides requests without a service: with counters in memory, which begin unused.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    answer::{
        AnswerSettings, CurrentLimit, DescriptorStatus,
        metadata::{self, Audience},
    },
    counter::KeyFormat,
    descriptor::Request,
    engine::{
        DecideError, Engine,
        decision::{Decision, Mode},
        fallback::{Fallback, FallbackSettings},
    },
    grpc::client::{Response, ResponseCode, ResponseLimit, ResponseStatus},
    rules::RuleTree,
    store::memory::{Bounds, Memory},
    time::Clock,
};

/// A service without a network.
#[derive(Debug)]
pub struct Rehearsal {
    engine: Engine<Memory>,
}

impl Rehearsal {
    /// Decides by `rules` at the time of `clock`.
    pub fn new(rules: Arc<RuleTree>, clock: Arc<dyn Clock>, keys: KeyFormat, mode: Mode) -> Self {
        let store = Memory::with_bounds(Bounds::default());
        let fallback = Fallback::new(FallbackSettings::default());
        let rules = Arc::new(ArcSwap::new(rules));
        Self { engine: Engine { rules, store, clock, keys, mode, fallback } }
    }

    /// Decides a request, and counts it.
    ///
    /// # Errors
    ///
    /// If no rules are loaded.
    pub async fn decide(&self, request: &Request) -> Result<Decision, DecideError> {
        self.engine.decide(request, None).await
    }
}

/// The response of a service to `request`.
pub fn response(request: &Request, decision: &Decision, settings: &AnswerSettings) -> Response {
    let mut response = Response { code: code(decision.over_limit), ..Response::default() };
    for verdict in &decision.verdicts {
        response.statuses.push(status(DescriptorStatus::new(verdict)));
    }
    for (name, value) in settings.limit_headers(decision).into_iter().flatten() {
        response.headers.push((name.to_owned(), value.to_string()));
    }
    if settings.has_metadata(decision) {
        metadata::write(request, decision, Audience::Proxy, &mut response.metadata);
    }
    response
}

fn status(status: DescriptorStatus<'_>) -> ResponseStatus {
    ResponseStatus {
        code: code(status.over_limit),
        limit: status.limit.map(limit),
        remaining: status.remaining,
        reset_seconds: status.reset_seconds,
    }
}

fn limit(limit: CurrentLimit<'_>) -> ResponseLimit {
    ResponseLimit {
        requests: limit.requests,
        unit: limit.unit.map(|unit| unit.name().to_owned()),
        multiplier: limit.multiplier.unwrap_or(1),
        name: limit.name.to_owned(),
    }
}

fn code(over_limit: bool) -> ResponseCode {
    if over_limit { ResponseCode::OverLimit } else { ResponseCode::Ok }
}
