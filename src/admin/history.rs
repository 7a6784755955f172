//! `GET /v1/history`: hits over time.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::Exchange,
    problem::{Problem, Problems},
    query::Query,
    shapes::{Hits, RuleRef, find_rule, time},
    state::Admin,
};
use crate::live::Step;

/// Hits over time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HistoryShape {
    /// The rule; null for all rules together.
    rule: Option<RuleRef>,
    /// The length of a step in seconds.
    step_seconds: u64,
    /// The oldest first; the last one is still in progress. Null if the rule is not among the
    /// 1,000 busiest, which alone have a history.
    points: Option<Vec<PointShape>>,
}

/// The hits in one step.
#[derive(Debug, Serialize, ToSchema)]
struct PointShape {
    /// Its beginning.
    at: String,
    hits: Hits,
}

/// Hits over time, of one rule or of all.
#[utoipa::path(
    get,
    path = "/v1/history",
    operation_id = "history",
    params(
        ("rule" = Option<String>, Query, description = "The name of a rule; all rules if absent"),
        ("step" = Option<String>, Query,
            description = "`5s` (if absent): 120 steps, or `1m`: 360 steps")
    ),
    responses(
        (status = 200, body = HistoryShape, description = "The oldest step first"),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No rule in force has this name"),
        Problems
    )
)]
pub(super) async fn history(mut query: Query, exchange: Exchange) -> Response {
    let rule = query.text("rule");
    let step = query.choice("step", &[("5s", Step::Fine), ("1m", Step::Coarse)]);
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    exchange.compute(move |admin| answer(admin, rule.as_deref(), step)).await
}

fn answer(admin: &Admin, rule: Option<&str>, step: Step) -> Result<HistoryShape, Problem> {
    let now = admin.clock.now();
    let rules = admin.live.rules().rules;
    let (rule, points) = match rule {
        None => (None, Some(admin.live.history(step, now))),
        Some(name) => {
            let rule = find_rule(&rules, name).ok_or_else(|| Problem::unknown_rule(name))?;
            (Some(RuleRef::of(rule)), admin.live.rule_history(rule.index, step, now))
        }
    };
    let points = points.map(|points| {
        points
            .iter()
            .map(|point| PointShape { at: time(point.at), hits: point.hits.into() })
            .collect()
    });
    Ok(HistoryShape { rule, step_seconds: step.seconds(), points })
}
