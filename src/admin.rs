//! The admin API: who is limited now, by which rule, and why. Its listener is closed to all who
//! have no token.
//!
//! | module      | does                                                               |
//! |-------------|--------------------------------------------------------------------|
//! | `tokens`    | reads tokens, and finds the one that a request has                 |
//! | `gate`      | admits requests: host, origin, failed logins, token                |
//! | `problem`   | errors as `application/problem+json`                               |
//! | `query`     | parameters of a request                                            |
//! | `exchange`  | reads bodies and writes answers within the budget                  |
//! | `state`     | what the operations read                                           |
//! | `shapes`    | parts of several answers                                           |
//! | `ui`        | serves the dashboard, which uses the operations                    |
//! | others      | one operation each                                                 |
//!
//! An operation is bounded in time. Only those on counters change what decisions count.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{Router, middleware};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::net::HostPort;

mod counters;
mod exchange;
mod explain;
mod gate;
mod history;
mod problem;
mod query;
mod refusals;
mod rules;
mod shapes;
mod simulate;
mod state;
mod status;
pub mod tokens;
mod top;
mod ui;

pub use self::{
    gate::Gate,
    state::{Admin, Decider},
};

/// The address of the admin API, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Host and port to listen on.
    pub address: HostPort,
    /// Further names of the listener, which clients may use.
    pub names: Vec<String>,
    /// The file with all tokens. If there is none, a token is made at the start.
    pub tokens_file: Option<PathBuf>,
    /// The file to which the token of the start is written.
    pub token_file: Option<PathBuf>,
    /// Whether the token of the start is shown on a terminal.
    pub shows_token: bool,
}

impl AdminSettings {
    /// Whether anybody can have a token. If not, the listener stays closed.
    pub fn is_open(&self) -> bool {
        self.is_wanted() || self.shows_token
    }

    /// Whether the listener is for this host alone.
    pub fn is_loopback(&self) -> bool {
        let host = &self.address.host;
        match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether a setting asks for the API.
    pub fn is_wanted(&self) -> bool {
        self.tokens_file.is_some() || self.token_file.is_some()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "tollgate admin API",
        description = "Who is limited now, by which rule, and why. All times are RFC 3339 in UTC."
    ),
    components(schemas(problem::Problem, problem::Mistake)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of ADMIN_TOKENS_FILE, or the one made at the start."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

fn operations() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::status))
        .routes(routes!(rules::rules))
        .routes(routes!(top::top))
        .routes(routes!(refusals::refusals))
        .routes(routes!(history::history))
        .routes(routes!(explain::explain))
        .routes(routes!(simulate::simulate))
        .routes(routes!(counters::look))
        .routes(routes!(counters::reset))
        .routes(routes!(counters::set))
        .routes(routes!(document))
}

/// The OpenAPI document of the API, as JSON.
pub fn openapi() -> String {
    let document = operations().into_openapi();
    // Text and numbers alone, which JSON can hold.
    document.to_pretty_json().unwrap_or_default()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    security(()),
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json"))
)]
async fn document(exchange: exchange::Exchange) -> axum::response::Response {
    exchange.send_text(openapi())
}

/// The routes of the API and of the dashboard, behind the gate.
pub fn routes(admin: Arc<Admin>, gate: Arc<Gate>) -> Router {
    let (router, _) = operations().split_for_parts();
    router
        .merge(ui::routes())
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::not_found)
        .with_state(admin)
        .layer(middleware::from_fn_with_state(gate, gate::guard))
}
