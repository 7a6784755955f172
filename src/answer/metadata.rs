//! The metadata of an answer, for access logs and other filters of the proxy.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    descriptor::{Descriptor, Request},
    engine::decision::{Decision, LimitStatus, Match, Verdict},
    limit::{Hits, Limit, ceil_seconds},
};

/// A tree of values in a protocol's own representation.
pub trait Tree: Sized {
    /// A text.
    fn text(text: String) -> Self;
    /// A whole number.
    fn number(number: u64) -> Self;
    /// True or false.
    fn flag(flag: bool) -> Self;
    /// A list.
    fn list(elements: Vec<Self>) -> Self;
    /// An object.
    fn object(fields: Vec<(&'static str, Self)>) -> Self;
    /// Any value, from a rule's `metadata`.
    fn json(value: &Value) -> Self;
}

/// The readers of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Its filters and logs.
    Proxy,
    /// Perhaps an end user: some callers of an HTTP protocol pass its answers on. The key and
    /// the place of the rule are left out.
    Anyone,
}

/// The fields of the metadata:
///
/// | field                                    | content                                 |
/// |------------------------------------------|-----------------------------------------|
/// | `domain`, `descriptors`, `hitsAddend`    | the request                             |
/// | `metadata`                               | from the rules of descriptors that pass |
/// | `rule`                                   | the limit that decided, and the wait    |
/// | `degraded`                               | true if decided without the store       |
///
/// The names, except `rule` and `degraded`, are those of the reference service.
/// Bytes of the request that are not UTF-8 are replaced: Envoy rejects an answer
/// that contains any.
pub fn build<T: Tree>(
    request: &Request,
    decision: &Decision,
    audience: Audience,
) -> Vec<(&'static str, T)> {
    let mut descriptors = Vec::with_capacity(request.descriptors.len());
    for asked in &request.descriptors {
        descriptors.push(descriptor(asked));
    }
    let mut fields =
        vec![("domain", lossy_text(&request.domain)), ("descriptors", T::list(descriptors))];
    if request.hits_addend != 0 {
        fields.push(("hitsAddend", T::number(request.hits_addend.into())));
    }
    if let Some((verdict, status)) = decision.binding() {
        let wait = if decision.over_limit { decision.wait } else { status.wait };
        fields.push(("rule", rule(verdict, status, wait, audience)));
    }
    let metadata = rule_metadata(decision);
    if !metadata.is_empty() {
        fields.push(("metadata", T::json(&Value::Object(metadata))));
    }
    if !decision.policies.is_empty() {
        fields.push(("degraded", T::flag(true)));
    }
    fields
}

/// The `metadata` of all rules whose descriptors pass; the first value of a key wins.
fn rule_metadata(decision: &Decision) -> Map<String, Value> {
    let mut merged = Map::new();
    for verdict in &decision.verdicts {
        if let Match::Rule(rule, _) = &verdict.matched
            && !verdict.is_refused()
            && let Some(metadata) = &rule.spec.metadata
        {
            merge(&mut merged, metadata);
        }
    }
    merged
}

fn descriptor<T: Tree>(descriptor: &Descriptor) -> T {
    let mut entries = Vec::with_capacity(descriptor.entries.len());
    for entry in &descriptor.entries {
        let (key, value) =
            (String::from_utf8_lossy(&entry.key), String::from_utf8_lossy(&entry.value));
        entries.push(T::text(format!("{key}={value}")));
    }
    let mut fields = vec![("entries", T::list(entries))];
    if let Some(limit) = &descriptor.limit {
        fields.push(("limit", T::text(prototext(limit))));
    }
    match descriptor.hits {
        // The field `hitsAddend` of the whole request covers these.
        Hits::Add(_) if !descriptor.has_own_hits => {}
        Hits::Add(hits) => fields.push(("hitsAddend", T::number(hits))),
        Hits::Refund(hits) => fields.push(("refund", T::number(hits))),
    }
    T::object(fields)
}

/// An override in protobuf's text format.
fn prototext(limit: &Limit) -> String {
    let unit = limit.window.unit().name().to_ascii_uppercase();
    let multiplier = limit.window.multiplier();
    let text = format!("requests_per_unit:{} unit:{unit}", limit.requests);
    if multiplier.get() == 1 {
        return text;
    }
    format!("{text} unit_multiplier:{{value:{multiplier}}}")
}

/// The limit that decided: its rule, its state, and the time to wait.
fn rule<T: Tree>(
    verdict: &Verdict,
    status: LimitStatus<'_>,
    wait: Option<Duration>,
    audience: Audience,
) -> T {
    let LimitStatus { limit, name, outcome, .. } = status;
    let mut fields = Vec::with_capacity(7);
    let rule = verdict.matched.rule();
    if audience == Audience::Proxy {
        match rule {
            Some(rule) => {
                fields.push(("key", T::text(rule.name())));
                fields.push(("place", T::text(rule.spec.location.to_string())));
            }
            None => fields.push(("key", T::text("override".to_owned()))),
        }
    }
    if rule.is_some_and(|rule| rule.spec.shadow_mode) {
        fields.push(("shadowMode", T::flag(true)));
    }
    if !name.is_empty() {
        fields.push(("name", T::text(Arc::as_ref(name).to_owned())));
    }
    fields.push(("limit", T::text(limit.to_string())));
    fields.push(("remaining", T::number(outcome.remaining.into())));
    match wait {
        Some(wait) => fields.push(("resetSeconds", T::number(ceil_seconds(wait)))),
        None => fields.push(("neverPasses", T::flag(true))),
    }
    if !outcome.banned.is_zero() {
        fields.push(("bannedSeconds", T::number(ceil_seconds(outcome.banned))));
    }
    T::object(fields)
}

/// Adds to `merged` the keys it lacks; objects on both sides are merged in turn.
fn merge(merged: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        match (merged.get_mut(key), value) {
            (None, value) => drop(merged.insert(key.clone(), value.clone())),
            (Some(Value::Object(merged)), Value::Object(more)) => merge(merged, more),
            (Some(_), _) => {}
        }
    }
}

fn lossy_text<T: Tree>(bytes: &[u8]) -> T {
    T::text(String::from_utf8_lossy(bytes).into_owned())
}
