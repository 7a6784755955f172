//! The counters of HTTP checks.

use std::{
    collections::HashMap,
    iter,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec};

use super::domain_counters::MAX_DOMAINS;
use crate::{
    mapping::MappingError,
    rules::{
        RuleTree,
        stat_name::{self, StatName},
    },
};

/// The way in which a proxy asks for an HTTP check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedBy {
    /// `/check/forwarded`.
    Forwarded,
    /// `/check/nginx`.
    Nginx,
    /// `/check/ingress-nginx`.
    IngressNginx,
    /// `/check/envoy`.
    Envoy,
    /// Envoy's external authorization over gRPC.
    ExtAuthz,
}

impl CheckedBy {
    const COUNT: usize = Self::ExtAuthz as usize + 1;

    /// The name in statistics, and in the paths of `/check`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Nginx => "nginx",
            Self::IngressNginx => "ingress-nginx",
            Self::Envoy => "envoy",
            Self::ExtAuthz => "ext_authz",
        }
    }
}

/// The end of an HTTP check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The request passes.
    Allowed,
    /// The request is over a limit.
    Refused,
    /// The check lacks something that the rules need.
    Misconfigured,
    /// The check could not be decided.
    Error,
}

impl CheckResult {
    const COUNT: usize = Self::Error as usize + 1;

    const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Misconfigured => "misconfigured",
            Self::Error => "error",
        }
    }
}

/// The reason why a check is refused as wrongly set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFault {
    /// The path names no dialect.
    UnknownDialect,
    /// The path goes on behind the domain.
    UnexpectedPath,
    /// It names no domain.
    NoDomain,
    /// No rules are loaded for the domain.
    UnknownDomain,
    /// The rules of the domain have no `http`.
    NoHttp,
    /// It has no HTTP request, or cannot be read: it is too large or malformed.
    Unreadable,
    /// A header that the proxy has to write occurs twice.
    RepeatedHeader,
    /// The rules make a request of it that is invalid.
    InvalidRequest,
    /// The rules need a part that the proxy did not send, or that cannot be read: the
    /// [name](MappingError::name) of the error.
    Unmapped(&'static str),
}

impl CheckFault {
    const OTHERS: [Self; 8] = [
        Self::UnknownDialect,
        Self::UnexpectedPath,
        Self::NoDomain,
        Self::UnknownDomain,
        Self::NoHttp,
        Self::Unreadable,
        Self::RepeatedHeader,
        Self::InvalidRequest,
    ];

    /// The labels of all.
    pub(super) fn labels() -> impl Iterator<Item = &'static str> {
        Self::OTHERS.iter().map(|fault| fault.label()).chain(MappingError::NAMES)
    }

    /// The name of the reason in statistics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownDialect => "unknown_dialect",
            Self::UnexpectedPath => "unexpected_path",
            Self::NoDomain => "no_domain",
            Self::UnknownDomain => "unknown_domain",
            Self::NoHttp => "no_http",
            Self::Unreadable => "unreadable",
            Self::RepeatedHeader => "repeated_header",
            Self::InvalidRequest => "invalid_request",
            Self::Unmapped(name) => name,
        }
    }
}

/// The counters of the domains that have had rules.
#[derive(Debug)]
pub(super) struct CheckCounters {
    counters: IntCounterVec,
    domains: RwLock<HashMap<Arc<str>, DomainChecks, foldhash::fast::RandomState>>,
}

/// The counters of one domain.
#[derive(Debug)]
struct DomainChecks {
    /// The label, as the series of rules have it.
    label: String,
    /// Kept from the first check on, because a lookup by labels takes longer than the rest.
    series: [[OnceLock<IntCounter>; CheckResult::COUNT]; CheckedBy::COUNT],
}

impl CheckCounters {
    /// No counters; `counters` has the labels dialect, domain and result.
    pub(super) fn new(counters: IntCounterVec) -> Self {
        Self { counters, domains: RwLock::default() }
    }

    /// Makes the domains of `rules` known.
    pub(super) fn install(&self, rules: &RuleTree) {
        let mut domains = self.domains.write();
        for name in rules.domain_names() {
            if MAX_DOMAINS <= domains.len() {
                break;
            }
            if !domains.contains_key(name) {
                let label = StatName::new(name, iter::empty()).domain().to_owned();
                let checks = DomainChecks { label, series: Default::default() };
                domains.insert(Arc::clone(name), checks);
            }
        }
    }

    /// Counts a check of `domain`, which must have rules.
    pub(super) fn count(&self, by: CheckedBy, domain: &str, result: CheckResult) {
        let domains = self.domains.read();
        let new =
            |label: &str| self.counters.with_label_values(&[by.name(), label, result.label()]);
        match domains.get(domain) {
            Some(DomainChecks { label, series }) => {
                series[by as usize][result as usize].get_or_init(|| new(label)).inc();
            }
            None => new(stat_name::FOLDED).inc(),
        }
    }
}
