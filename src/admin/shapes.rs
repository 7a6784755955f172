//! Parts of several answers.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    descriptor::Entry,
    explain::notation,
    limit::{Limit, ceil_seconds},
    live::{HitResults, Live, ReadName},
    rules::{Rule, RuleTree, spec::LimitSpec},
    time::Timestamp,
};

/// A time as RFC 3339 has it, in UTC.
pub(super) fn time(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    // Beyond the year 9999 there is no such text.
    jiff::Timestamp::from_microsecond(micros).map(|time| time.to_string()).unwrap_or_default()
}

/// Hits by their result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hits {
    /// Hits that passed, those in `wouldRefuse` included.
    passed: u64,
    /// Hits of requests that were refused because of them.
    refused: u64,
    /// Hits that passed only because of a shadow mode.
    would_refuse: u64,
    /// Hits that an `on_error` policy decided, passed or refused.
    by_policy: u64,
}

impl From<HitResults> for Hits {
    fn from(results: HitResults) -> Self {
        let HitResults { passed, refused, would_refuse, by_policy } = results;
        Self { passed, refused, would_refuse, by_policy }
    }
}

/// A rule in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RuleRef {
    /// The domain, and the keys and values of the rule, joined with dots.
    #[schema(example = "shop.user")]
    name: String,
    /// The place in its source.
    #[schema(example = "rules.yaml:8")]
    place: String,
}

impl RuleRef {
    pub(super) fn of(rule: &Rule) -> Self {
        Self { name: rule.name(), place: rule.spec.location.to_string() }
    }
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitShape {
    /// Its name; empty if it has none.
    name: String,
    /// The limit in words.
    #[schema(example = "100 per minute")]
    text: String,
    /// The hits of one window, or the slots.
    requests: u32,
    /// The length of a window; null for `concurrency`. Of calendar windows, the usual length.
    window_seconds: Option<u64>,
    /// Its algorithm.
    #[schema(example = "fixed_window")]
    algorithm: &'static str,
}

impl LimitShape {
    pub(super) fn new(name: &str, limit: &Limit) -> Self {
        Self::with_text(name, limit, limit.to_string())
    }

    pub(super) fn of(spec: &LimitSpec) -> Self {
        Self::with_text(&spec.name, &spec.limit, notation::limit_text(spec))
    }

    fn with_text(name: &str, limit: &Limit, text: String) -> Self {
        let info = limit.algorithm.info();
        Self {
            name: name.to_string(),
            text,
            requests: limit.requests,
            window_seconds: if info.window { Some(limit.window.seconds()) } else { None },
            algorithm: info.name,
        }
    }
}

/// An entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct EntryShape {
    /// Its key. Bytes that are not UTF-8 are replaced.
    key: String,
    /// Its value, likewise. Clients choose it.
    value: String,
}

/// A descriptor of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DescriptorShape {
    /// The domain. Bytes that are not UTF-8 are replaced.
    domain: String,
    /// Its entries.
    entries: Vec<EntryShape>,
    /// The entries in one line, as `tollgate hit` takes them. Control characters are escaped.
    #[schema(example = "user=ann,path=/login")]
    descriptor: String,
    /// The end is missing, because the descriptor has more than 128 bytes.
    cut: bool,
}

impl DescriptorShape {
    pub(super) fn new(name: &ReadName) -> Self {
        let mut entries = Vec::with_capacity(name.entries.len());
        for Entry { key, value } in &name.entries {
            let [key, value] = [key, value].map(|text| String::from_utf8_lossy(text).into_owned());
            entries.push(EntryShape { key, value });
        }
        Self {
            domain: String::from_utf8_lossy(&name.domain).into_owned(),
            entries,
            descriptor: notation::descriptor(&name.entries),
            cut: name.is_cut,
        }
    }
}

/// Seconds, rounded up.
pub(super) fn seconds(time: std::time::Duration) -> u64 {
    ceil_seconds(time)
}

/// The rule in force with this name.
pub(super) fn find_rule<'t>(rules: &'t RuleTree, name: &str) -> Option<&'t Arc<Rule>> {
    rules.rules().iter().find(|rule| rule.name() == name)
}

/// The rule that now governs a descriptor, unless the end of that is missing.
pub(super) fn governing_rule<'t>(rules: &'t RuleTree, name: &ReadName) -> Option<&'t Arc<Rule>> {
    if name.is_cut {
        return None;
    }
    rules.domain(&name.domain)?.find(&name.entries)
}

/// The hits of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuleUse {
    /// Since the rule was loaded.
    total: Hits,
    /// In the last 60 seconds; null if the rule is not among the 1,000 busiest.
    last_minute: Option<Hits>,
}

impl RuleUse {
    pub(super) fn of(live: &Live, rule: usize, now: Timestamp) -> Self {
        Self {
            total: live.rule_total(rule).into(),
            last_minute: live.rule_last_minute(rule, now).map(Hits::from),
        }
    }
}
