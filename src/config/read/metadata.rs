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
    pub(super) fn json_object(&mut self, map: &Map<'a>) -> JsonMap<String, JsonValue> {
        let mut object = JsonMap::new();
        for (key, entry) in map {
            let value = self.json_value(&entry.node);
            if object.insert(json_key(key, entry), value).is_some() {
                let message = "the key is the same string as one before it";
                self.sink.error_with_help(entry.key_location, message, "remove one of them");
            }
        }
        object
    }

    fn json_value(&mut self, node: &YamlNode<'a>) -> JsonValue {
        let scalar = match &node.value {
            YamlValue::Map(map) => return JsonValue::Object(self.json_object(map)),
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
            Some(Plain::Float(number)) => {
                if !number.is_finite() {
                    self.unexpected(node, "a value in `metadata`", "a number that is finite");
                }
                number.into()
            }
            Some(Plain::Text) | None => JsonValue::String(scalar.text.to_string()),
        }
    }
}

/// The key as a string: an unquoted flag or number in its usual notation, so
/// that `on` becomes `true`.
fn json_key(key: &str, entry: &MapEntry<'_>) -> String {
    if !entry.key_is_plain {
        return key.to_owned();
    }
    match scalar::resolve(key) {
        Plain::Bool(flag) => flag.to_string(),
        Plain::Int(number) => number.to_string(),
        Plain::Null | Plain::Float(_) | Plain::Text => key.to_owned(),
    }
}
