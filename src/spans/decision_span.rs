//! The span of a decision.

use std::fmt;

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status},
};
use opentelemetry_sdk::trace::Span;

use super::text::{RequestText, truncated};
use crate::{descriptor::Request, engine::decision::Decision};

/// The span of a recorded decision.
#[derive(Debug)]
pub struct DecisionSpan(Span);

impl DecisionSpan {
    pub(super) fn new(span: Span) -> Self {
        Self(span)
    }

    /// Records the request, truncated if it is long.
    pub fn record_request(&mut self, request: &Request) {
        let domain = truncated(format_args!("{}", request.domain.escape_ascii()));
        self.0.set_attribute(KeyValue::new("domain", domain));
        let text = truncated(format_args!("{}", RequestText(request)));
        self.0.set_attribute(KeyValue::new("request string", text));
    }

    /// Records the decision and the rule that it depends on.
    pub fn record_decision(&mut self, decision: &Decision) {
        let code = if decision.over_limit { "OVER_LIMIT" } else { "OK" };
        self.0.set_attribute(KeyValue::new("tollgate.code", code));
        if let Some((verdict, _)) = decision.binding()
            && let Some(rule) = verdict.matched.rule()
        {
            self.0.set_attribute(KeyValue::new("tollgate.rule", rule.stat_name().to_string()));
        }
        let degraded = !decision.policies.is_empty();
        self.0.set_attribute(KeyValue::new("tollgate.degraded", degraded));
    }

    /// Records the error of a request without a decision, and ends the span.
    pub fn record_error(mut self, error: &dyn fmt::Display) {
        self.0.set_status(Status::error(truncated(format_args!("{error}"))));
    }
}
