//! `GET /v1/top`: the descriptors with most hits.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::Exchange,
    problem::Problems,
    query::Query,
    shapes::{DescriptorShape, RuleRef, governing_rule, time},
    state::Admin,
};
use crate::live::{Measure, SAMPLED, TopName, TopNames};

/// The descriptors with most hits.
#[derive(Debug, Serialize, ToSchema)]
struct TopShape {
    /// `hits`, `refused` or `would_refuse`.
    by: &'static str,
    /// The beginning of the time that was counted.
    from: String,
    /// Its end: now.
    to: String,
    /// All hits in that time, also those of other rules.
    total: u64,
    /// One of so many decisions was counted, with that weight. 1 means that all were.
    sampled: u8,
    /// The descriptor with most hits first.
    items: Vec<TopItem>,
}

/// A descriptor and its hits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TopItem {
    #[serde(flatten)]
    descriptor: DescriptorShape,
    /// The rule that governs it now. Null if none does, if its limit comes with requests, or if
    /// the end of the descriptor is missing.
    rule: Option<RuleRef>,
    /// The hits, by which the items are sorted.
    hits: u64,
    /// The hits are not less than this, but for the sampling.
    at_least: u64,
    /// The hits are not more than this, but for the sampling.
    at_most: u64,
}

/// What is asked.
struct Question {
    by: (&'static str, Measure),
    /// Minutes before the one in progress.
    minutes: usize,
    domain: Option<String>,
    rule: Option<String>,
    limit: usize,
}

const BY: [(&str, (&str, Measure)); 3] = [
    ("hits", ("hits", Measure::Hits)),
    ("refused", ("refused", Measure::Refused)),
    ("would_refuse", ("would_refuse", Measure::WouldRefuse)),
];

/// The descriptors with most hits.
#[utoipa::path(
    get,
    path = "/v1/top",
    operation_id = "top",
    params(
        ("by" = Option<String>, Query,
            description = "`hits` (if absent), `refused` or `would_refuse`"),
        ("window" = Option<String>, Query,
            description = "`1m`, `10m` (if absent) or `1h`, and the minute in progress"),
        ("domain" = Option<String>, Query, description = "Descriptors of this domain alone"),
        ("rule" = Option<String>, Query,
            description = "Descriptors that the rule of this name governs now"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "100 if absent")
    ),
    responses(
        (status = 200, body = TopShape, description = "The descriptor with most hits first"),
        Problems
    )
)]
pub(super) async fn top(mut query: Query, exchange: Exchange) -> Response {
    let question = Question {
        by: query.choice("by", &BY),
        minutes: query.choice("window", &[("10m", 10), ("1m", 1), ("1h", 60)]),
        domain: query.text("domain"),
        rule: query.text("rule"),
        limit: query.limit(),
    };
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    exchange.compute(move |admin| Ok(answer(admin, &question))).await
}

fn answer(admin: &Admin, question: &Question) -> TopShape {
    let (by, measure) = question.by;
    let now = admin.clock.now();
    let TopNames { from, total, rows } = admin.live.top(measure, question.minutes, usize::MAX);
    let rules = admin.live.rules().rules;
    let mut items = Vec::new();
    for TopName { name, count, at_least, at_most } in rows {
        if items.len() == question.limit {
            break;
        }
        if question.domain.as_ref().is_some_and(|domain| domain.as_bytes() != name.domain) {
            continue;
        }
        let rule = governing_rule(&rules, &name);
        if let Some(wanted) = &question.rule
            && rule.is_none_or(|rule| rule.name() != *wanted)
        {
            continue;
        }
        items.push(TopItem {
            descriptor: DescriptorShape::new(&name),
            rule: rule.map(|rule| RuleRef::of(rule)),
            hits: count,
            at_least,
            at_most,
        });
    }
    let sampled = if measure == Measure::Hits { SAMPLED } else { 1 };
    TopShape { by, from: time(from), to: time(now), total, sampled, items }
}
