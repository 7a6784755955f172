use std::{collections::HashSet, fmt::Write};

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    rules::RuleTree,
    xds::discovery::pb::ratelimit::config::ratelimit::v3::RateLimitReplace,
};

fn policies() -> impl Strategy<Value = RateLimitPolicy> {
    let limit = (1..8, any::<u32>(), any::<bool>(), "[a-z]{0,2}", vec("[A-Z]{1,2}", 0..3));
    limit.prop_map(|(unit, requests, unlimited, name, replaces)| RateLimitPolicy {
        unit: if unlimited { 0 } else { unit },
        requests_per_unit: if unlimited { 0 } else { requests },
        unlimited,
        name,
        replaces: replaces.into_iter().map(|name| RateLimitReplace { name }).collect(),
    })
}

fn descriptors() -> impl Strategy<Value = RateLimitDescriptor> {
    let text = || "[a-c/_*.:-]{1,4}|true|010|1\\.5|~";
    let node = (text(), option::of(text()), option::of(policies()), any::<[bool; 4]>());
    let node =
        node.prop_map(|(key, value, rate_limit, [shadow_mode, quota_mode, detail, meta])| {
            let metadata = meta.then(|| metadata(&[("a".into(), "010".into())])).flatten();
            RateLimitDescriptor {
                key,
                value: value.unwrap_or_default(),
                rate_limit,
                shadow_mode,
                quota_mode,
                detailed_metric: detail,
                metadata,
                descriptors: Vec::new(),
            }
        });
    node.prop_recursive(4, 24, 4, |below| {
        (below.clone(), vec(below, 0..4)).prop_map(|(mut node, descriptors)| {
            node.descriptors = distinct(descriptors);
            node
        })
    })
}

/// Removes descriptors that equal an earlier one.
fn distinct(mut list: Vec<RateLimitDescriptor>) -> Vec<RateLimitDescriptor> {
    let mut seen = HashSet::new();
    list.retain(|descriptor| {
        let RateLimitDescriptor { key, value, .. } = descriptor;
        seen.insert(if value.is_empty() { key.clone() } else { format!("{key}_{value}") })
    });
    list
}

/// The same rules in a file.
fn yaml(list: &[RateLimitDescriptor], indent: usize) -> String {
    let mut text = String::new();
    let pad = " ".repeat(indent);
    for descriptor in list {
        let value = match descriptor.value.as_str() {
            "" => "~".to_owned(),
            value => format!("'{value}'"),
        };
        let _ = writeln!(text, "{pad}- key: '{}'\n{pad}  value: {value}", descriptor.key);
        for (flag, is_set) in [
            ("shadow_mode", descriptor.shadow_mode),
            ("quota_mode", descriptor.quota_mode),
            ("detailed_metric", descriptor.detailed_metric),
        ] {
            let _ = writeln!(text, "{pad}  {flag}: {is_set}");
        }
        if descriptor.metadata.is_some() {
            let _ = writeln!(text, "{pad}  metadata: {{ a: '010' }}");
        }
        if let Some(limit) = &descriptor.rate_limit {
            let rate = if limit.unlimited {
                "unlimited: true".to_owned()
            } else {
                let unit = limit.unit().as_str_name();
                format!("unit: {unit}, requests_per_unit: {}", limit.requests_per_unit)
            };
            let mut replaces = Vec::new();
            for replaced in &limit.replaces {
                replaces.push(format!("{{ name: '{}' }}", replaced.name));
            }
            let (name, replaces) = (&limit.name, replaces.join(", "));
            let _ = writeln!(
                text,
                "{pad}  rate_limit: {{ {rate}, name: '{name}', replaces: [{replaces}] }}"
            );
        }
        if !descriptor.descriptors.is_empty() {
            text += &format!("{pad}  descriptors:\n{}", yaml(&descriptor.descriptors, indent + 2));
        }
    }
    text
}

/// The rules without their locations in files.
fn dump(rules: &RuleTree) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in rules.rules() {
        let mut spec = rule.spec.clone();
        spec.location = "".into();
        lines.push(format!("{}: {spec:?}", rule.stat_name()));
    }
    lines
}

proptest! {
    #[test]
    fn equal_messages_and_files_become_equal_rules(
        list in vec(descriptors(), 0..6).prop_map(distinct)
    ) {
        let bytes = format!("domain: 'a/b'\ndescriptors:\n{}", yaml(&list, 0)).into_bytes();
        let file = SourceFile { name: "r.yaml".into(), bytes };
        let by_file = config::compile(&[file], CompileOptions::default()).unwrap();

        let config = RateLimitConfig { name: "r".into(), domain: "a/b".into(), descriptors: list };
        let any = Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() };
        let trees = trees(vec![any]).unwrap();
        let by_message = config::compile_trees(&trees, CompileOptions::default()).unwrap();
        prop_assert_eq!(dump(&by_message.rules), dump(&by_file.rules));
        prop_assert_eq!(by_message.warnings.len(), by_file.warnings.len());
    }

    #[test]
    fn any_bytes_become_rules_or_an_error(value in vec(any::<u8>(), 0..200)) {
        let any = Any { type_url: TYPE_URL.into(), value };
        if let Ok(trees) = trees(vec![any]) {
            let _ = config::compile_trees(&trees, CompileOptions::default()).map_err(|error| error.to_string());
        }
    }
}

#[test]
fn trees_are_sorted_by_resource_name() {
    let any = |name: &str| {
        let config = RateLimitConfig { name: name.into(), ..RateLimitConfig::default() };
        Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() }
    };
    let trees = trees(vec![any("b"), any(""), any("a")]).unwrap();
    let names: Vec<_> = trees.iter().map(|tree| tree.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "resources[1]"]);
}

#[test]
fn an_error_names_the_position_of_a_wrong_resource() {
    let bad = Any { type_url: TYPE_URL.into(), value: vec![0xff] };
    assert!(trees(vec![bad]).unwrap_err().starts_with("resources[0] cannot be decoded: "));
    let other = Any { type_url: "type.googleapis.com/other".into(), value: Vec::new() };
    let expected =
        format!("resources[0] is of the type \"type.googleapis.com/other\", expected {TYPE_URL}");
    assert_eq!(trees(vec![other]).unwrap_err(), expected);
}

#[test]
fn missing_and_unknown_units_are_rejected() {
    let limit = |unit| RateLimitDescriptor {
        key: "a".into(),
        rate_limit: Some(RateLimitPolicy { unit, ..RateLimitPolicy::default() }),
        ..RateLimitDescriptor::default()
    };
    let first_error = |unit| {
        let tree = tree(
            RateLimitConfig {
                name: "n".into(),
                domain: "d".into(),
                descriptors: vec![limit(unit)],
            },
            0,
        );
        let errors = config::compile_trees(&[tree], CompileOptions::default()).unwrap_err();
        errors.first().to_string()
    };
    let missing = first_error(0);
    assert!(
        missing.starts_with("n: descriptors[0].rate_limit: the limit has no `unit`"),
        "{missing}"
    );
    let unknown = first_error(42);
    assert!(unknown.contains("descriptors[0].rate_limit.unit: `42` is not a unit"), "{unknown}");
}
