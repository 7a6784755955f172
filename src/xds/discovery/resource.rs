//! From the resources to what rule files would say in their place.

use std::borrow::Cow;

use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};

use super::{
    TYPE_URL,
    pb::ratelimit::config::ratelimit::v3::{
        RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
    },
};
use crate::config::{SourceTree, TreeValue};

/// The longest part of a server's text that is repeated, in characters.
const QUOTED: usize = 200;

/// The rules of all resources, in the order of their names: the server's own
/// order may change from one response to the next.
pub(super) fn trees(resources: Vec<Any>) -> Result<Vec<SourceTree>, String> {
    let each = resources.into_iter().enumerate().map(|(index, it)| {
        if it.type_url != TYPE_URL {
            let found: String = it.type_url.chars().take(QUOTED).collect();
            return Err(format!(
                "resources[{index}] is of the type {found:?}, expected {TYPE_URL}"
            ));
        }
        let config = RateLimitConfig::decode(&*it.value)
            .map_err(|error| format!("resources[{index}] cannot be decoded: {error}"))?;
        Ok(tree(config, index))
    });
    let mut trees = each.collect::<Result<Vec<_>, _>>()?;
    trees.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(trees)
}

pub(super) fn metadata(pairs: &[(String, String)]) -> Option<Struct> {
    let field = |(key, value): &(String, String)| {
        (key.clone(), Value { kind: Some(Kind::StringValue(value.clone())) })
    };
    let fields = pairs.iter().map(field).collect();
    (!pairs.is_empty()).then_some(Struct { fields })
}

fn tree(config: RateLimitConfig, index: usize) -> SourceTree {
    let RateLimitConfig { name, domain, descriptors } = config;
    let name = if name.is_empty() { format!("resources[{index}]") } else { name };
    let mut root = Fields::default();
    root.put("domain", TreeValue::Text(domain));
    root.list("descriptors", descriptors.into_iter().map(descriptor));
    SourceTree { name, root: root.tree() }
}

fn descriptor(message: RateLimitDescriptor) -> TreeValue {
    let mut fields = Fields::default();
    fields.put("key", TreeValue::Text(message.key));
    fields.text("value", message.value);
    if let Some(policy) = message.rate_limit {
        fields.put("rate_limit", limit(policy));
    }
    fields.flag("shadow_mode", message.shadow_mode);
    fields.flag("detailed_metric", message.detailed_metric);
    fields.flag("quota_mode", message.quota_mode);
    if let Some(metadata) = message.metadata {
        fields.put("metadata", map(metadata));
    }
    fields.list("descriptors", message.descriptors.into_iter().map(descriptor));
    fields.tree()
}

fn limit(message: RateLimitPolicy) -> TreeValue {
    let mut fields = Fields::default();
    match RateLimitUnit::try_from(message.unit) {
        Ok(RateLimitUnit::Unknown) => {}
        Ok(unit) => fields.text("unit", unit.as_str_name().to_ascii_lowercase()),
        Err(_) => fields.text("unit", message.unit.to_string()),
    }
    // Zero cannot be told from nothing, and is what nothing means.
    if !message.unlimited || 0 < message.requests_per_unit {
        fields.put("requests_per_unit", TreeValue::Number(message.requests_per_unit.into()));
    }
    fields.flag("unlimited", message.unlimited);
    fields.text("name", message.name);
    let replaces = message.replaces.into_iter().map(|it| {
        let mut fields = Fields::default();
        fields.put("name", TreeValue::Text(it.name));
        fields.tree()
    });
    fields.list("replaces", replaces);
    fields.tree()
}

fn map(message: Struct) -> TreeValue {
    TreeValue::Map(message.fields.into_iter().map(|(key, it)| (key.into(), value(it))).collect())
}

fn value(message: Value) -> TreeValue {
    match message.kind {
        None | Some(Kind::NullValue(_)) => TreeValue::Null,
        Some(Kind::BoolValue(it)) => TreeValue::Bool(it),
        Some(Kind::NumberValue(it)) => TreeValue::Number(it),
        Some(Kind::StringValue(it)) => TreeValue::Text(it),
        Some(Kind::ListValue(it)) => TreeValue::List(it.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(it)) => map(it),
    }
}

/// A map in the making. What protobuf does not tell from nothing is left out.
#[derive(Default)]
struct Fields(Vec<(Cow<'static, str>, TreeValue)>);

impl Fields {
    fn put(&mut self, key: &'static str, value: TreeValue) {
        self.0.push((key.into(), value));
    }

    fn text(&mut self, key: &'static str, text: String) {
        if !text.is_empty() {
            self.put(key, TreeValue::Text(text));
        }
    }

    fn flag(&mut self, key: &'static str, flag: bool) {
        if flag {
            self.put(key, TreeValue::Bool(true));
        }
    }

    fn list(&mut self, key: &'static str, elements: impl Iterator<Item = TreeValue>) {
        let elements: Vec<_> = elements.collect();
        if !elements.is_empty() {
            self.put(key, TreeValue::List(elements));
        }
    }

    fn tree(self) -> TreeValue {
        TreeValue::Map(self.0)
    }
}

#[cfg(test)]
mod tests;
