//! What is served over plain HTTP.
//!
//! | path           | port  | what                                                    |
//! |----------------|-------|---------------------------------------------------------|
//! | `/json`        | main  | one decision, by any method: 200 or 429; 400 and 413 are the caller's mistake, 503 is the store's |
//! | `/healthcheck` | main  | 200 `OK`, or 500                                        |
//! | `/ready`       | main  | 200, or 503 with the reasons                            |
//! | `/metrics`     | main  | statistics for Prometheus; also on a port of its own, under a path to choose |
//! | `/rlconfig`    | both  | the rules in force, and why newer ones were refused     |
//! | `/stats`       | debug | statistics, for people                                  |
//! | all others     | debug | what there is                                           |
//!
//! `/metrics`, `/rlconfig` and `/stats` grow with the rules, and are written in pieces.

use std::{convert::Infallible, fmt::Write, iter, sync::Arc, time::Instant};

use arc_swap::ArcSwapOption;
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{any, get},
};

use crate::{
    config,
    engine::decision::{Decision, Standing},
    health::Health,
    limit::{Limit, Window, ceil_seconds},
    metrics::chunks::text_chunks,
    rules::{Rule, RuleTree},
    spans::ServerSpan,
    store::Store,
    wire::{
        Answer, LARGEST_MESSAGE, Refusal, Service, json,
        pb::envoy::service::ratelimit::v3::rate_limit_response::Code,
    },
};

mod pages;

use self::pages::{Press, Readers};

/// What the pages show.
#[derive(Debug)]
pub struct Pages<S> {
    service: Arc<Service<S>>,
    health: Arc<Health>,
    rejection: Arc<ArcSwapOption<String>>,
    press: Press,
}

impl<S> Pages<S> {
    /// `service` decides and counts, `health` is whether the process should be sent
    /// requests, `rejection` why the rule files are not in force as they are now.
    pub fn new(
        service: Arc<Service<S>>,
        health: Arc<Health>,
        rejection: Arc<ArcSwapOption<String>>,
    ) -> Arc<Self> {
        Arc::new(Self { service, health, rejection, press: Press::default() })
    }
}

/// The main port.
pub fn main_router<S: Store>(pages: Arc<Pages<S>>) -> Router {
    Router::new()
        .route("/json", any(decide::<S>))
        .route("/healthcheck", any(healthcheck::<S>))
        .route("/ready", get(ready::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/rlconfig", get(rlconfig::<S>))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(LARGEST_MESSAGE))
        .layer(Extension(Readers::new(&pages.press)))
        .with_state(pages)
}

/// A port for Prometheus alone, which asks under `path`.
pub fn prometheus_router<S: Store>(pages: Arc<Pages<S>>, path: String) -> Router {
    let readers = Extension(Readers::new(&pages.press));
    let page = async move |uri: Uri, version, pages: State<Arc<Pages<S>>>| match uri.path() == path
    {
        true => metrics(pages, readers, version).await,
        false => not_found().await,
    };
    Router::new().fallback_service(get(page).with_state(pages))
}

/// The debug port.
pub fn debug_router<S: Store>(pages: Arc<Pages<S>>) -> Router {
    const INDEX: &str = "/rlconfig: print out the currently loaded configuration for debugging\n\
                         /stats: print out stats\n";
    Router::new()
        .route("/rlconfig", get(rlconfig::<S>))
        .route("/stats", get(stats::<S>))
        .fallback(async || INDEX)
        .layer(Extension(Readers::new(&pages.press)))
        .with_state(pages)
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn healthcheck<S>(State(pages): State<Arc<Pages<S>>>) -> Response {
    match pages.health.state().is_healthy() {
        true => "OK".into_response(),
        false => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready<S>(State(pages): State<Arc<Pages<S>>>) -> Response {
    let problems = pages.health.state().problems();
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response()
}

async fn metrics<S: Store>(
    State(pages): State<Arc<Pages<S>>>,
    Extension(readers): Extension<Readers>,
    version: Version,
) -> Response {
    let service = Arc::clone(&pages.service);
    let text = move || service.metrics.prometheus();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    readers.show(version, kind, iter::once_with(text).flatten())
}

async fn stats<S: Store>(
    State(pages): State<Arc<Pages<S>>>,
    Extension(readers): Extension<Readers>,
    version: Version,
) -> Response {
    let service = Arc::clone(&pages.service);
    let text = move || service.metrics.rule_stats().chain([service.metrics.process_stats()]);
    readers.show(version, PLAIN, iter::once_with(text).flatten())
}

/// What pages for people are.
const PLAIN: &str = "text/plain; charset=utf-8";

/// One line per rule, as Envoy's reference service writes them. Behind `#`,
/// why the files are not in force as they are now.
async fn rlconfig<S>(
    State(pages): State<Arc<Pages<S>>>,
    Extension(readers): Extension<Readers>,
    version: Version,
) -> Response {
    let rejection = pages.rejection.load_full().into_iter().map(|it| refusal(&it));
    let rules = describe(pages.service.engine.rules.load_full());
    readers.show(version, PLAIN, rules.chain(rejection))
}

fn refusal(reasons: &str) -> String {
    reasons.lines().fold("# newer rules were refused:\n".to_owned(), |mut text, line| {
        let _ = writeln!(text, "# {line}");
        text
    })
}

fn describe(rules: Arc<RuleTree>) -> impl Iterator<Item = String> + Send {
    let mut next = 0;
    text_chunks(move |text| {
        let Some(rule) = rules.rules().get(next) else { return false };
        describe_rule(rule, text);
        next += 1;
        true
    })
}

/// A line for each limit.
fn describe_rule(rule: &Rule, text: &mut String) {
    let name: String = rule.stat_name().to_string().chars().map(config::printable).collect();
    let mut line = |unit: &str, requests, more: &str| {
        let (shadow, quota) = (rule.spec.shadow_mode, rule.spec.quota_mode);
        let _ = writeln!(
            text,
            "{name}: unit={unit} requests_per_unit={requests}, shadow_mode: {shadow}, \
             quota_mode: {quota}{more}"
        );
    };
    if rule.is_unlimited() {
        return line("UNKNOWN", 0, "");
    }
    for limit in rule.spec.limits.iter().map(|it| &it.limit) {
        let unit = limit.window.unit();
        // What the reference service has no words for.
        let plain = *limit == Limit::fixed(limit.requests, Window::new(unit));
        let more = if plain { String::new() } else { format!(", limit: {limit}") };
        line(&unit.name().to_ascii_uppercase(), limit.requests, &more);
    }
}

/// The call, if it is recorded.
struct Recorded(Option<ServerSpan>);

impl<S: Store> FromRequestParts<Arc<Pages<S>>> for Recorded {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        pages: &Arc<Pages<S>>,
    ) -> Result<Self, Infallible> {
        let spans = pages.service.spans.as_ref();
        Ok(Self(spans.and_then(|it| it.start_http_call(&parts.method, &parts.headers))))
    }
}

async fn decide<S: Store>(
    State(pages): State<Arc<Pages<S>>>,
    Recorded(call): Recorded,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let response = try_decide(&pages, body);
    let Some(call) = call else { return response.await };
    let response = call.instrument(response).await;
    call.end_http(response.status().as_u16());
    response
}

async fn try_decide<S: Store>(pages: &Pages<S>, body: Result<Bytes, BytesRejection>) -> Response {
    let started = Instant::now();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), &rejection.body_text()),
    };
    let request = match json::decode(&body) {
        Ok(request) => request,
        Err(error) => {
            pages.service.invalid.failed(&error);
            return refuse(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let result = pages.service.answer(request, None).await;
    pages.service.metrics.count_call("json", started.elapsed());
    match result {
        Ok(it) => answer(&it),
        Err(Refusal::Invalid(invalid)) => refuse(StatusCode::BAD_REQUEST, &invalid.to_string()),
        Err(refusal @ (Refusal::NoRules | Refusal::Store(_))) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string())
        }
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let no_sniffing = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, no_sniffing, format!("{reason}: {why}\n")).into_response()
}

fn answer(Answer { message: response, decision }: &Answer) -> Response {
    let status = match response.overall_code() {
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Ok => StatusCode::OK,
        Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for added in &response.response_headers_to_add {
        if let (Ok(name), Ok(value)) = (added.key.parse::<HeaderName>(), added.value.parse()) {
            headers.append(name, value);
        }
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        add_limits(&mut headers, decision);
    }
    (status, headers, json::encode(response)).into_response()
}

/// The most limits that an answer lists in its headers: clients and proxies take no
/// more than a few thousand bytes of them.
const MOST_LISTED: usize = 20;

/// `Retry-After` (RFC 9110), unless the request never passes; and
/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): the
/// first limits that refuse, and how they stand. Limits are named by their
/// position where the rules give no name that the syntax allows.
fn add_limits(headers: &mut HeaderMap, decision: &Decision) {
    let mut policies = Vec::new();
    let mut standings = Vec::new();
    for (position, verdict) in decision.refusing().take(MOST_LISTED) {
        let Some(Standing { limit, name, outcome, wait }) = verdict.standing() else { continue };
        let plain = |it: u8| matches!(it, b' '..=b'~') && it != b'"' && it != b'\\';
        let name = match &**name {
            name if !name.is_empty() && name.bytes().all(plain) => name.to_owned(),
            _ => format!("limit-{}", position + 1),
        };
        let window = if limit.has_slots() { 0 } else { limit.window.seconds() };
        policies.push(format!("\"{name}\";q={};w={window}", limit.requests));
        // What never passes has no moment to come back.
        let reset = wait.map_or(0, ceil_seconds);
        standings.push(format!("\"{name}\";r={};t={reset}", outcome.remaining));
    }
    let texts = [
        ("retry-after", decision.wait.map(|it| ceil_seconds(it).to_string())),
        ("ratelimit-policy", Some(policies.join(", "))),
        ("ratelimit", Some(standings.join(", "))),
    ];
    for (name, text) in texts {
        if let Some(text) = text
            && let Ok(value) = HeaderValue::from_str(&text)
        {
            headers.insert(name, value);
        }
    }
}
