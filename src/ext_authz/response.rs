//! Builds answers.

use bytes::Bytes;
use prost_types::Struct;
use tonic::Code;

use super::pb::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption},
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode},
    },
    google::rpc,
};
use crate::{
    answer::{
        AnswerSettings,
        fields::LimitFields,
        problem::{PROBLEM_JSON, Problem},
    },
    descriptor::Request,
    engine::decision::Decision,
    grpc::response::metadata,
};

/// A refused request.
pub(super) struct Refusal {
    /// Envoy needs another than OK, and shows it to nobody.
    pub(super) code: Code,
    /// The status for the client.
    pub(super) status: StatusCode,
    pub(super) headers: Vec<HeaderValueOption>,
    /// Problem details.
    pub(super) body: String,
    pub(super) metadata: Option<Struct>,
}

/// The answer to a request that nothing limits.
pub(super) fn unlimited() -> CheckResponse {
    allowed(Vec::new(), None)
}

/// The answer to a request with a decision.
pub(super) fn of_decision(
    request: &Request,
    decision: &Decision,
    settings: &AnswerSettings,
) -> CheckResponse {
    let fields = LimitFields::new(decision);
    let metadata =
        if settings.has_metadata(decision) { Some(metadata(request, decision)) } else { None };
    if !decision.over_limit {
        return allowed(limit_headers(fields), metadata);
    }
    let status = StatusCode::TooManyRequests;
    let body = Problem::over_limit(number(status), &fields).to_json();
    let mut headers = Vec::new();
    if let Some(seconds) = fields.retry_after {
        headers.push(header("retry-after", seconds.to_string()));
    }
    headers.extend(limit_headers(fields));
    refusal(Refusal { code: Code::ResourceExhausted, status, headers, body, metadata })
}

/// The answer to a request that does not pass.
pub(super) fn refusal(refusal: Refusal) -> CheckResponse {
    let Refusal { code, status, mut headers, body, metadata } = refusal;
    headers.push(header("content-type", PROBLEM_JSON));
    headers.push(header("cache-control", "no-store"));
    let status = HttpStatus { code: status.into() };
    let denied = DeniedHttpResponse { status: Some(status), headers, body };
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), message: String::new() }),
        dynamic_metadata: metadata,
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

/// The status as a number of HTTP.
pub(super) fn number(status: StatusCode) -> u16 {
    u16::try_from(i32::from(status)).unwrap_or(500)
}

fn allowed(
    response_headers_to_add: Vec<HeaderValueOption>,
    metadata: Option<Struct>,
) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), message: String::new() }),
        dynamic_metadata: metadata,
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse { response_headers_to_add })),
    }
}

fn limit_headers(fields: LimitFields) -> Vec<HeaderValueOption> {
    let LimitFields { policy, limit, retry_after: _, violated: _ } = fields;
    if policy.is_empty() {
        return Vec::new();
    }
    vec![header("ratelimit-policy", policy), header("ratelimit", limit)]
}

fn header(name: &'static str, value: impl Into<Bytes>) -> HeaderValueOption {
    let key = Bytes::from_static(name.as_bytes());
    let header = HeaderValue { key, value: value.into(), raw_value: Bytes::new() };
    HeaderValueOption { header: Some(header) }
}
