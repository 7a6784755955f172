//! Health checks, and pages for operators, over HTTP.
//!
//! | path           | port  | content                                                 |
//! |----------------|-------|---------------------------------------------------------|
//! | `/healthcheck` | main, probes | 200 `OK`, or 500                                 |
//! | `/ready`       | main, probes | 200, or 503 with the reasons                     |
//! | `/metrics`     | main  | statistics for Prometheus; also on a separate port with a configurable path |
//! | `/rlconfig`    | both  | the active rules, and the errors in newer ones          |
//! | `/stats`       | debug | statistics as text                                      |
//! | other paths    | debug | an index of the pages                                   |
//!
//! The size of `/metrics`, `/rlconfig` and `/stats` depends on the rules, so these
//! pages are sent in chunks.

use std::{iter, sync::Arc};

use arc_swap::ArcSwapOption;
use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    middleware::map_response_with_state,
    response::{IntoResponse, Response},
    routing::{any, get},
};

use crate::{
    health::Health, metrics::chunks::text_chunks, printable::printable_text, rules::RuleTree,
    service::Service, store::Store,
};

mod heads;
mod page_places;
mod pages;
mod rule_lines;
pub mod server;

use self::{
    pages::{PageBuilder, PageReaders},
    server::Arrived,
};

/// The state that the pages show.
#[derive(Debug)]
pub struct Pages<S> {
    service: Arc<Service<S>>,
    health: Arc<Health>,
    rejection: Arc<ArcSwapOption<String>>,
    builder: PageBuilder,
}

impl<S> Pages<S> {
    /// `rejection` holds the errors in the newest rules, if they were rejected.
    pub fn new(
        service: Arc<Service<S>>,
        health: Arc<Health>,
        rejection: Arc<ArcSwapOption<String>>,
    ) -> Arc<Self> {
        Arc::new(Self { service, health, rejection, builder: PageBuilder::default() })
    }
}

/// The routes of the main port, besides those of the protocols, one of which has the fallback.
pub fn main_router<S: Store>(pages: Arc<Pages<S>>) -> Router {
    let readers = Extension(PageReaders::new(&pages.builder));
    Router::new()
        .route("/metrics", get(metrics::<S>))
        .route("/rlconfig", get(rlconfig::<S>))
        .layer(readers)
        .with_state(Arc::clone(&pages))
        .merge(probes(pages))
}

/// The routes of the separate port for health checks.
pub fn probe_router<S: Store>(pages: Arc<Pages<S>>) -> Router {
    probes(pages).fallback(not_found)
}

fn probes<S: Store>(pages: Arc<Pages<S>>) -> Router {
    Router::new()
        .route("/healthcheck", any(healthcheck::<S>))
        .route("/ready", get(ready::<S>))
        .with_state(pages)
}

/// The routes of the separate port for Prometheus.
pub fn prometheus_router<S: Store>(pages: Arc<Pages<S>>, path: String) -> Router {
    let readers = Extension(PageReaders::new(&pages.builder));
    let page = async move |uri: Uri, pages: State<Arc<Pages<S>>>, arrived: Extension<Arrived>| {
        if uri.path() == path { metrics(pages, readers, arrived).await } else { not_found().await }
    };
    Router::new().fallback_service(get(page).with_state(pages))
}

/// The routes of the debug port.
pub fn debug_router<S: Store>(pages: Arc<Pages<S>>) -> Router {
    const INDEX: &str = "/rlconfig: print out the currently loaded configuration for debugging\n\
                         /stats: print out stats\n";
    Router::new()
        .route("/rlconfig", get(rlconfig::<S>))
        .route("/stats", get(stats::<S>))
        .fallback(async || INDEX)
        .layer(Extension(PageReaders::new(&pages.builder)))
        .with_state(pages)
}

/// Adds `Connection: close` to each answer while the process is shutting down, so that
/// clients with keep-alive leave before their connections are closed.
pub fn ask_to_leave_while_draining(router: Router, health: Arc<Health>) -> Router {
    router.layer(map_response_with_state(health, close_if_draining))
}

async fn close_if_draining(State(health): State<Arc<Health>>, mut response: Response) -> Response {
    if health.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer for a path that does not exist.
pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn healthcheck<S>(State(pages): State<Arc<Pages<S>>>) -> Response {
    if pages.health.state().is_healthy() {
        return "OK".into_response();
    }
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
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
    Extension(readers): Extension<PageReaders>,
    Extension(arrived): Extension<Arrived>,
) -> Response {
    let service = Arc::clone(&pages.service);
    let text = move || service.metrics.prometheus();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    readers.show(arrived.share, kind, iter::once_with(text).flatten())
}

async fn stats<S: Store>(
    State(pages): State<Arc<Pages<S>>>,
    Extension(readers): Extension<PageReaders>,
    Extension(arrived): Extension<Arrived>,
) -> Response {
    let service = Arc::clone(&pages.service);
    let text = move || service.metrics.rule_stats().chain([service.metrics.process_stats()]);
    readers.show(arrived.share, PLAIN, iter::once_with(text).flatten())
}

/// The content type of text pages.
const PLAIN: &str = "text/plain; charset=utf-8";

/// One line for each limit, in the format of the reference service, then lines with `#`:
/// the `http` of each domain, whether all limits are in shadow mode, and the errors in newer rules.
async fn rlconfig<S>(
    State(pages): State<Arc<Pages<S>>>,
    Extension(readers): Extension<PageReaders>,
    Extension(arrived): Extension<Arrived>,
) -> Response {
    let rules = pages.service.engine.rules.load_full();
    let rules = rule_lines(Arc::clone(&rules)).chain(http_lines(rules));
    let mode = pages.service.engine.mode.shadow.then(|| SHADOW_LINE.to_owned());
    let errors = pages.rejection.load_full().map(|errors| rejection_lines(&errors));
    readers.show(arrived.share, PLAIN, rules.chain(mode).chain(errors))
}

const SHADOW_LINE: &str = "# SHADOW_MODE is true: no request is refused\n";

fn rejection_lines(errors: &str) -> String {
    let mut text = "# newer rules were rejected:\n".to_owned();
    for line in errors.lines() {
        text += "# ";
        text += &printable_text(line);
        text.push('\n');
    }
    text
}

fn rule_lines(rules: Arc<RuleTree>) -> impl Iterator<Item = String> + Send {
    let mut next = 0;
    text_chunks(move |text| {
        let Some(rule) = rules.rules().get(next) else { return false };
        rule_lines::describe(rule, text);
        next += 1;
        true
    })
}

/// The lines of the `http` of all domains, in the order of their names.
fn http_lines(rules: Arc<RuleTree>) -> impl Iterator<Item = String> + Send {
    let mut names: Vec<_> = rules.domain_names().map(Arc::clone).collect();
    names.sort_unstable();
    let mut names = names.into_iter();
    text_chunks(move |text| {
        let Some(name) = names.next() else { return false };
        if let Ok((_, mapping)) = rules.mapping(name.as_bytes()) {
            rule_lines::describe_http(&name, mapping, text);
        }
        true
    })
}

/// A plain-text error response.
pub fn error_response(status: StatusCode, why: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let no_sniffing = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, no_sniffing, format!("{reason}: {why}\n")).into_response()
}
