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

use std::{fmt::Write, iter, sync::Arc};

use arc_swap::ArcSwapOption;
use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, Uri, Version, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};

use crate::{
    config,
    health::Health,
    limit::{Limit, Window},
    metrics::chunks::text_chunks,
    rules::{Rule, RuleTree},
    service::Service,
    store::Store,
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
        .route("/healthcheck", any(healthcheck::<S>))
        .route("/ready", get(ready::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/rlconfig", get(rlconfig::<S>))
        .fallback(not_found)
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

/// A plain-text error response.
pub fn error_response(status: StatusCode, why: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let no_sniffing = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, no_sniffing, format!("{reason}: {why}\n")).into_response()
}
