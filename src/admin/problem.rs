//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `/problems/` and a word for the kind of error, which stays the same.
    #[serde(rename = "type")]
    #[schema(example = "/problems/unauthorized")]
    pub(super) kind: &'static str,
    /// The status in words.
    pub(super) title: &'static str,
    /// The status of HTTP.
    pub(super) status: u16,
    /// What is wrong, and what was expected.
    pub(super) detail: String,
    /// All mistakes in the parameters; empty if there are none.
    pub(super) errors: Vec<Mistake>,
    /// The seconds after which the request may succeed.
    #[serde(skip)]
    pub(super) retry_after: Option<u64>,
}

/// A mistake in a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Mistake {
    /// The name of the parameter.
    pub(super) parameter: String,
    /// What was expected.
    pub(super) detail: String,
}

/// The errors of every operation, for the OpenAPI document.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "the document is made of the type alone")]
pub(super) enum Problems {
    /// A parameter or the body has a mistake.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// There is no token, or it is not known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// A page of another site caused the request, or the token may only read.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The host of the request is not one of this listener.
    #[response(status = 421, content_type = "application/problem+json")]
    Misdirected(Problem),
    /// The address failed to log in 10 times in a minute.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyFailures(Problem),
    /// The process is short of memory or time; `Retry-After` has the seconds to wait.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let (status, detail, errors) = (status.as_u16(), detail.into(), Vec::new());
        Self { kind, title, status, detail, errors, retry_after: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "/problems/bad-request", detail)
    }

    pub(super) fn of_parameters(errors: Vec<Mistake>) -> Self {
        let problem = Self::bad_request("the parameters have mistakes");
        Self { errors, ..problem }
    }

    pub(super) fn unknown_rule(name: &str) -> Self {
        let detail = format!("no rule in force has the name {name:?}; GET /v1/rules lists them");
        Self::new(StatusCode::NOT_FOUND, "/problems/unknown-rule", detail)
    }

    /// The process is short of something; a later request may succeed.
    pub(super) fn unavailable(kind: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        Self { retry_after: Some(1), ..problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        // Text and numbers alone, which JSON can hold.
        let text = serde_json::to_string(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, text).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn not_found() -> Problem {
    let detail = "no operation has this path; GET /openapi.json lists them";
    Problem::new(StatusCode::NOT_FOUND, "/problems/not-found", detail)
}

pub(super) async fn method_not_allowed() -> Problem {
    let detail = "the operation has another method; `Allow` names it";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "/problems/method-not-allowed", detail)
}
