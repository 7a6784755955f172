//! `metadata`: any YAML, as JSON.

use serde_json::{Map as Json, Number, Value as JsonValue};

use super::{
    super::{
        scalar::{self, Plain},
        yaml::{Map, Node, Value},
    },
    Reader,
};

impl<'a> Reader<'a, '_> {
    pub(super) fn json_map(&mut self, map: &Map<'a>) -> Json<String, JsonValue> {
        let mut json = Json::new();
        for (key, entry) in map {
            let name = match scalar::resolve(key) {
                Plain::Bool(it) if entry.plain => it.to_string(),
                Plain::Int(it) if entry.plain => it.to_string(),
                _ => key.to_string(),
            };
            let value = self.json(&entry.node);
            if json.insert(name, value).is_some() {
                let message = "the key is the same string as one before it";
                self.report.mistake(entry.place, message, Some("remove one of them".into()));
            }
        }
        json
    }

    fn json(&mut self, node: &Node<'a>) -> JsonValue {
        let scalar = match &node.value {
            Value::Map(map) => return JsonValue::Object(self.json_map(map)),
            Value::List(list) => {
                return JsonValue::Array(list.iter().map(|it| self.json(it)).collect());
            }
            Value::Scalar(scalar) => scalar,
        };
        match node.plain() {
            Some(Plain::Null) => JsonValue::Null,
            Some(Plain::Bool(it)) => JsonValue::Bool(it),
            Some(Plain::Int(it)) => Number::from_i128(it).map_or(JsonValue::Null, Into::into),
            Some(Plain::Float(it)) => {
                if !it.is_finite() {
                    self.wrong(node, "a value in `metadata`", "a number that is finite");
                }
                it.into()
            }
            Some(Plain::Text) | None => JsonValue::String(scalar.text.to_string()),
        }
    }
}
