use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    descriptor::Entry,
    rules::{
        RuleTree,
        spec::{DescriptorSpec, DomainSpec},
    },
};

/// Lists of different composite keys, as keys and values.
fn lists() -> impl Strategy<Value = Vec<DescriptorSpec>> {
    let spec = |(key, value): (String, String)| {
        let rule = Some(RuleSpec::default());
        DescriptorSpec { key, value, rule, ..DescriptorSpec::default() }
    };
    let text = || "[ab_*]{1,3}";
    let element = (text(), prop_oneof![Just(String::new()), text().boxed()]).prop_map(spec);
    vec(element, 1..6).prop_map(|mut list| {
        let mut seen = HashSet::new();
        list.retain(|it| seen.insert(it.composite_key()));
        for (index, it) in list.iter_mut().enumerate() {
            it.rule.as_mut().expect("it has one").name = index.to_string().into();
        }
        list
    })
}

/// All short texts.
fn texts() -> Vec<String> {
    let letters = ["a", "b", "_", "c"];
    let two = letters.iter().flat_map(|a| letters.map(|b| format!("{a}{b}")));
    let mut texts: Vec<_> = two.collect();
    texts.extend(letters.map(str::to_owned));
    texts.push(String::new());
    texts
}

/// Which element of `list` takes the entry, by the rules that requests meet.
fn taker(tree: &RuleTree, key: &str, value: &str) -> Option<usize> {
    let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
    let entry = Entry { key: bytes(key), value: bytes(value) };
    let rule = tree.domain(b"d")?.find(&[entry])?;
    rule.spec.name.parse().ok()
}

fn tree(descriptors: Vec<DescriptorSpec>) -> RuleTree {
    RuleTree::compile(vec![DomainSpec { domain: "d".into(), descriptors }])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_entry_reaches_what_is_called_out_of_reach(list in lists()) {
        let composites: Vec<_> = list.iter().map(DescriptorSpec::composite_key).collect();
        let level = Level::new(composites.iter().map(String::as_str));
        let tree = tree(list.clone());
        for (index, spec) in list.iter().enumerate() {
            if level.cover(index, spec.value.is_empty()).is_none() {
                continue;
            }
            let is_pattern = composites[index].contains('*');
            for value in texts() {
                for key in texts().iter().filter(|it| is_pattern || **it == spec.key) {
                    prop_assert_ne!(taker(&tree, key, &value), Some(index), "{}={}", key, value);
                }
            }
        }
    }

    #[test]
    fn what_is_called_without_effect_keeps_nothing_away(list in lists()) {
        let composites: Vec<_> = list.iter().map(DescriptorSpec::composite_key).collect();
        let level = Level::new(composites.iter().map(String::as_str));
        let with = tree(list.clone());
        for index in (0..list.len()).filter(|it| !level.diverts(*it)) {
            let mut others = list.clone();
            others.remove(index);
            let without = tree(others);
            for value in texts() {
                for key in texts() {
                    if taker(&with, &key, &value) == Some(index) {
                        let other = taker(&without, &key, &value);
                        prop_assert_eq!(other, None, "{}={}", key, value);
                    }
                }
            }
        }
    }
}

#[track_caller]
fn check_covers(pattern: &str, other: &str, expected: bool) {
    assert_eq!(covers(&Pattern::new(pattern.as_bytes()), other), expected, "{pattern} {other}");
}

#[test]
fn a_pattern_covers_those_that_say_more() {
    check_covers("a_*", "a_x*", true);
    check_covers("a_*", "a_*x*y", true);
    check_covers("a_x*", "a_*", false);
    check_covers("a_*x*", "a_x*", true);
    check_covers("a_*x", "a_x*", false);
    check_covers("*", "a*", true);
    check_covers("*_*", "a*", true);
    check_covers("a*_*", "a*", true);
    check_covers("a_*", "a*", false);
    check_covers("*_*b*", "*b*", false);
}
