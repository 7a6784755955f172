//! Admits requests to the admin API, and sets the headers of all answers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request::Parts, uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    problem::Problem,
    tokens::{Actor, Tokens},
    ui,
};
use crate::{
    counter::{CounterRef, KeyFormat, KeyPart},
    http::server::Arrived,
    limit::{Hits, Limit, Unit, Window, ceil_seconds},
    metrics::{AdminDenial, Metrics},
    net::{HostPort, Peer},
    store::{
        Charge, Consume, Counters, Enforced, OnTimeout, Store,
        memory::{Bounds, Memory},
    },
    time::Clock,
    warnings::WarningLimiter,
};

/// The failed logins of one address in a minute, after which it is refused.
const MOST_FAILURES: u32 = 10;

/// The most memory for failed logins. The addresses that are idle for longest lose theirs.
const FAILURE_BYTES: usize = 1 << 20;

/// The headers of every answer. The policy allows the pages of this listener nothing but files
/// and answers of this listener.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Decides which requests are admitted.
#[derive(Debug)]
pub struct Gate {
    tokens: Tokens,
    /// Names by which clients may call the listener, besides addresses and `localhost`.
    names: Vec<String>,
    failures: Memory,
    limit: Limit,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    warnings: WarningLimiter,
}

/// A request that is not admitted.
struct Denial {
    reason: AdminDenial,
    problem: Problem,
}

impl Gate {
    /// Admits those who have one of `tokens`, and name the listener by an address, by
    /// `localhost`, by the host in `address` or by one of `names`.
    pub fn new(
        tokens: Tokens,
        address: &HostPort,
        names: Vec<String>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let mut names = names;
        names.push(address.host.clone());
        names.push("localhost".to_owned());
        Arc::new(Self {
            tokens,
            names,
            failures: Memory::with_bounds(Bounds { bytes: FAILURE_BYTES, keys: None }),
            limit: Limit::fixed(MOST_FAILURES, Window::new(Unit::Minute)),
            clock,
            metrics,
            warnings: WarningLimiter::new(
                "a request to the admin API was refused",
                "requests to the admin API were refused",
            ),
        })
    }

    async fn admit(&self, request: &Parts) -> Result<Actor, Denial> {
        self.check_host(&request.uri, &request.headers)?;
        check_site(request.uri.path(), &request.headers)?;
        if is_open(request.uri.path()) {
            return Ok(Actor::default());
        }
        let token = bearer(&request.headers)?;
        self.login(token, peer(request)).await
    }

    /// Refuses names that an attacker could let point to this listener (DNS rebinding).
    /// Addresses are not such names.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denial> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let authority = host.and_then(|host| host.parse::<Authority>().ok());
        let is_known = |authority: &Authority| self.is_known(authority);
        let is_single = hosts.next().is_none();
        if is_single
            && authority.as_ref().is_some_and(is_known)
            && uri.authority().is_none_or(is_known)
        {
            return Ok(());
        }
        let detail = "expected an address, localhost or a name in ADMIN_NAMES as the host";
        let status = StatusCode::MISDIRECTED_REQUEST;
        let problem = Problem::new(status, "/problems/wrong-host", detail);
        Err(Denial { reason: AdminDenial::Host, problem })
    }

    fn is_known(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let has_user = authority.as_str().contains('@');
        let is_name = || self.names.iter().any(|name| name.eq_ignore_ascii_case(host));
        !has_user && (host.parse::<IpAddr>().is_ok() || is_name())
    }

    /// An address with too many failures is refused whatever it sends: otherwise it could go
    /// on to guess.
    async fn login(&self, token: &[u8], peer: Peer) -> Result<Actor, Denial> {
        let now = self.clock.now();
        let name = peer.to_string();
        let part = KeyPart { key: b"address", value: name.as_bytes(), shared: false };
        let parts = [part].into_iter();
        let counter = KeyFormat::default().counter(b"admin", parts, &self.limit, now);
        // Counters in memory always answer.
        if let Ok(failures) = self.failures.peek(&counter, &self.limit, now).await
            && failures.remaining == 0
        {
            return Err(too_many(failures.reset_after));
        }
        if let Some(actor) = self.tokens.find(token) {
            return Ok(actor);
        }
        let charge = failure(counter, &self.limit);
        self.failures.charge(&[charge], now, None).await;
        let problem = unauthorized("the token is not known");
        Err(Denial { reason: AdminDenial::WrongToken, problem })
    }

    fn refuse(&self, Denial { reason, problem }: Denial, request: &Parts) -> Response {
        self.metrics.count_admin_denial(reason);
        self.warnings.warn(&format_args!("{}: {}", peer(request), problem.detail));
        problem.into_response()
    }
}

fn failure(counter: CounterRef, limit: &Limit) -> Charge {
    Charge {
        counter,
        limit: limit.clone(),
        hits: Hits::Add(1),
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn too_many(wait: Duration) -> Denial {
    let detail = format!("this address failed to log in {MOST_FAILURES} times in a minute");
    let problem =
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "/problems/too-many-failures", detail);
    let problem = Problem { retry_after: Some(ceil_seconds(wait)), ..problem };
    Denial { reason: AdminDenial::TooManyFailures, problem }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "/problems/unauthorized", detail)
}

/// Whether a path needs no token: nothing there is secret.
fn is_open(path: &str) -> bool {
    path == "/openapi.json" || ui::is_file(path)
}

/// Refuses requests that a page of another site causes, but for the dashboard itself when somebody
/// follows a link to it.
fn check_site(path: &str, headers: &HeaderMap) -> Result<(), Denial> {
    let is_own = |site: &HeaderValue| site == "same-origin" || site == "none";
    if headers.get_all("sec-fetch-site").iter().all(is_own) || path == "/" && is_click(headers) {
        return Ok(());
    }
    let detail = "a page of another site may not use this API";
    let problem = Problem::new(StatusCode::FORBIDDEN, "/problems/cross-site", detail);
    Err(Denial { reason: AdminDenial::CrossSite, problem })
}

/// Whether a person opens a page in a window of its own. A script could open it again and again,
/// with wrong tokens, until this address is refused.
fn is_click(headers: &HeaderMap) -> bool {
    [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-user", "?1")]
        .iter()
        .all(|(name, value)| headers.get(*name).is_some_and(|found| found == value))
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Denial> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.as_bytes(),
        _ => &[],
    };
    if let Some((scheme, token)) = value.split_at_checked("bearer ".len())
        && scheme.eq_ignore_ascii_case(b"bearer ")
        && !token.is_empty()
    {
        return Ok(token);
    }
    let problem = unauthorized("expected a token, as `Authorization: Bearer TOKEN`");
    Err(Denial { reason: AdminDenial::NoToken, problem })
}

fn peer(request: &Parts) -> Peer {
    let arrived = request.extensions.get::<Arrived>();
    arrived.map_or(Peer::Local, |arrived| arrived.share.peer())
}

/// The layer of all operations.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match gate.admit(&parts).await {
        Ok(actor) => {
            parts.extensions.insert(actor);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(denial) => gate.refuse(denial, &parts),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
