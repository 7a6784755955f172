use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    descriptor::Entry,
    limit::{Algorithm, Hits, Limit, Span, Unit, Window, fixed_window},
    rules::{
        RuleTree,
        spec::{DescriptorSpec, DomainSpec},
    },
    time::Timestamp,
};

/// Lists of descriptors with unique composite keys. The name of each rule is its
/// position in the list.
fn lists() -> impl Strategy<Value = Vec<DescriptorSpec>> {
    let spec = |(key, value): (String, String)| {
        let rule = Some(RuleSpec::default());
        DescriptorSpec { key, value, rule, ..DescriptorSpec::default() }
    };
    let text = || "[ab_*]{1,3}";
    let element = (text(), prop_oneof![Just(String::new()), text().boxed()]).prop_map(spec);
    vec(element, 1..6).prop_map(|mut list| {
        let mut seen = HashSet::new();
        list.retain(|spec| seen.insert(spec.composite_key()));
        for (index, it) in list.iter_mut().enumerate() {
            it.rule.as_mut().expect("it has one").name = index.to_string().into();
        }
        list
    })
}

/// All texts of up to two characters from a small alphabet.
fn texts() -> Vec<String> {
    let letters = ["a", "b", "_", "c"];
    let two = letters.iter().flat_map(|a| letters.map(|b| format!("{a}{b}")));
    let mut texts: Vec<_> = two.collect();
    texts.extend(letters.map(str::to_owned));
    texts.push(String::new());
    texts
}

/// The position of the element that the compiled rules choose for an entry.
fn chosen(tree: &RuleTree, key: &str, value: &str) -> Option<usize> {
    let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
    let entry = Entry { key: bytes(key), value: bytes(value) };
    let rule = tree.domain(b"d")?.find(&[entry])?;
    rule.spec.name.parse().ok()
}

fn tree(descriptors: Vec<DescriptorSpec>) -> RuleTree {
    RuleTree::compile(vec![DomainSpec { domain: "d".into(), descriptors, http: None }])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_entry_reaches_a_covered_element(list in lists()) {
        let composites: Vec<_> = list.iter().map(DescriptorSpec::composite_key).collect();
        let keys = SiblingKeys::new(composites.iter().map(String::as_str));
        let tree = tree(list.clone());
        for (index, spec) in list.iter().enumerate() {
            if keys.cover(index, &spec.value).is_none() {
                continue;
            }
            let is_pattern = composites[index].contains('*');
            for value in texts() {
                for key in texts().iter().filter(|key| is_pattern || **key == spec.key) {
                    prop_assert_ne!(chosen(&tree, key, &value), Some(index), "{}={}", key, value);
                }
            }
        }
    }

    #[test]
    fn removing_an_element_that_diverts_nothing_changes_nothing(list in lists()) {
        let composites: Vec<_> = list.iter().map(DescriptorSpec::composite_key).collect();
        let keys = SiblingKeys::new(composites.iter().map(String::as_str));
        let with = tree(list.clone());
        for index in (0..list.len()).filter(|index| !keys.diverts(*index)) {
            let mut others = list.clone();
            others.remove(index);
            let without = tree(others);
            for value in texts() {
                for key in texts() {
                    if chosen(&with, &key, &value) == Some(index) {
                        let other = chosen(&without, &key, &value);
                        prop_assert_eq!(other, None, "{}={}", key, value);
                    }
                }
            }
        }
    }
}

fn fixed() -> impl Strategy<Value = LimitSpec> {
    let (requests, seconds) = (0_u32..5, 1_u32..7);
    (requests, seconds, any::<bool>(), any::<bool>()).prop_map(
        |(requests, seconds, all, counts)| {
            let seconds = std::num::NonZeroU32::new(seconds).expect("not zero");
            let window = Window::times(Unit::Second, seconds).expect("it is short");
            let algorithm = Algorithm::FixedWindow { count_denied: counts };
            let limit = Limit { algorithm, ..Limit::fixed(requests, window) };
            LimitSpec {
                limit,
                name: std::sync::Arc::default(),
                all_or_nothing: all,
                on_error: None,
            }
        },
    )
}

/// The window of a counter, and its count.
type Counter = (Option<Span>, u64);

/// Charges `hits` to one limit, and returns the new counter and whether the hits
/// pass.
fn charge(counter: Counter, spec: &LimitSpec, hits: Hits, now: Timestamp) -> (Counter, bool) {
    let span = Some(spec.limit.window.span(now, 0));
    let before = if counter.0 == span { counter.1 } else { 0 };
    let count_denied = spec.limit.algorithm == Algorithm::FixedWindow { count_denied: true };
    let step = fixed_window::step(before, hits, spec.limit.requests, count_denied);
    ((span, step.count), step.passes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn an_implied_limit_never_refuses_alone(
        outer in fixed(),
        inner in fixed(),
        calls in vec((0_u64..3, 0_u64..4, 0..5), 1..40),
    ) {
        if !implies(&outer, &inner) {
            return Ok(());
        }
        let (mut now, mut state) = (0, [(None, 0); 2]);
        for (wait, hits, refund) in calls {
            now += wait;
            let hits = if refund == 0 { Hits::Refund(hits) } else { Hits::Add(hits) };
            let now = Timestamp::from_secs(now);
            let (outside, outer_passes) = charge(state[0], &outer, hits, now);
            let (within, inner_passes) = charge(state[1], &inner, hits, now);
            prop_assert!(inner_passes || !outer_passes);
            state[0] = outside;
            if outer_passes || !inner.all_or_nothing {
                state[1] = within;
            }
        }
    }
}

#[track_caller]
fn check_covers(pattern: &str, other: &str, expected: bool) {
    assert_eq!(covers(&Pattern::new(pattern.as_bytes()), other), expected, "{pattern} {other}");
}

#[test]
fn a_pattern_covers_more_specific_patterns() {
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
