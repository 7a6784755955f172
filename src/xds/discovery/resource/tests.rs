use std::{collections::HashSet, fmt::Write};

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    config::{self, CompileOptions, SourceFile},
    rules::{Rule, RuleTree},
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

/// Without those that would be the same as one before.
fn distinct(mut list: Vec<RateLimitDescriptor>) -> Vec<RateLimitDescriptor> {
    let mut seen = HashSet::new();
    list.retain(|it| {
        let RateLimitDescriptor { key, value, .. } = it;
        seen.insert(if value.is_empty() { key.clone() } else { format!("{key}_{value}") })
    });
    list
}

/// The same rules in a file.
fn yaml(list: &[RateLimitDescriptor], indent: usize) -> String {
    let mut text = String::new();
    let pad = " ".repeat(indent);
    for it in list {
        let _ = writeln!(text, "{pad}- key: '{}'\n{pad}  value: '{}'", it.key, it.value);
        for (flag, is_set) in [
            ("shadow_mode", it.shadow_mode),
            ("quota_mode", it.quota_mode),
            ("detailed_metric", it.detailed_metric),
        ] {
            let _ = writeln!(text, "{pad}  {flag}: {is_set}");
        }
        if it.metadata.is_some() {
            let _ = writeln!(text, "{pad}  metadata: {{ a: '010' }}");
        }
        if let Some(limit) = &it.rate_limit {
            let what = match limit.unlimited {
                true => "unlimited: true".to_owned(),
                false => format!(
                    "unit: {}, requests_per_unit: {}",
                    limit.unit().as_str_name(),
                    limit.requests_per_unit
                ),
            };
            let replaces: Vec<_> =
                limit.replaces.iter().map(|it| format!("{{ name: '{}' }}", it.name)).collect();
            let (name, replaces) = (&limit.name, replaces.join(", "));
            let _ = writeln!(
                text,
                "{pad}  rate_limit: {{ {what}, name: '{name}', replaces: [{replaces}] }}"
            );
        }
        if !it.descriptors.is_empty() {
            text += &format!("{pad}  descriptors:\n{}", yaml(&it.descriptors, indent + 2));
        }
    }
    text
}

/// Everything but where a rule is written.
fn dump(rules: &RuleTree) -> Vec<String> {
    let line = |rule: &Rule| {
        let mut spec = rule.spec.clone();
        spec.location = "".into();
        format!("{}: {spec:?}", rule.stat_name())
    };
    rules.rules().iter().map(|it| line(it)).collect()
}

proptest! {
    #[test]
    fn a_message_and_a_file_that_say_the_same_are_the_same_rules(
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
    fn any_bytes_are_rules_or_a_reason(value in vec(any::<u8>(), 0..200)) {
        let any = Any { type_url: TYPE_URL.into(), value };
        if let Ok(trees) = trees(vec![any]) {
            let _ = config::compile_trees(&trees, CompileOptions::default()).map_err(|it| it.to_string());
        }
    }
}

#[test]
fn resources_stand_in_the_order_of_their_names() {
    let any = |name: &str| {
        let config = RateLimitConfig { name: name.into(), ..RateLimitConfig::default() };
        Any { type_url: TYPE_URL.into(), value: config.encode_to_vec() }
    };
    let trees = trees(vec![any("b"), any(""), any("a")]).unwrap();
    let names: Vec<_> = trees.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "resources[1]"]);
}

#[test]
fn what_is_no_resource_of_ours_is_refused_by_its_place() {
    let bad = Any { type_url: TYPE_URL.into(), value: vec![0xff] };
    assert!(trees(vec![bad]).unwrap_err().starts_with("resources[0] cannot be decoded: "));
    let other = Any { type_url: "type.googleapis.com/other".into(), value: Vec::new() };
    let expected =
        format!("resources[0] is of the type \"type.googleapis.com/other\", expected {TYPE_URL}");
    assert_eq!(trees(vec![other]).unwrap_err(), expected);
}

#[test]
fn units_and_numbers_that_mean_nothing_are_refused() {
    let limit = |unit| RateLimitDescriptor {
        key: "a".into(),
        rate_limit: Some(RateLimitPolicy { unit, ..RateLimitPolicy::default() }),
        ..RateLimitDescriptor::default()
    };
    let mistake = |unit| {
        let tree = tree(
            RateLimitConfig {
                name: "n".into(),
                domain: "d".into(),
                descriptors: vec![limit(unit)],
            },
            0,
        );
        let mistakes = config::compile_trees(&[tree], CompileOptions::default()).unwrap_err();
        mistakes.first().to_string()
    };
    let none = mistake(0);
    assert!(none.starts_with("n: descriptors[0].rate_limit: the limit has no `unit`"), "{none}");
    let unknown = mistake(42);
    assert!(unknown.contains("descriptors[0].rate_limit.unit: `42` is not a unit"), "{unknown}");
}
