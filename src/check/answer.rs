//! Answers to checks. Their heads have less than 2 KiB.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{dialect::Dialect, mistake::Mistake};
use crate::{
    answer::{
        fields::LimitFields,
        problem::{PROBLEM_JSON, Problem},
    },
    engine::decision::Decision,
};

/// 200 without a body: Envoy takes no other status for success.
pub(super) fn pass() -> Response {
    let mut response = Response::default();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

pub(super) fn decided(decision: &Decision, dialect: Dialect) -> Response {
    let fields = LimitFields::new(decision);
    let mut response = if decision.over_limit {
        let status = dialect.refusal();
        problem(status, &Problem::over_limit(status.as_u16(), &fields))
    } else {
        pass()
    };
    fields.insert_into(response.headers_mut());
    response
}

pub(super) fn mistake(mistake: &Mistake) -> Response {
    let status = mistake.status();
    let title = status.canonical_reason().unwrap_or_default();
    problem(status, &Problem::of_status(status.as_u16(), title, &mistake.text))
}

/// 503, for the reason `why`.
pub(super) fn undecided(why: &str) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    problem(status, &Problem::undecided(status.as_u16(), why))
}

fn problem(status: StatusCode, problem: &Problem<'_>) -> Response {
    let headers = [
        (header::CACHE_CONTROL, NO_STORE),
        (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)),
    ];
    (status, headers, problem.to_json()).into_response()
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
