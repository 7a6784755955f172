//! The metadata of an answer: for access logs, and for other filters.

use std::time::Duration;

use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::{
    descriptor::{Descriptor, Request},
    engine::decision::{Decision, Governed, Standing, Verdict},
    limit::{Hits, Limit, ceil_seconds},
};

/// What was asked (`domain`, `descriptors`, `hitsAddend`), what the rules of
/// the descriptors that passed have to say (`metadata`), which limit decided, and
/// for how long (`rule`), and whether that was without the store (`degraded`).
///
/// The names, except `rule` and `degraded`, are those of Envoy's reference service. Bytes of
/// the caller's that are not UTF-8 are replaced: Envoy refuses a whole answer
/// that contains any.
pub fn build(request: &Request, decision: &Decision) -> Struct {
    let mut fields = vec![
        ("domain", text(&request.domain)),
        ("descriptors", list(request.descriptors.iter().map(descriptor))),
    ];
    if request.hits_addend != 0 {
        fields.push(("hitsAddend", number(request.hits_addend.into())));
    }
    if let Some((verdict, standing)) = decision.decisive() {
        let wait = if decision.over_limit { decision.wait } else { standing.wait };
        fields.push(("rule", rule(verdict, standing, wait)));
    }
    let mut metadata = serde_json::Map::new();
    for verdict in decision.verdicts.iter().filter(|it| !it.refused()) {
        if let Governed::Rule(rule, _) = &verdict.governed
            && let Some(more) = &rule.spec.metadata
        {
            merge(&mut metadata, more);
        }
    }
    if !metadata.is_empty() {
        fields.push(("metadata", value(&serde_json::Value::Object(metadata))));
    }
    if !decision.policies.is_empty() {
        fields.push(("degraded", wrap(Kind::BoolValue(true))));
    }
    structure(fields)
}

fn descriptor(descriptor: &Descriptor) -> Value {
    let entry = |key: &[u8], value: &[u8]| {
        string(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)))
    };
    let entries = descriptor.entries.iter().map(|it| entry(&it.key, &it.value));
    let mut fields = vec![("entries", list(entries))];
    if let Some(limit) = &descriptor.limit {
        fields.push(("limit", string(in_prototext(limit))));
    }
    match descriptor.hits {
        // What the request says for all of them is not said again.
        Hits::Add(_) if !descriptor.has_own_hits => {}
        Hits::Add(hits) => fields.push(("hitsAddend", number(hits))),
        Hits::Refund(hits) => fields.push(("refund", number(hits))),
    }
    wrap(Kind::StructValue(structure(fields)))
}

/// An override, as the text format of protobuf has it.
fn in_prototext(limit: &Limit) -> String {
    let (unit, multiplier) =
        (limit.window.unit().name().to_ascii_uppercase(), limit.window.multiplier());
    let text = format!("requests_per_unit:{} unit:{unit}", limit.requests);
    if multiplier.get() == 1 {
        text
    } else {
        format!("{text} unit_multiplier:{{value:{multiplier}}}")
    }
}

/// The limit that decided: where it comes from, how it stands, and how long to
/// `wait`.
fn rule(verdict: &Verdict, standing: Standing<'_>, wait: Option<Duration>) -> Value {
    let Standing { limit, name, outcome, .. } = standing;
    let mut fields = match verdict.governed.rule() {
        Some(rule) => vec![
            ("key", string(rule.stat_name().to_string())),
            ("place", string(&*rule.spec.location)),
        ],
        None => vec![("key", string("override"))],
    };
    if !name.is_empty() {
        fields.push(("name", string(&**name)));
    }
    fields.push(("limit", string(limit.to_string())));
    fields.push(("remaining", number(outcome.remaining.into())));
    match wait {
        Some(wait) => fields.push(("resetSeconds", number(ceil_seconds(wait)))),
        None => fields.push(("neverPasses", wrap(Kind::BoolValue(true)))),
    }
    if !outcome.banned.is_zero() {
        fields.push(("bannedSeconds", number(ceil_seconds(outcome.banned))));
    }
    wrap(Kind::StructValue(structure(fields)))
}

/// Adds `more` to `known`. What is known stays, and maps are merged within.
fn merge(
    known: &mut serde_json::Map<String, serde_json::Value>,
    more: &serde_json::Map<String, serde_json::Value>,
) {
    use serde_json::Value::Object;

    for (key, value) in more {
        match (known.get_mut(key), value) {
            (None, value) => drop(known.insert(key.clone(), value.clone())),
            (Some(Object(known)), Object(more)) => merge(known, more),
            (Some(_), _) => {}
        }
    }
}

fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;

    wrap(match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(it) => Kind::BoolValue(*it),
        Json::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or(f64::NAN)),
        Json::String(it) => Kind::StringValue(it.clone()),
        Json::Array(it) => return list(it.iter().map(value)),
        Json::Object(it) => {
            let fields = it.iter().map(|(key, it)| (key.clone(), value(it)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    })
}

fn structure(fields: Vec<(&str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, it)| (key.to_owned(), it)).collect() }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    wrap(Kind::ListValue(ListValue { values: values.collect() }))
}

fn wrap(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(bytes: &[u8]) -> Value {
    string(String::from_utf8_lossy(bytes))
}

fn string(text: impl Into<String>) -> Value {
    wrap(Kind::StringValue(text.into()))
}

#[expect(clippy::cast_precision_loss, reason = "the protocol knows only f64; exact below 2⁵³")]
fn number(number: u64) -> Value {
    wrap(Kind::NumberValue(number as f64))
}
