//! Envoy's rate-limit service as JSON over HTTP: `/json`, by any method.
//!
//! The bodies follow protobuf's JSON mapping of `RateLimitRequest` and
//! `RateLimitResponse`. 200 and 429 carry a decision, 400 and 413 are errors of
//! the request, 503 is an error of the counters.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::time::Instant;

use crate::{
    answer::{AnswerSettings, RefusalFields},
    descriptor::Request,
    engine::decision::Decision,
    http::error_response,
    service::{LARGEST_MESSAGE, RequestError, Service},
    spans::ServerSpan,
    store::Store,
};

mod read;
mod write;

pub use self::read::decode;

/// The routes of this protocol.
pub fn routes<S: Store>(service: Arc<Service<S>>) -> Router {
    Router::new()
        .route("/json", any(decide::<S>))
        .layer(DefaultBodyLimit::max(LARGEST_MESSAGE))
        .with_state(service)
}

/// The span of the call, if it is recorded.
struct CallSpan(Option<ServerSpan>);

impl<S: Store> FromRequestParts<Arc<Service<S>>> for CallSpan {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service<S>>,
    ) -> Result<Self, Infallible> {
        let Some(spans) = &service.spans else { return Ok(Self(None)) };
        Ok(Self(spans.start_http_call(&parts.method, &parts.headers)))
    }
}

async fn decide<S: Store>(
    State(service): State<Arc<Service<S>>>,
    CallSpan(span): CallSpan,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let response = try_decide(&service, body);
    let Some(span) = span else { return response.await };
    let response = span.instrument(response).await;
    span.end_http(response.status().as_u16());
    response
}

async fn try_decide<S: Store>(
    service: &Service<S>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let started = Instant::now();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            // Otherwise the client has left before the end of the body.
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                service.reject_unread(&rejection);
            }
            return error_response(rejection.status(), &rejection.body_text());
        }
    };
    let message = match read::parse(&body) {
        Ok(message) => message,
        Err(error) => {
            service.reject_unread(&error);
            return error_response(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let result = answer(service, message).await;
    service.metrics.count_call("json", started.elapsed());
    match result {
        Ok(response) => response,
        Err(RequestError::Invalid(invalid)) => {
            error_response(StatusCode::BAD_REQUEST, &invalid.to_string())
        }
        Err(RequestError::Undecided(undecided)) => {
            error_response(StatusCode::SERVICE_UNAVAILABLE, &undecided.to_string())
        }
    }
}

async fn answer<S: Store>(
    service: &Service<S>,
    message: read::RequestJson,
) -> Result<Response, RequestError> {
    let request = message.request().map_err(|invalid| service.reject(invalid))?;
    let decision = service.decide(&request, None).await?;
    Ok(respond(&request, &decision, &service.answers))
}

fn respond(request: &Request, decision: &Decision, settings: &AnswerSettings) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let limit_headers = settings.limit_headers(decision);
    let limit_headers = limit_headers.as_ref().map_or(&[][..], |headers| headers);
    for &(name, value) in limit_headers {
        if let Ok(name) = name.parse::<HeaderName>() {
            headers.append(name, value.into());
        }
    }
    let status = if decision.over_limit { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
    if decision.over_limit {
        add_refusal_fields(&mut headers, decision);
    }
    (status, headers, write::encode(request, decision, settings, limit_headers)).into_response()
}

fn add_refusal_fields(headers: &mut HeaderMap, decision: &Decision) {
    let fields = RefusalFields::new(decision);
    if let Some(seconds) = fields.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    for (name, text) in [("ratelimit-policy", fields.policy), ("ratelimit", fields.limit)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}
