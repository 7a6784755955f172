//! Rule files with anchors, `<<` and tags, and the rules that the reference service makes
//! of them.
//!
//! The files in `merges.jsonl` are random. Their results were recorded from the YAML
//! library of the reference, which decoded them into the shape of its rules.

use serde_json::{Value, json};
use tollgate::{
    config::{self, CompileOptions, SourceFile},
    rules::Rule,
};

#[test]
fn merged_rules_are_those_of_the_reference() {
    let (mut accepted, mut refused) = (0, 0);
    for line in include_str!("merges.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["yaml"].as_str().unwrap();
        let rules = compile(text);
        if case["error"] == "" {
            accepted += 1;
            assert_eq!(rules.as_ref(), Ok(&case["rules"]), "{text}");
        } else {
            refused += 1;
            assert!(rules.is_err(), "{text}\nis refused by the reference: {}", case["error"]);
        }
    }
    assert!(accepted > 100 && refused > 30, "{accepted} and {refused}");
}

fn compile(text: &str) -> Result<Value, String> {
    let file = SourceFile { name: "rules".into(), bytes: text.into() };
    let compiled = config::compile(&[file], CompileOptions::default());
    let compiled = compiled.map_err(|errors| errors.to_string())?;
    Ok(compiled.rules.rules().iter().map(|rule| describe(rule)).collect())
}

fn describe(rule: &Rule) -> Value {
    let spec = &rule.spec;
    let limit = spec.limits.first();
    let replaces: Vec<&str> = spec.replaces.iter().map(|name| &**name).collect();
    json!({
        "rule": rule.name(),
        "limit": limit.map(|it| format!("{}/{}", it.limit.requests, it.limit.window.unit().name())),
        "name": limit.map_or(&*spec.name, |limit| &*limit.name),
        "replaces": replaces,
        "flags": [spec.shadow_mode, spec.quota_mode, spec.detailed_metric],
        "metadata": spec.metadata.as_deref().map(|it| in_protobuf(&Value::Object(it.clone()))),
    })
}

/// The value as protobuf has it, where every number is a float.
fn in_protobuf(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(in_protobuf).collect(),
        Value::Object(map) => {
            let map = map.iter().map(|(key, value)| (key.clone(), in_protobuf(value)));
            Value::Object(map.collect())
        }
        other => other.clone(),
    }
}
