use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    super::{
        RuleTree,
        spec::DescriptorSpec,
        tests::{entries, leaf, node, tree, trees},
    },
    *,
};

/// The explanation as text: for each level the elements tried, then the end, the shadowed
/// rules and the advice.
fn explained(tree: &RuleTree, descriptor: &str) -> String {
    let domain = tree.domain(b"d").unwrap();
    let explanation = domain.explain(&entries(descriptor));
    let mut text = String::new();
    for level in &explanation.levels {
        for Tried { element, result } in &level.tried {
            text += &format!("{} {result:?}, ", element.composite_key());
        }
    }
    text += "| ";
    text += explanation.end.name();
    for Shadowed { element, chosen, rule, .. } in explanation.shadowed {
        let (element, chosen) = (element.composite_key(), chosen.composite_key());
        text += &format!("; {chosen} shadows {element} of {}", rule.spec.name);
    }
    for advice in &explanation.advice {
        text += &format!("; {}", advised(advice));
    }
    text
}

fn advised(advice: &Advice<'_>) -> String {
    match advice {
        Advice::Similar(NearElement { element, part, difference, .. }) => {
            format!("{part:?} like {}: {difference:?}", element.composite_key())
        }
        Advice::Deeper(paths) => format!("deeper: {}", rules(paths)),
        Advice::Order { order, rule } => format!("order {order:?}: {}", rule.spec.name),
        Advice::Part { entries, rule } => format!("part {entries:?}: {}", rule.spec.name),
        Advice::Elsewhere { paths, .. } => format!("elsewhere: {}", rules(paths)),
        Advice::OtherValues { elements, unlisted, .. } => {
            let values: Vec<_> = elements.iter().map(|element| element.value()).collect();
            format!("other values: {} and {unlisted}", values.join(" "))
        }
        Advice::Known { elements, unlisted, .. } => {
            let keys: Vec<_> = elements.iter().map(|element| element.composite_key()).collect();
            format!("known: {} and {unlisted}", keys.join(" "))
        }
    }
}

fn rules(paths: &[RulePath<'_>]) -> String {
    let mut text = String::new();
    for RulePath { elements, rule } in paths {
        let keys: Vec<_> = elements.iter().map(|element| element.composite_key()).collect();
        text += &format!("{} ({})", keys.join("."), rule.spec.name);
    }
    text
}

fn shop() -> RuleTree {
    let cluster = "outbound|80||shop.svc";
    let rules = vec![
        leaf("path", "/api/*", "api"),
        leaf("path", "/api/v1*", "v1"),
        leaf("path", "", "any path"),
        node("path", "/login", vec![leaf("address", "", "login")]),
        node("tenant", "", vec![leaf("user", "ann", "ann"), leaf("user", "", "user")]),
        leaf("destination_cluster", cluster, "cluster"),
    ];
    tree("d", rules)
}

#[test]
fn the_elements_are_told_in_the_order_of_the_lookup() {
    let cases = [
        (
            "path=/api/v1",
            "path_/api/* Chosen(Pattern), path_/api/v1* Later(Pattern), \
          path Later(AnyValue), | rule; path_/api/* shadows path_/api/v1* of v1",
        ),
        (
            "path=/x",
            "path_/api/* Unmatched, path_/api/v1* Unmatched, path Chosen(AnyValue), | rule",
        ),
        (
            "tenant=a user=ann",
            "tenant Chosen(AnyValue), user_ann Chosen(Value), user Later(AnyValue), | rule; \
          user_ann shadows user of user",
        ),
        ("", "| no_entries"),
    ];
    for (descriptor, expected) in cases {
        assert_eq!(explained(&shop(), descriptor), expected, "{descriptor}");
    }
}

/// Checks the end of the explanation of each descriptor, from the name of the end on.
#[track_caller]
fn check_advice(cases: &[(&str, &str)]) {
    for (descriptor, expected) in cases {
        let text = explained(&shop(), descriptor);
        let (_, advice) = text.split_once("| ").unwrap();
        assert_eq!(advice, *expected, "{descriptor}: {text}");
    }
}

#[test]
fn each_usual_mistake_is_found() {
    check_advice(&[
        (
            "path=/login",
            "no_limit; path_/login shadows path of any path; deeper: path_/login.address (login)",
        ),
        ("user=ann tenant=a", "no_element; order [1, 0]: ann"),
        ("tenant=a user=ann path=/x", "nothing_below; part [0, 1]: ann"),
        ("Tenant=a user=ann", "no_element; Key like tenant: Case"),
        (
            "destination_cluster=\"outbound|80||shop.svc\"",
            "no_element; Value like destination_cluster_outbound|80||shop.svc: Quotes",
        ),
        (
            "destination_cluster=outbound_80__shop_svc",
            "no_element; Value like destination_cluster_outbound|80||shop.svc: Punctuation",
        ),
        ("user=ann", "no_element; elsewhere: tenant.user_ann (ann)tenant.user (user)"),
        (
            "metal=tin",
            "no_element; known: destination_cluster_outbound|80||shop.svc path path_/api/* and 3",
        ),
        ("tenant=a", "no_limit; deeper: tenant.user_ann (ann)tenant.user (user)"),
    ]);
}

#[test]
fn a_slip_is_found_beside_the_element_that_matches() {
    let rules = vec![
        leaf("path", "/login", "login"),
        leaf("path", "/LOGIN/*", "below"),
        leaf("path", "/l*", "l"),
        leaf("path", "", "any"),
        leaf("Path", "", "other key"),
        node("tenant", "ann", vec![leaf("user", "", "user")]),
        leaf("tenant", "", "tenant"),
    ];
    let tree = tree("d", rules);
    for (descriptor, hint) in [
        ("path=/Login", "; Value like path_/login: Case"),
        ("path=\"/login\"", "; Value like path_/login: Quotes"),
        ("path=/lOGIN", "; Value like path_/login: Case"),
        ("Path=/login", "; Key like path_/login: Case"),
        ("path=/Login/x", "; Value like path_/LOGIN/*: Case"),
        ("tenant=Ann user=x", "; Value like tenant_ann: Case"),
    ] {
        let text = explained(&tree, descriptor);
        assert!(text.contains(hint), "{descriptor}: {text}");
    }
    for descriptor in ["path=/login", "path=/logi", "path=/x", "path=", "Path=/x", "tenant=bob"] {
        let text = explained(&tree, descriptor);
        assert!(!text.contains("like"), "{descriptor}: {text}");
    }
}

#[test]
fn a_pattern_with_the_text_of_the_entry_comes_first() {
    let tree = tree("d", ["/a*", "/a/*"].map(|value| leaf("path", value, "")).to_vec());
    let text = explained(&tree, "path=/a/*");
    assert!(text.starts_with("path_/a/* Chosen"), "{text}");
    assert!(!text.contains("path_/a* Unmatched"), "{text}");
}

#[test]
fn other_values_of_a_known_key_are_listed_the_nearest_first() {
    let mut rules = ["platinum", "gold*", "basic", "free"].map(|tier| leaf("tier", tier, ""));
    rules.reverse();
    let below = node("tenant", "", rules.clone().into());
    let tree = tree("d", [rules.to_vec(), vec![below]].concat());
    let expected = "tier_gold* Unmatched, | no_element; other values: gold* free basic and 1";
    assert_eq!(explained(&tree, "tier=gilt"), expected);
    let text = explained(&tree, "tenant=a tier=gilt");
    assert!(text.contains("other values: gold* free basic and 1"), "{text}");
}

#[test]
fn an_empty_domain_has_no_advice() {
    assert_eq!(explained(&tree("d", Vec::new()), "a=b"), "| no_element");
}

#[test]
fn an_element_with_the_same_value_comes_first() {
    let rules = ["ann1", "ann2", "ann3"].map(|value| leaf("user", value, ""));
    let tree = tree("d", rules.into());
    let expected = "| no_element; Key like user_ann2: Spelling; Key like user_ann1: Spelling; \
                    Key like user_ann3: Spelling";
    assert_eq!(explained(&tree, "usr=ann2"), expected);
}

#[test]
fn many_patterns_are_counted_but_not_listed() {
    let patterns: Vec<_> = (0..30).map(|it| leaf("a", &format!("{it}*x"), "")).collect();
    let tree = tree("d", patterns);
    let explanation = tree.domain(b"d").unwrap().explain(&entries("a=y"));
    let level = &explanation.levels[0];
    assert_eq!((level.tried.len(), level.unlisted, level.size), (20, 10, 30));
}

#[test]
fn all_orders_are_tried() {
    let mut order = [0, 1, 2];
    let mut orders = vec![order];
    while advice::next_permutation(&mut order) {
        orders.push(order);
    }
    let expected = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    assert_eq!(orders, expected);
}

/// Removes the element at the end of `path`, which are composite keys from the root on.
fn remove(list: &mut Vec<DescriptorSpec>, path: &[&str]) {
    match path {
        [] => {}
        [last] => list.retain(|spec| spec.composite_key() != *last),
        [first, rest @ ..] => {
            for spec in list {
                if spec.composite_key() == *first {
                    remove(&mut spec.descriptors, rest);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn the_explained_rule_is_the_rule_that_decides(
        list in trees(),
        descriptors in vec(vec(("[ab_*]{0,3}", "[ab_*]{0,3}"), 0..4), 8),
    ) {
        let tree = tree("d", list);
        let domain = tree.domain(b"d").unwrap();
        for descriptor in descriptors {
            let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
            let entries: Vec<_> =
                descriptor.iter().map(|(k, v)| Entry { key: bytes(k), value: bytes(v) }).collect();
            let explanation = domain.explain(&entries);
            let decided = domain.find(&entries).map(|rule| rule.index);
            prop_assert_eq!(explanation.end.rule().map(|rule| rule.index), decided);
            let steps = domain.lookup(&entries).steps;
            let mut chosen = Vec::new();
            for level in &explanation.levels {
                chosen.extend(level.tried.iter().filter_map(|tried| match tried.result {
                    TriedResult::Chosen(by) => Some((std::ptr::from_ref(tried.element), by)),
                    _ => None,
                }));
            }
            let steps: Vec<_> =
                steps.iter().map(|step| (std::ptr::from_ref(step.element), step.by)).collect();
            prop_assert_eq!(chosen, steps);
            for advice in &explanation.advice {
                if let Advice::Order { order: indexes, rule } | Advice::Part { entries: indexes, rule } = advice {
                    let other: Vec<_> = indexes.iter().map(|index| entries[*index].clone()).collect();
                    prop_assert_eq!(domain.find(&other).map(|rule| rule.index), Some(rule.index));
                }
            }
        }
    }

    #[test]
    fn a_shadowed_rule_applies_without_the_element_before_it(
        list in trees(),
        descriptor in vec(("[ab_*]{0,3}", "[ab_*]{0,3}"), 1..4),
    ) {
        let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
        let entries: Vec<_> =
            descriptor.iter().map(|(k, v)| Entry { key: bytes(k), value: bytes(v) }).collect();
        let whole = tree("d", list.clone());
        let explanation = whole.domain(b"d").unwrap().explain(&entries);
        let path: Vec<_> = explanation.chosen().map(Element::composite_key).collect();
        for shadowed in &explanation.shadowed {
            prop_assert_eq!(shadowed.chosen.composite_key(), path[shadowed.entry]);
            let mut others = list.clone();
            remove(&mut others, &path[..=shadowed.entry]);
            let others = tree("d", others);
            let decided = others.domain(b"d").unwrap().find(&entries);
            prop_assert_eq!(decided.map(|rule| &rule.spec.name), Some(&shadowed.rule.spec.name));
        }
    }
}
