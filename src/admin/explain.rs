//! `POST /v1/explain`: the rule that applies to a request, and why.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::Value;
use std::sync::Arc;

use super::{
    exchange::{Exchange, no_rules, undecided},
    problem::{Problem, Problems},
    query::Query,
    state::Admin,
};
use crate::{
    descriptor::Request,
    engine::decision::Decision,
    explain::{self, json, rehearsal},
    limit::Hits,
};

/// The rule that applies to each descriptor, what else came close, and the present answer. Charges
/// nothing. The body is that of a request to `/json`; the answer is that of `tollgate explain
/// --json`.
#[utoipa::path(
    post,
    path = "/v1/explain",
    operation_id = "explain",
    request_body(content = Object, description = "A request, as for `/json`"),
    responses(
        (status = 200, body = Object, description = "`answer` is the answer with unused counters, \
            `server` the present one to a request with 0 hits"),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body did not arrive in time"),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too long"),
        Problems
    )
)]
pub(super) async fn explain(query: Query, mut exchange: Exchange) -> Response {
    if let Err(problem) = query.finish() {
        return problem.into_response();
    }
    let request = match exchange.read_call().await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let mut look = request.clone();
    for descriptor in &mut look.descriptors {
        descriptor.hits = Hits::Add(0);
    }
    let decision = match exchange.admin.look(&look).await {
        Some(Ok(decision)) => Ok(decision),
        Some(Err(error)) => Err(undecided(&error).detail),
        None => Err("the counter store did not answer in time".to_owned()),
    };
    exchange.compute(move |admin| answer(admin, &request, &look, decision)).await
}

fn answer(
    admin: &Admin,
    request: &Request,
    look: &Request,
    decision: Result<Decision, String>,
) -> Result<Value, Problem> {
    let rules = admin.live.rules().rules;
    if !rules.is_loaded() {
        return Err(no_rules());
    }
    let clock = Arc::clone(&admin.clock);
    let report = explain::report(&admin.deciding, request, &rules, clock);
    // Its counters are in memory, so it never waits.
    let Some(Ok(mut report)) = report.now_or_never() else {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "/problems/internal",
            "the request was not decided",
        ));
    };
    let answers = &admin.deciding.answers;
    report.server = Some(decision.map(|decision| rehearsal::response(look, &decision, answers)));
    Ok(json::report(&report))
}
