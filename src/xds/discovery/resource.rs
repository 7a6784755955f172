//! Converts resources to the source trees that rule files would have.

use std::borrow::Cow;

use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};

use super::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace, RateLimitUnit,
};
use crate::config::{SourceTree, TreeValue};

/// The type of all resources in a request and in its response.
pub(super) const TYPE_URL: &str =
    "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// The largest part of a server's text in an error, in characters.
pub(super) const MAX_QUOTED_CHARS: usize = 200;

/// The rules of all resources, sorted by resource name: the server's order may change
/// from one response to the next.
pub(super) fn trees(resources: Vec<Any>) -> Result<Vec<SourceTree>, String> {
    let mut trees = Vec::new();
    for (index, resource) in resources.into_iter().enumerate() {
        if resource.type_url != TYPE_URL {
            let found: String = resource.type_url.chars().take(MAX_QUOTED_CHARS).collect();
            return Err(format!(
                "resources[{index}] is of the type {found:?}, expected {TYPE_URL}"
            ));
        }
        match RateLimitConfig::decode(&*resource.value) {
            Ok(config) => trees.push(tree(config, index)),
            Err(error) => return Err(format!("resources[{index}] cannot be decoded: {error}")),
        }
    }
    trees.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(trees)
}

/// The metadata of a node, or `None` if there is none.
pub(super) fn metadata(pairs: &[(String, String)]) -> Option<Struct> {
    if pairs.is_empty() {
        return None;
    }
    let mut message = Struct::default();
    for (key, value) in pairs {
        let value = Value { kind: Some(Kind::StringValue(value.clone())) };
        message.fields.insert(key.clone(), value);
    }
    Some(message)
}

fn tree(config: RateLimitConfig, index: usize) -> SourceTree {
    let RateLimitConfig { name, domain, descriptors } = config;
    let name = if name.is_empty() { format!("resources[{index}]") } else { name };
    let mut root = TreeFields::default();
    root.put("domain", TreeValue::Text(domain));
    root.put_list("descriptors", descriptors, descriptor);
    SourceTree { name, root: root.into_tree() }
}

fn descriptor(message: RateLimitDescriptor) -> TreeValue {
    let mut fields = TreeFields::default();
    fields.put("key", TreeValue::Text(message.key));
    fields.put_text("value", message.value);
    if let Some(policy) = message.rate_limit {
        fields.put("rate_limit", limit(policy));
    }
    fields.put_flag("shadow_mode", message.shadow_mode);
    fields.put_flag("detailed_metric", message.detailed_metric);
    fields.put_flag("quota_mode", message.quota_mode);
    if let Some(metadata) = message.metadata {
        fields.put("metadata", map(metadata));
    }
    fields.put_list("descriptors", message.descriptors, descriptor);
    fields.into_tree()
}

fn limit(message: RateLimitPolicy) -> TreeValue {
    let mut fields = TreeFields::default();
    match RateLimitUnit::try_from(message.unit) {
        Ok(RateLimitUnit::Unknown) => {}
        Ok(unit) => fields.put_text("unit", unit.as_str_name().to_ascii_lowercase()),
        Err(_) => fields.put_text("unit", message.unit.to_string()),
    }
    // Protobuf does not distinguish 0 from a missing number. Both mean a limit of 0.
    if !message.unlimited || 0 < message.requests_per_unit {
        fields.put("requests_per_unit", TreeValue::Number(message.requests_per_unit.into()));
    }
    fields.put_flag("unlimited", message.unlimited);
    fields.put_text("name", message.name);
    fields.put_list("replaces", message.replaces, replaced);
    fields.into_tree()
}

fn replaced(message: RateLimitReplace) -> TreeValue {
    let mut fields = TreeFields::default();
    fields.put("name", TreeValue::Text(message.name));
    fields.into_tree()
}

fn map(message: Struct) -> TreeValue {
    let mut fields = Vec::new();
    for (key, field) in message.fields {
        fields.push((key.into(), value(field)));
    }
    TreeValue::Map(fields)
}

fn value(message: Value) -> TreeValue {
    match message.kind {
        None | Some(Kind::NullValue(_)) => TreeValue::Null,
        Some(Kind::BoolValue(flag)) => TreeValue::Bool(flag),
        Some(Kind::NumberValue(number)) => TreeValue::Number(number),
        Some(Kind::StringValue(text)) => TreeValue::Text(text),
        Some(Kind::ListValue(list)) => {
            TreeValue::List(list.values.into_iter().map(value).collect())
        }
        Some(Kind::StructValue(fields)) => map(fields),
    }
}

/// The fields of a map. Values that protobuf does not distinguish from missing ones are
/// left out.
#[derive(Default)]
struct TreeFields(Vec<(Cow<'static, str>, TreeValue)>);

impl TreeFields {
    fn put(&mut self, key: &'static str, value: TreeValue) {
        self.0.push((key.into(), value));
    }

    fn put_text(&mut self, key: &'static str, text: String) {
        if !text.is_empty() {
            self.put(key, TreeValue::Text(text));
        }
    }

    fn put_flag(&mut self, key: &'static str, flag: bool) {
        if flag {
            self.put(key, TreeValue::Bool(true));
        }
    }

    fn put_list<M>(&mut self, key: &'static str, messages: Vec<M>, convert: fn(M) -> TreeValue) {
        if !messages.is_empty() {
            self.put(key, TreeValue::List(messages.into_iter().map(convert).collect()));
        }
    }

    fn into_tree(self) -> TreeValue {
        TreeValue::Map(self.0)
    }
}

#[cfg(test)]
mod tests;
