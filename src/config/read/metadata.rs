//! Converts the YAML of `metadata` to JSON.

use serde_json::{Map as JsonMap, Number, Value as JsonValue};

use super::{
    super::{
        scalar::{self, Plain},
        yaml::{Map, MapEntry, YamlNode, YamlValue},
    },
    reader::SourceReader,
};

impl<'a> SourceReader<'a, '_> {
    /// The value of the key `metadata`. As in the reference service, its own keys are text
    /// as they are written.
    pub(super) fn metadata(&mut self, map: &Map<'a>) -> JsonMap<String, JsonValue> {
        self.json_object(map, text_key)
    }

    fn json_object(
        &mut self,
        map: &Map<'a>,
        json_key: fn(&str, &MapEntry<'_>) -> String,
    ) -> JsonMap<String, JsonValue> {
        let mut object = JsonMap::new();
        for (key, entry) in map {
            let value = self.json_value(entry.last_value());
            if object.insert(json_key(key, entry), value).is_some() {
                let message = "the key is the same as one before it, and replaces its value";
                let help = "remove one of them, or quote both";
                self.sink.warning_with_help(entry.key_location, message, help);
            }
        }
        object
    }

    fn json_value(&mut self, node: &YamlNode<'a>) -> JsonValue {
        let scalar = match &node.value {
            YamlValue::Map(map) => return JsonValue::Object(self.json_object(map, typed_key)),
            YamlValue::List(list) => {
                let mut array = Vec::with_capacity(list.len());
                for element in list {
                    array.push(self.json_value(element));
                }
                return JsonValue::Array(array);
            }
            YamlValue::Scalar(scalar) => scalar,
        };
        match node.plain() {
            Some(Plain::Null) => JsonValue::Null,
            Some(Plain::Bool(flag)) => JsonValue::Bool(flag),
            Some(Plain::Int(number)) => match Number::from_i128(number) {
                Some(number) => JsonValue::Number(number),
                None => JsonValue::Null,
            },
            Some(Plain::Float(number)) if number.is_finite() => number.into(),
            Some(Plain::Float(number)) => self.infinite(node, number),
            Some(Plain::Text) | None => JsonValue::String(scalar.text.to_string()),
        }
    }

    /// The text that stands for a number that JSON does not have.
    fn infinite(&mut self, node: &YamlNode<'a>, number: f64) -> JsonValue {
        let text = if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        let message = format!("the number {} is returned as the text `{text}`", node.describe());
        self.sink.warning_with_help(node.location, message, "JSON has no such number: quote it");
        text.into()
    }
}

/// The key as it is written; null is the empty string.
fn text_key(key: &str, entry: &MapEntry<'_>) -> String {
    if entry.key_is_plain && scalar::resolve(key) == Plain::Null {
        return String::new();
    }
    key.to_owned()
}

/// The key as a string: an unquoted flag or number in its usual notation, so
/// that `on` becomes `true`.
fn typed_key(key: &str, entry: &MapEntry<'_>) -> String {
    if !entry.key_is_plain {
        return key.to_owned();
    }
    match scalar::resolve(key) {
        Plain::Bool(flag) => flag.to_string(),
        Plain::Int(number) => number.to_string(),
        Plain::Null | Plain::Float(_) | Plain::Text => key.to_owned(),
    }
}
