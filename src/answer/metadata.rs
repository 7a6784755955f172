//! The metadata of an answer, for access logs and other filters of the proxy.

use std::{fmt, time::Duration};

use serde_json::{Map, Value};

use crate::{
    descriptor::{Descriptor, Entry, Request},
    engine::decision::{Decision, LimitStatus, Match, Verdict},
    limit::{Hits, Limit, ceil_seconds},
};

/// Writes an object in a protocol's own representation, field by field.
pub trait ObjectWriter {
    /// Adds a text.
    fn text(&mut self, key: &str, text: impl fmt::Display);
    /// Adds a list of texts.
    fn texts(&mut self, key: &str, texts: impl Iterator<Item: fmt::Display>);
    /// Adds a whole number.
    fn number(&mut self, key: &str, number: u64);
    /// Adds true or false.
    fn flag(&mut self, key: &str, flag: bool);
    /// Adds an object.
    fn object(&mut self, key: &str, write: impl FnOnce(&mut Self));
    /// Adds a list of objects, one for each element.
    fn objects<T>(
        &mut self,
        key: &str,
        elements: impl Iterator<Item = T>,
        write: impl FnMut(&mut Self, T),
    );
    /// Adds any object, from `metadata` in rules.
    fn json(&mut self, key: &str, object: Map<String, Value>);
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
pub fn write(
    request: &Request,
    decision: &Decision,
    audience: Audience,
    to: &mut impl ObjectWriter,
) {
    to.text("domain", Lossy(&request.domain));
    to.objects("descriptors", request.descriptors.iter(), write_descriptor);
    if request.hits_addend != 0 {
        to.number("hitsAddend", request.hits_addend.into());
    }
    if let Some((verdict, status)) = decision.binding() {
        let wait = if decision.over_limit { decision.wait } else { status.wait };
        to.object("rule", |to| write_rule(verdict, status, wait, audience, to));
    }
    let metadata = rule_metadata(decision);
    if !metadata.is_empty() {
        to.json("metadata", metadata);
    }
    if !decision.policies.is_empty() {
        to.flag("degraded", true);
    }
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

fn write_descriptor(to: &mut impl ObjectWriter, descriptor: &Descriptor) {
    to.texts("entries", descriptor.entries.iter().map(EntryText));
    if let Some(limit) = &descriptor.limit {
        to.text("limit", prototext(limit));
    }
    match descriptor.hits {
        // The field `hitsAddend` of the whole request covers these.
        Hits::Add(_) if !descriptor.has_own_hits => {}
        Hits::Add(hits) => to.number("hitsAddend", hits),
        Hits::Refund(hits) => to.number("refund", hits),
    }
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
fn write_rule(
    verdict: &Verdict,
    status: LimitStatus<'_>,
    wait: Option<Duration>,
    audience: Audience,
    to: &mut impl ObjectWriter,
) {
    let LimitStatus { limit, name, outcome, .. } = status;
    let rule = verdict.matched.rule();
    if audience == Audience::Proxy {
        match rule {
            Some(rule) => {
                to.text("key", rule.name());
                to.text("place", &rule.spec.location);
            }
            None => to.text("key", "override"),
        }
    }
    if rule.is_some_and(|rule| rule.spec.shadow_mode) {
        to.flag("shadowMode", true);
    }
    if !name.is_empty() {
        to.text("name", name);
    }
    to.text("limit", limit);
    to.number("remaining", outcome.remaining.into());
    match wait {
        Some(wait) => to.number("resetSeconds", ceil_seconds(wait)),
        None => to.flag("neverPasses", true),
    }
    if !outcome.banned.is_zero() {
        to.number("bannedSeconds", ceil_seconds(outcome.banned));
    }
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

/// Bytes of the request as text.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

/// An entry as `key=value`.
struct EntryText<'a>(&'a Entry);

impl fmt::Display for EntryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Entry { key, value }) = self;
        f.write_str(&String::from_utf8_lossy(key))?;
        f.write_str("=")?;
        f.write_str(&String::from_utf8_lossy(value))
    }
}
