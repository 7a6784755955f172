//! The HTTP check: `/check/{dialect}/{domain}`, by any method, with which proxies ask before
//! they serve a request.
//!
//! The status is the decision: 200, or 429 (403 for nginx). 400 and 404 are mistakes in the
//! setup, 503 means that nothing was decided. Only the path decides which rules apply. It is
//! read as it was sent, and so is the request that the proxy describes; the body and, except
//! by Envoy, the query are not read at all.

use std::{pin::pin, str, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::request::Parts,
    response::Response,
};
use tokio::time::Instant;

use crate::{
    budget::{CALL_BYTES, NoRoom},
    descriptor,
    engine::{DecideError, decision::Decision},
    http::{not_found, server::Arrived},
    mapping::{COPIES, Mapped},
    metrics::{CheckFault, CheckResult, CountedMethod, ErrorType},
    rules::{NoMapping, RuleTree},
    service::{RequestError, Service},
    spans::HttpRoute,
    store::Store,
    warnings::ClientWarnings,
};

mod answer;
mod dialect;
mod mistake;
mod target;

use self::{
    dialect::CheckHeaders,
    mistake::{LoggedMistake, Mistake},
    target::{Target, written_part},
};

/// This protocol as the fallback of all routes, which also answers for paths that do not exist.
/// A route with the rest of the path as a parameter would copy and decode it.
pub fn routes<S: Store>(service: Arc<Service<S>>) -> Router {
    let mistakes =
        ClientWarnings::new("an HTTP check cannot be decided", "HTTP checks could not be decided");
    let checks = Arc::new(Checks { service, mistakes });
    Router::new().fallback(check::<S>).with_state(checks)
}

struct Checks<S> {
    service: Arc<Service<S>>,
    /// Logs mistakes, at a bounded rate for each proxy and reason.
    mistakes: ClientWarnings,
}

/// Why a check is not decided.
enum Undecided {
    Mistake(Mistake),
    /// The reason, which has been counted.
    Error(&'static str),
}

impl From<Mistake> for Undecided {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

async fn check<S: Store>(
    State(checks): State<Arc<Checks<S>>>,
    Extension(arrived): Extension<Arrived>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    if path != "/check" && !path.starts_with("/check/") {
        return not_found().await;
    }
    // The body is dropped unread: the proxy may have announced one that never comes.
    let (parts, _) = request.into_parts();
    let spans = checks.service.spans.as_ref();
    let span =
        spans.and_then(|it| it.start_http_call(HttpRoute::Check, &parts.method, &parts.headers));
    let response = pin!(checks.answer(&parts, &arrived));
    let Some(span) = span else { return response.await };
    let response = span.instrument(response).await;
    span.end_http(response.status().as_u16());
    response
}

impl<S: Store> Checks<S> {
    async fn answer(&self, parts: &Parts, arrived: &Arrived) -> Response {
        let started = Instant::now();
        let target = match Target::parse(parts.uri.path()) {
            Ok(target) => target,
            Err(mistake) => return self.report(&mistake, parts, arrived),
        };
        let decided = self.decide(&target, parts, arrived).await;
        let metrics = &self.service.metrics;
        metrics.count_call(CountedMethod::Check, started.elapsed());
        let (result, response) = match decided {
            Ok(None) => (CheckResult::Allowed, answer::pass()),
            Ok(Some(decision)) => {
                let result =
                    if decision.over_limit { CheckResult::Refused } else { CheckResult::Allowed };
                (result, answer::decided(&decision, target.dialect))
            }
            Err(Undecided::Error(why)) => (CheckResult::Error, answer::undecided(why)),
            Err(Undecided::Mistake(mistake)) => {
                let response = self.report(&mistake, parts, arrived);
                if mistake.fault == CheckFault::UnknownDomain {
                    return response;
                }
                (CheckResult::Misconfigured, response)
            }
        };
        // The name of a domain is UTF-8, so any other is unknown and not counted.
        if let Ok(domain) = str::from_utf8(&target.domain) {
            metrics.count_check(target.dialect.counted(), domain, result);
        }
        response
    }

    /// Returns `None` if the rules limit nothing in the request.
    async fn decide(
        &self,
        target: &Target<'_>,
        parts: &Parts,
        arrived: &Arrived,
    ) -> Result<Option<Decision>, Undecided> {
        let bytes = CALL_BYTES + COPIES * arrived.head_bytes;
        let _held = arrived.share.hold(bytes, false)?;
        // The rules of the mapping decide, also if they are replaced in between.
        let rules = self.service.engine.rules.load();
        let Some(request) = self.map(&rules, target, parts)? else { return Ok(None) };
        match self.service.decide_by(rules, &request, None).await {
            Ok(decision) => Ok(Some(decision)),
            Err(RequestError::Invalid(_)) => {
                let text =
                    "`http` in the rules makes an invalid request of it; the log has the reason";
                Err(Mistake::new(CheckFault::InvalidRequest, text).into())
            }
            Err(RequestError::Undecided(DecideError::NoRules)) => Err(NO_RULES),
            Err(RequestError::Undecided(DecideError::Store(_))) => {
                Err(Undecided::Error("the counters cannot be reached"))
            }
        }
    }

    /// Maps the request by the rules of the domain. Returns `None` if they limit nothing in it.
    fn map(
        &self,
        rules: &RuleTree,
        target: &Target<'_>,
        parts: &Parts,
    ) -> Result<Option<descriptor::Request>, Undecided> {
        let (_, mapping) = rules.mapping(&target.domain).map_err(|none| match none {
            NoMapping::NoRules => {
                self.service.metrics.count_error(ErrorType::Service);
                NO_RULES
            }
            NoMapping::UnknownDomain => {
                let text = "no rules are loaded for the domain";
                Mistake::new(CheckFault::UnknownDomain, text).into()
            }
            NoMapping::NoHttp => {
                let text = "the rules of the domain have no `http`";
                Mistake::new(CheckFault::NoHttp, text).into()
            }
        })?;
        let headers = CheckHeaders(&parts.headers);
        let described = target.dialect.read(parts, target.rest, &headers)?;
        let mapped = mapping.map(&described).map_err(|error| {
            let missing = target.dialect.missing_header(&error);
            Mistake::unmapped(error, missing)
        });
        match mapped? {
            Mapped::Request(request) => Ok(Some(request)),
            Mapped::NoDescriptors | Mapped::Skipped => Ok(None),
        }
    }

    /// Counts, logs and answers a mistake.
    fn report(&self, mistake: &Mistake, parts: &Parts, arrived: &Arrived) -> Response {
        // The service has counted an invalid request.
        if mistake.fault != CheckFault::InvalidRequest {
            self.service.metrics.count_error(ErrorType::Service);
        }
        self.service.metrics.count_misconfigured_check(mistake.fault);
        let path = written_part(parts.uri.path());
        let logged = LoggedMistake { path, mistake };
        self.mistakes.warn_of(arrived.share.address(), mistake.fault.label(), &logged);
        answer::mistake(mistake)
    }
}

const NO_RULES: Undecided = Undecided::Error("no rules are loaded");

impl From<NoRoom> for Undecided {
    fn from(_: NoRoom) -> Self {
        Self::Error("the memory for calls in flight is used up (MAX_BYTES_IN_FLIGHT)")
    }
}
