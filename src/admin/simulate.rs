//! `POST /v1/simulate`: the decision about a request of any cost, without its charge.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::{Exchange, undecided},
    problem::{Problem, Problems},
    query::Query,
    shapes::{LimitShape, RuleRef, seconds},
    state::Admin,
};
use crate::{
    descriptor::{Descriptor, Request},
    engine::decision::{Decision, Match, Verdict},
    explain::notation,
    limit::Hits,
    rules::spec::OnError,
};

/// The decision that the request would get now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    /// The request would be refused.
    refused: bool,
    /// The request would pass only because of a shadow mode.
    would_refuse: bool,
    /// One for each descriptor, in order.
    descriptors: Vec<DescriptorResult>,
    /// The policies that stood in for the counter store; empty if it answered.
    policies: Vec<&'static str>,
}

/// The result for one descriptor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DescriptorResult {
    /// The entries, as `tollgate hit` takes them.
    #[schema(example = "user=ann,path=/login")]
    descriptor: String,
    /// The rule that governs it; null if none does.
    rule: Option<RuleRef>,
    /// The hits that the request asks for. Refunds count as 0.
    hits: u64,
    /// The hits exceed a limit. That refuses nothing in a shadow mode, or for a quota while
    /// another one has room.
    over: bool,
    /// The limits that apply.
    limits: Vec<LimitResult>,
}

/// The state of a limit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LimitResult {
    limit: LimitShape,
    /// The hits that count now.
    used: u64,
    /// The hits that the limit has room for.
    remaining: u32,
    /// The seconds until the limit is as if it had never been used, rounded up.
    reset_seconds: u64,
    /// The seconds for which a penalty refuses every hit; 0 if there is none.
    banned_seconds: u64,
    /// The hits exceed this limit.
    over: bool,
}

/// The decision that a request would get now, without its charge. The body is that of a request
/// to `/json`. Descriptors that share a counter are looked at one by one.
#[utoipa::path(
    post,
    path = "/v1/simulate",
    operation_id = "simulate",
    request_body(content = Object, description = "A request, as for `/json`; `hitsAddend` is its cost"),
    responses(
        (status = 200, body = Simulation, description = "The decision"),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body did not arrive in time"),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too long"),
        Problems
    )
)]
pub(super) async fn simulate(query: Query, mut exchange: Exchange) -> Response {
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    let request = match exchange.read_call().await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    match decide(&exchange.admin, &request).await {
        Ok(simulation) => exchange.send(&simulation),
        Err(problem) => problem.into_response(),
    }
}

async fn decide(admin: &Admin, request: &Request) -> Result<Simulation, Problem> {
    let mut look = request.clone();
    for descriptor in &mut look.descriptors {
        descriptor.hits = Hits::Add(0);
    }
    let looked = admin.look(&look).await.ok_or_else(|| {
        Problem::unavailable("/problems/store", "the counter store did not answer in time")
    })?;
    let decision = looked.map_err(|error| undecided(&error))?;
    Ok(simulation(request, &decision, admin.deciding.mode.shadow))
}

/// Concludes from a decision about the same request with 0 hits.
fn simulation(request: &Request, decision: &Decision, is_shadow: bool) -> Simulation {
    let mut descriptors = Vec::with_capacity(request.descriptors.len());
    let (mut refused, mut shadowed) = (false, false);
    let (mut has_quota, mut quota_left) = (false, false);
    for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
        let result = result(descriptor, verdict);
        let refuses = result.over && !verdict.matched.is_shadow();
        shadowed |= result.over && verdict.matched.is_shadow();
        if verdict.quota {
            has_quota = true;
            quota_left |= !refuses;
        } else {
            refused |= refuses;
        }
        descriptors.push(result);
    }
    refused |= has_quota && !quota_left;
    Simulation {
        refused: refused && !is_shadow,
        would_refuse: (refused && is_shadow) || (shadowed && !refused),
        descriptors,
        policies: decision.policies.iter().map(|policy| OnError::name(*policy)).collect(),
    }
}

fn result(descriptor: &Descriptor, verdict: &Verdict) -> DescriptorResult {
    let hits = descriptor.hits.requested();
    let mut limits = Vec::new();
    for status in verdict.statuses() {
        let outcome = status.outcome;
        limits.push(LimitResult {
            limit: LimitShape::new(status.name, status.limit),
            used: outcome.used,
            remaining: outcome.remaining,
            reset_seconds: seconds(outcome.reset_after),
            banned_seconds: seconds(outcome.banned),
            over: u64::from(outcome.remaining) < hits,
        });
    }
    let rule = match &verdict.matched {
        Match::Rule(rule, _) | Match::Unlimited(rule) | Match::Replaced(rule) => Some(rule),
        Match::UnknownDomain | Match::None | Match::Override(_) => None,
    };
    DescriptorResult {
        descriptor: notation::descriptor(&descriptor.entries),
        rule: rule.map(|rule| RuleRef::of(rule)),
        hits,
        over: limits.iter().any(|limit| limit.over),
        limits,
    }
}
