//! Decisions in the log of the process, at the level `debug`.

use std::fmt::{Display, Write};

use tracing::debug;

use super::{
    reason,
    shown::{self, Shown},
};
use crate::{
    descriptor::{Descriptor, Request},
    engine::decision::{Decision, LimitStatus, Verdict},
    limit::ceil_seconds,
    rules::RuleTree,
};

/// Logs one line for each descriptor: the entries as received, the decision, and the rule
/// or the reason why none applies. `rules` are the active rules.
pub fn log_decision(request: &Request, decision: &Decision, rules: &RuleTree) {
    for line in lines(request, decision, rules) {
        debug!("{line}");
    }
}

pub(super) fn lines(request: &Request, decision: &Decision, rules: &RuleTree) -> Vec<String> {
    let mut lines = Vec::with_capacity(request.descriptors.len());
    for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
        let mut line = line(&request.domain, descriptor, verdict, rules);
        if let Some(cause) = reason::of_pass(verdict, decision) {
            let _ = write!(line, ", but the request passes because of {cause}");
        }
        if verdict.status().is_some() && !decision.policies.is_empty() {
            line += ", decided by on_error: the store did not answer";
        }
        lines.push(line);
    }
    lines
}

/// Logs one line for a request without a decision.
pub fn log_failure(request: &Request, error: &impl Display) {
    debug!("{}", failure_line(request, error));
}

pub(super) fn failure_line(request: &Request, error: &impl Display) -> String {
    let (domain, error) = (Shown(&request.domain), error.to_string());
    let mut text = format!("domain {domain}: ");
    match &request.descriptors[..] {
        [] => text += "no descriptors",
        [only] => text += &shown::entries(&only.entries),
        [first, more @ ..] => {
            let _ = write!(text, "{} and {} more", shown::entries(&first.entries), more.len());
        }
    }
    let _ = write!(text, ": no decision: {}", Shown(error.as_bytes()));
    text
}

fn line(domain: &[u8], descriptor: &Descriptor, verdict: &Verdict, rules: &RuleTree) -> String {
    let mut text = format!("domain {}: {}: ", Shown(domain), shown::entries(&descriptor.entries));
    text += if verdict.is_refused() { "OVER_LIMIT" } else { "OK" };
    let Some(status) = verdict.status() else {
        let reason = reason::without_limit(rules, domain, descriptor, &verdict.matched);
        let _ = write!(text, ", no limit: {}", reason.unwrap_or_default());
        return text;
    };
    push_status(&mut text, verdict, status);
    match verdict.matched.rule() {
        Some(rule) => {
            let (name, place) = (rule.name(), rule.spec.location.as_bytes());
            let _ = write!(text, ", rule {} at {}", Shown(name.as_bytes()), Shown(place));
        }
        None => text += ", limit of the request",
    }
    text
}

fn push_status(text: &mut String, verdict: &Verdict, status: LimitStatus<'_>) {
    let LimitStatus { limit, name, outcome, .. } = status;
    let _ = write!(text, ", {limit}");
    if !name.is_empty() {
        let _ = write!(text, " ({})", Shown(name.as_bytes()));
    }
    let _ = write!(text, ", {} remaining", outcome.remaining);
    let _ = match status.exact_wait() {
        None => write!(text, ", can never pass"),
        Some(wait) if verdict.is_over() => write!(text, ", retry in {} s", ceil_seconds(wait)),
        Some(wait) => write!(text, ", resets in {} s", ceil_seconds(wait)),
    };
    if !outcome.banned.is_zero() {
        let _ = write!(text, ", penalty for {} s", ceil_seconds(outcome.banned));
    }
    if verdict.is_over() && !verdict.is_refused() {
        *text += ", over the limit, but shadow_mode refuses nothing";
    }
}
