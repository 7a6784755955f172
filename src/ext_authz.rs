//! Envoy's external authorization over gRPC: `envoy.service.auth.v3.Authorization`. Its
//! protobuf stays in this module.
//!
//! Every answer that is not a decision to let the request pass is a refusal, also if the proxy,
//! the rules or the request are wrong: Envoy with `failure_mode_allow` lets pass whatever is
//! answered with an error. Only if the service cannot decide at present, the answer is one.

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use tonic::{Request as Call, Response as Reply, Status};

use crate::{
    engine::{DecideError, LoadedRules},
    grpc::{
        method::{Kind, Method},
        observed::ObservedCall,
        routes::Services,
        unread::RecordUnread,
    },
    mapping::{Mapped, MappingError},
    metrics::{CheckResult, CheckedBy, CountedMethod, ErrorType},
    rules::NoMapping,
    service::{LARGEST_MESSAGE, RequestError, Service},
    spans::GrpcMethod,
    store::Store,
    warnings::ClientWarnings,
};

mod refusal;
pub mod request;
mod response;
pub mod size;

use self::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse,
    authorization_server::{Authorization, AuthorizationServer},
};
pub use self::refusal::Mistake;

/// The messages, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/ext_authz/proto.rs"));
}

/// The services of this module for the gRPC listener. `default_domain` is the domain of checks
/// that name none.
pub fn services<S: Store>(service: Arc<Service<S>>, default_domain: Option<String>) -> Services {
    let mistakes = ClientWarnings::new(
        "a check of Envoy's ext_authz filter was refused, because the proxy or the rules are set \
         up wrongly",
        "checks of Envoy's ext_authz filter were refused, because the proxy or the rules are set \
         up wrongly",
    );
    let checks = ExtAuthz { service: Arc::clone(&service), default_domain, mistakes };
    let server = AuthorizationServer::new(checks).max_decoding_message_size(LARGEST_MESSAGE);
    let server = RecordUnread { server, service, answer: refusal::of_unread };
    let check = Method { name: "Check", kind: Kind::Unary(size::decoded_bytes) };
    Services::default().add(server, &[check])
}

/// Serves `envoy.service.auth.v3.Authorization`.
#[derive(Debug)]
struct ExtAuthz<S> {
    service: Arc<Service<S>>,
    default_domain: Option<String>,
    /// Logs mistakes, at a bounded rate for each proxy and reason.
    mistakes: ClientWarnings,
}

#[tonic::async_trait]
impl<S: Store> Authorization for ExtAuthz<S> {
    async fn check(&self, call: Call<CheckRequest>) -> Result<Reply<CheckResponse>, Status> {
        let (counted, traced) = (CountedMethod::ExtAuthz, GrpcMethod::Check);
        let headers = call.metadata().as_ref();
        let mut observed =
            ObservedCall::start(&self.service, counted, traced, headers, call.remote_addr());
        let proxy = call.remote_addr().map(|address| address.ip());
        let answer = pin!(self.answer(call.into_inner(), proxy, observed.timeout));
        Ok(Reply::new(observed.answer(answer).await?))
    }
}

impl<S: Store> ExtAuthz<S> {
    async fn answer(
        &self,
        message: CheckRequest,
        proxy: Option<IpAddr>,
        timeout: Option<Duration>,
    ) -> Result<CheckResponse, RequestError> {
        let question = match self.map(&message) {
            Ok(question) => question,
            Err(Unmapped::Mistake(mistake)) => return Ok(self.refuse(proxy, &mistake)),
            Err(Unmapped::NoRules) => {
                self.service.metrics.count_error(ErrorType::Service);
                self.count(self.domain(&message), CheckResult::Error);
                return Err(DecideError::NoRules.into());
            }
        };
        drop(message);
        let Question { rules, domain, mapped } = question;
        let request = match mapped {
            Ok(Mapped::Request(request)) => request,
            Ok(Mapped::NoDescriptors | Mapped::Skipped) => {
                self.count(&domain, CheckResult::Allowed);
                return Ok(response::unlimited());
            }
            Err(error) => {
                self.count(&domain, CheckResult::Misconfigured);
                return Ok(self.refuse(proxy, &error.into()));
            }
        };
        // The rules of the mapping decide, also if they are replaced in between.
        let decided = self.service.decide_by(rules, &request, timeout).await;
        let result = match &decided {
            Ok(decision) if decision.over_limit => CheckResult::Refused,
            Ok(_) => CheckResult::Allowed,
            Err(RequestError::Invalid(_)) => CheckResult::Misconfigured,
            Err(RequestError::Undecided(_)) => CheckResult::Error,
        };
        self.count(&domain, result);
        match decided {
            Ok(decision) => Ok(response::of_decision(&request, &decision, &self.service.answers)),
            Err(RequestError::Invalid(invalid)) => Ok(self.refuse(proxy, &invalid.into())),
            Err(undecided) => Err(undecided),
        }
    }

    /// Maps the request by the active rules.
    fn map(&self, message: &CheckRequest) -> Result<Question, Unmapped> {
        let rules = self.service.engine.rules.load();
        // Before the message is read: without rules even a malformed check is an error.
        if !rules.is_loaded() {
            return Err(Unmapped::NoRules);
        }
        let default = self.default_domain.as_deref();
        let check = request::read(message, default).map_err(Unmapped::Mistake)?;
        let name = || refusal::shown_domain(check.domain);
        let (domain, mapping) = rules.mapping(check.domain).map_err(|none| match none {
            NoMapping::NoRules => Unmapped::NoRules,
            NoMapping::UnknownDomain => Unmapped::Mistake(Mistake::UnknownDomain(name())),
            NoMapping::NoHttp => Unmapped::Mistake(Mistake::NoMapping(name())),
        })?;
        let domain = Arc::clone(domain.name());
        let mapped = mapping.map(&check.request());
        Ok(Question { rules, domain, mapped })
    }

    /// The domain of a check, for statistics; empty if no rules can have it.
    fn domain<'a>(&'a self, message: &'a CheckRequest) -> &'a str {
        let check = request::read(message, self.default_domain.as_deref());
        check.ok().and_then(|check| str::from_utf8(check.domain).ok()).unwrap_or_default()
    }

    /// Counts, logs and answers a mistake.
    fn refuse(&self, proxy: Option<IpAddr>, mistake: &Mistake) -> CheckResponse {
        // The service has counted an invalid request.
        if !matches!(mistake, Mistake::Invalid(_)) {
            self.service.metrics.count_error(ErrorType::Service);
        }
        self.service.metrics.count_misconfigured_check(mistake.fault());
        self.mistakes.warn_of(proxy, mistake.fault().label(), mistake);
        refusal::of_mistake(mistake)
    }

    fn count(&self, domain: &str, result: CheckResult) {
        self.service.metrics.count_check(CheckedBy::ExtAuthz, domain, result);
    }
}

/// A check of a domain with a mapping.
struct Question {
    rules: LoadedRules,
    domain: Arc<str>,
    mapped: Result<Mapped, MappingError>,
}

/// Why a check has no domain with a mapping.
enum Unmapped {
    NoRules,
    Mistake(Mistake),
}
