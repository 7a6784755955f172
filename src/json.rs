//! Envoy's rate-limit service as JSON over HTTP: `/json`, by any method.
//!
//! The bodies follow protobuf's JSON mapping of `RateLimitRequest` and
//! `RateLimitResponse`. 200 and 429 carry a decision, 400, 408 and 413 are errors of
//! the request, 503 is an error of the counters.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, HttpBody},
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::time::Instant;

use crate::{
    answer::{AnswerSettings, fields::LimitFields},
    budget::{self, CALL_BYTES, Held, ReadError, ReadLimits, Reader, Share},
    descriptor::Request,
    engine::{DecideError, decision::Decision},
    http::{
        error_response,
        server::{Arrived, REQUEST_TIMEOUT},
    },
    metrics::CountedMethod,
    service::{RequestError, Service},
    spans::{HttpRoute, ServerSpan},
    store::Store,
};

mod number;
mod read;
mod write;

pub use self::read::decode;

/// The time for a body to arrive. [`REQUEST_TIMEOUT`] ends with a byte that is written, such as
/// those of `100 Continue`, and does not start again until the next byte arrives.
const BODY_TIMEOUT: Duration = REQUEST_TIMEOUT.saturating_sub(Duration::from_secs(5));

/// The routes of this protocol, for bodies of at most `max_bytes`.
pub fn routes<S: Store>(service: Arc<Service<S>>, max_bytes: usize) -> Router {
    Router::new()
        .route("/json", any(decide::<S>))
        .layer(Extension(MaxBytes(max_bytes)))
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
        Ok(Self(spans.start_http_call(HttpRoute::Json, &parts.method, &parts.headers)))
    }
}

/// The longest body of a request.
#[derive(Clone, Copy)]
struct MaxBytes(usize);

async fn decide<S: Store>(
    State(service): State<Arc<Service<S>>>,
    CallSpan(span): CallSpan,
    Extension(max): Extension<MaxBytes>,
    Extension(arrived): Extension<Arrived>,
    body: Body,
) -> Response {
    let response = pin!(try_decide(&service, body, max, &arrived.share));
    let Some(span) = span else { return response.await };
    let response = span.instrument(response).await;
    span.end_http(response.status().as_u16());
    response
}

async fn read_body(
    body: Body,
    max: MaxBytes,
    share: &Arc<Share>,
) -> Result<budget::Body, ReadError> {
    if body.size_hint().lower() > max.0 as u64 {
        return Err(ReadError::TooLong);
    }
    let limits = ReadLimits { longest: max.0, patience: BODY_TIMEOUT };
    let held = share.hold(CALL_BYTES, false)?;
    // hyper reads a body once it is asked for it.
    Reader::of_lazy(body.into_data_stream(), limits, held).read().await
}

fn body_error(error: &ReadError, MaxBytes(max): MaxBytes) -> Response {
    let status = match error {
        ReadError::TooLong => {
            let why = format!("expected a body of at most {max} bytes (JSON_MAX_BYTES)");
            return error_response(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        ReadError::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
        ReadError::Late => StatusCode::REQUEST_TIMEOUT,
        ReadError::Cancelled => StatusCode::BAD_REQUEST,
    };
    error_response(status, &error.to_string())
}

async fn try_decide<S: Store>(
    service: &Service<S>,
    body: Body,
    max: MaxBytes,
    share: &Arc<Share>,
) -> Response {
    let started = Instant::now();
    let budget::Body { bytes, mut held } = match read_body(body, max, share).await {
        Ok(body) => body,
        Err(error) => {
            // Otherwise the client has left, or is not to blame.
            if error == ReadError::TooLong {
                service.reject_unread(&error);
            }
            return body_error(&error, max);
        }
    };
    let message = match read::parse(&bytes) {
        Ok(message) => message,
        Err(error) => {
            service.reject_unread(&error);
            return error_response(StatusCode::BAD_REQUEST, &error);
        }
    };
    drop(bytes);
    if let Err(error) = held.grow(message.decoded_bytes()) {
        return body_error(&error.into(), max);
    }
    let result = answer(service, message, held).await;
    service.metrics.count_call(CountedMethod::Json, started.elapsed());
    match result {
        Ok(response) => response,
        Err(RequestError::Invalid(invalid)) => {
            error_response(StatusCode::BAD_REQUEST, &invalid.to_string())
        }
        Err(RequestError::Undecided(undecided)) => {
            let why = match undecided {
                DecideError::NoRules => undecided.to_string(),
                // The error has addresses of servers, and the answer may reach end users.
                DecideError::Store(_) => {
                    "the counter store did not decide; the log has the reason".to_owned()
                }
            };
            error_response(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}

async fn answer<S: Store>(
    service: &Service<S>,
    message: read::RequestJson,
    held: Held,
) -> Result<Response, RequestError> {
    let request = message.request().map_err(|invalid| service.reject(invalid))?;
    let decision = service.decide(&request, None).await?;
    Ok(respond(&request, &decision, &service.answers, held))
}

fn respond(
    request: &Request,
    decision: &Decision,
    settings: &AnswerSettings,
    held: Held,
) -> Response {
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
        LimitFields::new(decision).insert_into(&mut headers);
    }
    let text = write::encode(request, decision, settings, limit_headers);
    match held.attach(text) {
        Ok(text) => (status, headers, text).into_response(),
        Err(error) => error_response(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}
