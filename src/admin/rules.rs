//! `GET /v1/rules`: the rules in force and their use.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    exchange::Exchange,
    problem::{Problem, Problems},
    query::Query,
    shapes::{LimitShape, RuleRef, RuleUse},
    state::Admin,
};
use crate::rules::{Rule, RuleTree};

/// Some of the rules in force, in the order of their sources.
#[derive(Debug, Serialize, ToSchema)]
struct RulePage {
    items: Vec<RuleShape>,
    /// The `after` of the next page; null after the last one.
    next: Option<String>,
}

/// A rule in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RuleShape {
    rule: RuleRef,
    domain: String,
    /// Empty if every request passes.
    limits: Vec<LimitShape>,
    /// The rule counts hits and refuses none.
    shadow_mode: bool,
    /// The rule refuses only together with all other quotas of a request.
    quota_mode: bool,
    /// Its hits. A rule without limits counts none.
    hits: RuleUse,
}

/// The rules in force and their use.
#[utoipa::path(
    get,
    path = "/v1/rules",
    operation_id = "rules",
    params(
        ("domain" = Option<String>, Query, description = "Rules of this domain alone"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "100 if absent")
    ),
    responses(
        (status = 200, body = RulePage, description = "In the order of their sources"),
        Problems
    )
)]
pub(super) async fn rules(mut query: Query, exchange: Exchange) -> Response {
    let (domain, after) = (query.text("domain"), query.text("after"));
    let limit = query.limit();
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    exchange.compute(move |admin| page(admin, domain.as_deref(), after.as_deref(), limit)).await
}

fn page(
    admin: &Admin,
    domain: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Result<RulePage, Problem> {
    let now = admin.clock.now();
    let rules = admin.live.rules().rules;
    let start = match after {
        Some(after) => start(&rules, after)?,
        None => 0,
    };
    let mut items = Vec::new();
    let mut last: Option<&Rule> = None;
    for rule in rules.rules().iter().skip(start) {
        if domain.is_some_and(|domain| domain != &*rule.domain) {
            continue;
        }
        if let Some(last) = last
            && items.len() == limit
        {
            return Ok(RulePage { items, next: Some(cursor(last)) });
        }
        last = Some(rule);
        items.push(RuleShape {
            rule: RuleRef::of(rule),
            domain: rule.domain.to_string(),
            limits: rule.spec.limits.iter().map(LimitShape::of).collect(),
            shadow_mode: rule.spec.shadow_mode,
            quota_mode: rule.spec.quota_mode,
            hits: RuleUse::of(&admin.live, rule.index, now),
        });
    }
    Ok(RulePage { items, next: None })
}

/// The position of a rule, and its name, which finds it after a reload.
fn cursor(rule: &Rule) -> String {
    format!("{}~{}", rule.index, rule.name())
}

/// The index behind the rule of a cursor.
fn start(rules: &RuleTree, after: &str) -> Result<usize, Problem> {
    if let Some((index, name)) = after.split_once('~')
        && let Ok(index) = index.parse::<usize>()
    {
        let rules = rules.rules();
        if rules.get(index).is_some_and(|rule| rule.name() == name) {
            return Ok(index + 1);
        }
        if let Some(moved) = rules.iter().position(|rule| rule.name() == name) {
            return Ok(moved + 1);
        }
    }
    Err(Problem::bad_request(
        "`after` names no rule in force: expected `next` of the page before; if rules were removed \
         meanwhile, begin again without it",
    ))
}
