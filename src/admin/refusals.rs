//! `GET /v1/refusals`: the latest refusals and their causes.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::Exchange,
    problem::Problems,
    query::Query,
    shapes::{DescriptorShape, LimitShape, RuleRef, seconds, time},
    state::Admin,
};
use crate::{
    live::{Cause, RecentRefusal},
    rules::spec::OnError,
};

/// Some of the latest refusals.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalPage {
    /// The oldest first.
    items: Vec<RefusalShape>,
    /// As `after`, it asks for the refusals after these.
    next: u64,
    /// Refusals since the start that were not recorded, because there were more than 100 in a
    /// second.
    not_recorded: u64,
}

/// A refused request, and the limit that decided.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RefusalShape {
    /// Grows by 1 with each recorded refusal of this instance.
    number: u64,
    at: String,
    /// The descriptor that decided.
    #[serde(flatten)]
    descriptor: DescriptorShape,
    /// The rule that decided; null if the request brought its own limit.
    rule: Option<RuleRef>,
    limit: LimitShape,
    /// The hits that the request asked for.
    hits: u64,
    /// The hits that the limit still had room for.
    remaining: u32,
    /// The seconds until the same request passes, rounded up; null if it never does.
    wait_seconds: Option<u64>,
    /// `allow`, `deny` or `local`: the policy that decided because the counter store did not
    /// answer. Null if it did.
    policy: Option<&'static str>,
}

/// The latest refusals and their causes.
#[utoipa::path(
    get,
    path = "/v1/refusals",
    operation_id = "refusals",
    params(
        ("after" = Option<u64>, Query,
            description = "`next` of an earlier answer. If absent, the latest refusals are sent"),
        ("domain" = Option<String>, Query, description = "Refusals in this domain alone"),
        ("rule" = Option<String>, Query, description = "Refusals by the rule of this name alone"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "100 if absent")
    ),
    responses(
        (status = 200, body = RefusalPage, description = "The oldest first; 1,000 are kept"),
        Problems
    )
)]
pub(super) async fn refusals(mut query: Query, exchange: Exchange) -> Response {
    let after = query.number("after", 0..=u64::MAX);
    let (domain, rule) = (query.text("domain"), query.text("rule"));
    let limit = query.limit();
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    exchange
        .compute(move |admin| Ok(page(admin, after, domain.as_deref(), rule.as_deref(), limit)))
        .await
}

fn page(
    admin: &Admin,
    after: Option<u64>,
    domain: Option<&str>,
    rule: Option<&str>,
    limit: usize,
) -> RefusalPage {
    let is_wanted = |refusal: &RecentRefusal| {
        domain.is_none_or(|domain| domain.as_bytes() == refusal.name.domain)
            && rule.is_none_or(|name| {
                refusal.cause.rule.as_ref().is_some_and(|rule| rule.name() == name)
            })
    };
    let found = admin.live.refusals(after, limit, is_wanted);
    let mut items = Vec::with_capacity(found.list.len());
    for RecentRefusal { number, at, name, cause } in &found.list {
        let Cause { rule, limit, limit_name, hits, remaining, wait, policy } = cause;
        items.push(RefusalShape {
            number: *number,
            at: time(*at),
            descriptor: DescriptorShape::new(name),
            rule: rule.as_ref().map(|rule| RuleRef::of(rule)),
            limit: LimitShape::new(limit_name, limit),
            hits: *hits,
            remaining: *remaining,
            wait_seconds: wait.map(seconds),
            policy: policy.map(OnError::name),
        });
    }
    RefusalPage { items, next: found.next, not_recorded: found.not_recorded }
}
