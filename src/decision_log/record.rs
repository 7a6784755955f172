//! The lines of the decision log.

use serde::Serialize;

use super::{
    reason,
    shown::{MAX_ENTRIES, MAX_TEXT, excerpt},
};
use crate::{
    counter::{KeyFormat, KeyPart},
    descriptor::{Descriptor, Entry},
    engine::decision::{Decision, LimitStatus, Match, Verdict},
    limit::{Hits, Limit, ceil_seconds},
    printable::is_unprintable,
    time::Timestamp,
};

/// The longest name of a counter or of a rule, in bytes without escapes.
const MAX_NAME: usize = 400;

/// One descriptor and its decision. The names are those of the answer's metadata where
/// that has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    time: String,
    domain: String,
    entries: Vec<RecordEntry>,
    #[serde(skip_serializing_if = "is_zero")]
    entries_left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund: Option<u64>,
    /// The code of the descriptor in the answer.
    code: &'static str,
    /// The code of the whole request.
    request_code: &'static str,
    over_limit: bool,
    #[serde(skip_serializing_if = "is_false")]
    shadow_mode: bool,
    #[serde(skip_serializing_if = "is_false")]
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes_because_of: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_limit: Option<String>,
    #[serde(flatten)]
    applied: Option<AppliedLimit>,
}

#[derive(Serialize)]
struct RecordEntry {
    key: String,
    value: String,
}

/// The limit that decided.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppliedLimit {
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    limit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    algorithm: &'static str,
    counter: String,
    remaining: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_seconds: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    never_passes: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_seconds: Option<u64>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The line of one descriptor, with its line break.
pub(super) fn line(
    domain: &[u8],
    descriptor: &Descriptor,
    verdict: &Verdict,
    decision: &Decision,
    keys: &KeyFormat,
) -> String {
    let entries = shown_entries(&descriptor.entries);
    let (hits, refund) = match descriptor.hits {
        Hits::Add(hits) => (Some(hits), None),
        Hits::Refund(hits) => (None, Some(hits)),
    };
    let counter = Counter { domain, entries: &descriptor.entries, keys, at: decision.at };
    let record = Record {
        time: time(decision.at),
        domain: excerpt(domain, MAX_TEXT),
        entries_left_out: descriptor.entries.len() - entries.len(),
        entries,
        hits,
        refund,
        code: code(verdict.is_refused()),
        request_code: code(decision.over_limit),
        over_limit: verdict.is_over(),
        shadow_mode: verdict.matched.rule().is_some_and(|rule| rule.spec.shadow_mode),
        degraded: !decision.policies.is_empty(),
        passes_because_of: reason::of_pass(verdict, decision),
        no_limit: reason::of_match(&verdict.matched, |name| excerpt(name.as_bytes(), MAX_NAME)),
        applied: verdict.status().map(|status| applied(verdict, status, &counter)),
    };
    let mut line = escape_controls(serde_json::to_string(&record).unwrap_or_default());
    line.push('\n');
    line
}

fn code(is_over: bool) -> &'static str {
    if is_over { "OVER_LIMIT" } else { "OK" }
}

fn time(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::new(),
    }
}

fn shown_entries(entries: &[Entry]) -> Vec<RecordEntry> {
    let mut shown = Vec::new();
    let mut length = 0;
    for Entry { key, value } in entries {
        if MAX_ENTRIES < length {
            break;
        }
        let entry = RecordEntry { key: excerpt(key, MAX_TEXT), value: excerpt(value, MAX_TEXT) };
        length += entry.key.len() + entry.value.len();
        shown.push(entry);
    }
    shown
}

fn applied(verdict: &Verdict, status: LimitStatus<'_>, counter: &Counter<'_>) -> AppliedLimit {
    let LimitStatus { limit, name, outcome, .. } = status;
    let (rule, place) = match verdict.matched.rule() {
        Some(rule) => {
            let place = excerpt(rule.spec.location.as_bytes(), MAX_TEXT);
            (excerpt(rule.name().as_bytes(), MAX_NAME), Some(place))
        }
        None => ("override".to_owned(), None),
    };
    let wait = status.exact_wait();
    let banned = ceil_seconds(outcome.banned);
    AppliedLimit {
        rule,
        place,
        limit: limit.to_string(),
        name: excerpt(name.as_bytes(), MAX_TEXT),
        algorithm: limit.algorithm.name(),
        counter: excerpt(&counter.name(&verdict.matched, limit), MAX_NAME),
        remaining: outcome.remaining,
        reset_seconds: wait.map(ceil_seconds),
        never_passes: wait.is_none(),
        banned_seconds: if banned == 0 { None } else { Some(banned) },
    }
}

/// The parts of a counter's name.
struct Counter<'a> {
    domain: &'a [u8],
    entries: &'a [Entry],
    keys: &'a KeyFormat,
    at: Timestamp,
}

impl Counter<'_> {
    fn name(&self, matched: &Match, limit: &Limit) -> Vec<u8> {
        let Self { domain, entries, keys, at } = *self;
        let counter = match matched.rule() {
            Some(rule) => rule.counter(limit, keys, entries, at),
            None => {
                let parts = entries.iter().map(|Entry { key, value }| KeyPart {
                    key,
                    value,
                    shared: false,
                });
                keys.counter(domain, parts, limit, at)
            }
        };
        counter.key.as_bytes().to_vec()
    }
}

/// Escapes the characters that JSON allows and a terminal or editor may obey, such as the
/// C1 controls and marks of the direction of text.
fn escape_controls(json: String) -> String {
    if !json.contains(is_unprintable) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if is_unprintable(letter) {
            escaped += &format!("\\u{:04x}", u32::from(letter));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}
