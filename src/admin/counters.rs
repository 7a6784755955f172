//! `POST /v1/counters/…`: the counters of a request: look, reset, set.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::{Exchange, no_rules},
    problem::{Problem, Problems},
    query::Query,
    shapes::{LimitShape, RuleRef, seconds, time},
    state::Admin,
    tokens::Role,
};
use crate::{
    decision_log::without_limit,
    descriptor::{Descriptor, Request},
    engine::{
        counters::{
            ChangeOrder, CounterReport, CounterStatus, CountersError, DescriptorCounters, Target,
        },
        decision::Match,
    },
    explain::notation,
    limit::{Hits, Outcome},
    rules::RuleTree,
    service::counters::OperationError,
    store::CounterChange,
};

/// The counters of a request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counters {
    /// The time of the operation.
    #[schema(example = "2026-01-01T00:00:00Z")]
    at: String,
    /// `SHADOW_MODE` is on: no request is refused.
    shadow_mode: bool,
    /// One for each descriptor, in order.
    descriptors: Vec<DescriptorShape>,
}

/// The counters of a descriptor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DescriptorCounters)]
struct DescriptorShape {
    /// The entries, as `tollgate hit` takes them.
    #[schema(example = "user=ann,path=/login")]
    descriptor: String,
    /// The rule that governs it; null if none does.
    rule: Option<RuleRef>,
    /// The reason why no limit applies; null if one does.
    no_limit: Option<String>,
    /// One for each limit of the rule, in order.
    counters: Vec<CounterShape>,
}

/// A counter.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Counter)]
struct CounterShape {
    limit: LimitShape,
    /// The effect of the limit on this request: `enforced`, `shadow` if it refuses nothing, or
    /// `replaced` if another rule replaces it.
    effect: &'static str,
    /// The name of the counter in the store. Bytes that are not UTF-8 are replaced.
    counter: String,
    /// The value before the change; null if the store did not tell it.
    found: Option<Value>,
    /// The counter was changed; null if that was not asked for.
    changed: Option<bool>,
    /// The reason why `found` is null or `changed` is false. It tells if the counter may have
    /// been changed all the same.
    error: Option<String>,
}

/// The value of a counter.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CounterValue)]
struct Value {
    /// The hits that count now, those included that instances have reserved by lease.
    used: u64,
    /// The hits that the limit has room for.
    remaining: u32,
    /// The seconds until the limit is as if it had never been used, rounded up.
    reset_seconds: u64,
    /// The seconds for which a penalty refuses every hit; 0 if there is none.
    banned_seconds: u64,
}

impl From<&Outcome> for Value {
    fn from(outcome: &Outcome) -> Self {
        Self {
            used: outcome.used,
            remaining: outcome.remaining,
            reset_seconds: seconds(outcome.reset_after),
            banned_seconds: seconds(outcome.banned),
        }
    }
}

/// The counters of all limits that govern the descriptors of a request, as the store has them.
/// Charges nothing. The body is that of a request to `/json`; its hits are ignored.
#[utoipa::path(
    post,
    path = "/v1/counters/look",
    operation_id = "lookAtCounters",
    request_body(content = Object, description = "A request, as for `/json`"),
    responses(
        (status = 200, body = Counters, description = "The counters"),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body did not arrive in time"),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too long"),
        Problems
    )
)]
pub(super) async fn look(query: Query, mut exchange: Exchange) -> Response {
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    let request = match exchange.read_call().await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let report = exchange.admin.decider.look_at_counters(&request).await;
    answer(&exchange, &request, report)
}

/// Deletes the counters of the limits that apply to a request, which also ends a penalty. The
/// answer has what was there. The body is that of a request to `/json`; its hits are ignored.
/// The log has a line for each counter.
#[utoipa::path(
    post,
    path = "/v1/counters/reset",
    operation_id = "resetCounters",
    params(
        ("limit" = Option<String>, Query, description = "Only the limits with this name, or with \
            a counter of this name"),
    ),
    request_body(content = Object, description = "A request, as for `/json`"),
    responses(
        (status = 200, body = Counters, description = "The counters before they were deleted"),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body did not arrive in time"),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too long"),
        Problems
    )
)]
pub(super) async fn reset(mut query: Query, exchange: Exchange) -> Response {
    let limit = query.text("limit");
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    change(exchange, limit.as_deref(), CounterChange::Reset).await
}

/// Replaces the counter of the limit that applies to a request by one with `used` hits, all
/// counted now, and ends a penalty. The answer has what was there. The body is that of a
/// request to `/json`; its hits are ignored. The log has a line for each counter.
#[utoipa::path(
    post,
    path = "/v1/counters/set",
    operation_id = "setCounter",
    params(
        ("used" = u64, Query, maximum = 9007199254740991_u64, description = "The hits"),
        ("limit" = Option<String>, Query, description = "The name of the limit or of its \
            counter, if several limits apply"),
    ),
    request_body(content = Object, description = "A request, as for `/json`"),
    responses(
        (status = 200, body = Counters, description = "The counters before they were set"),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body did not arrive in time"),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too long"),
        Problems
    )
)]
pub(super) async fn set(mut query: Query, exchange: Exchange) -> Response {
    let limit = query.text("limit");
    let used = query.required_number("used", 0..=Hits::MAX);
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    change(exchange, limit.as_deref(), CounterChange::Set(used)).await
}

async fn change(mut exchange: Exchange, limit: Option<&str>, change: CounterChange) -> Response {
    if exchange.actor.role != Role::Write {
        let detail = "this token may only read; expected one with the role `write`";
        return Problem::new(StatusCode::FORBIDDEN, "/problems/read-only", detail).into_response();
    }
    let request = match exchange.read_call().await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let target = match limit {
        Some(name) => Target::Named(name.as_bytes()),
        None => Target::All,
    };
    let order = ChangeOrder { target, change, who: &exchange.actor.name };
    let report = exchange.admin.decider.change_counters(&request, order).await;
    answer(&exchange, &request, report)
}

fn answer(
    exchange: &Exchange,
    request: &Request,
    report: Result<CounterReport, OperationError>,
) -> Response {
    let report = match report {
        Ok(report) => report,
        Err(error) => return problem(&error).into_response(),
    };
    if let Some(reason) = failure(&report) {
        return Problem::unavailable("/problems/store", reason).into_response();
    }
    exchange.send(&shape(&exchange.admin, request, &report))
}

/// The error of the first counter, if all counters have one.
fn failure(report: &CounterReport) -> Option<String> {
    let mut first = None;
    for status in report.counters() {
        let error = error(status)?;
        first = first.or(Some(error));
    }
    first
}

fn error(status: &CounterStatus) -> Option<String> {
    match (&status.found, &status.changed) {
        (_, Some(Err(error))) => Some(error.to_string()),
        (Err(error), None) => Some(error.to_string()),
        (Err(_), Some(Ok(()))) | (Ok(_), None | Some(Ok(()))) => None,
    }
}

fn problem(error: &OperationError) -> Problem {
    match error {
        OperationError::Counters(CountersError::NoRules) => no_rules(),
        OperationError::Invalid(_) => Problem::bad_request(error.to_string()),
        OperationError::Counters(
            CountersError::UnknownLimit(_) | CountersError::SeveralLimits(_),
        ) => Problem::bad_request(notation::printable(&error.to_string())),
    }
}

fn shape(admin: &Admin, request: &Request, report: &CounterReport) -> Counters {
    let rules = admin.live.rules().rules;
    let mut descriptors = Vec::with_capacity(report.descriptors.len());
    for (descriptor, counters) in request.descriptors.iter().zip(&report.descriptors) {
        descriptors.push(descriptor_shape(&rules, &request.domain, descriptor, counters));
    }
    Counters { at: time(report.at), shadow_mode: report.shadow, descriptors }
}

fn descriptor_shape(
    rules: &RuleTree,
    domain: &[u8],
    descriptor: &Descriptor,
    counters: &DescriptorCounters,
) -> DescriptorShape {
    let rule = match &counters.matched {
        Match::Rule(rule, _) | Match::Unlimited(rule) | Match::Replaced(rule) => Some(rule),
        Match::UnknownDomain | Match::None | Match::Override(_) => None,
    };
    DescriptorShape {
        descriptor: notation::descriptor(&descriptor.entries),
        rule: rule.map(|rule| RuleRef::of(rule)),
        no_limit: without_limit(rules, domain, descriptor, &counters.matched),
        counters: counters.counters.iter().map(counter_shape).collect(),
    }
}

fn counter_shape(status: &CounterStatus) -> CounterShape {
    CounterShape {
        limit: LimitShape::new(&status.name, &status.limit),
        effect: status.effect.name(),
        counter: String::from_utf8_lossy(status.counter.key.as_bytes()).into_owned(),
        found: status.found.as_ref().ok().map(Value::from),
        changed: status.changed.as_ref().map(Result::is_ok),
        error: error(status),
    }
}
