use std::collections::HashSet;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    pattern::Pattern,
    spec::{DescriptorSpec, LimitSpec, RuleSpec},
    *,
};
use crate::{
    counter::{KeyFormat, KeyStyle},
    limit::{Limit, Unit, Window},
    time::Timestamp,
};

pub(super) fn node(key: &str, value: &str, descriptors: Vec<DescriptorSpec>) -> DescriptorSpec {
    let (key, value) = (key.to_owned(), value.to_owned());
    DescriptorSpec { key, value, descriptors, ..DescriptorSpec::default() }
}

/// A descriptor with a limit. `name` is the name of its rule.
pub(super) fn leaf(key: &str, value: &str, name: &str) -> DescriptorSpec {
    limited(node(key, value, Vec::new()), name)
}

fn limited(spec: DescriptorSpec, name: &str) -> DescriptorSpec {
    let limits = vec![LimitSpec {
        limit: Limit::fixed(1, Window::new(Unit::Second)),
        name: Arc::default(),
        all_or_nothing: false,
        on_error: None,
    }];
    let rule = Some(RuleSpec { limits, name: name.into(), ..RuleSpec::default() });
    DescriptorSpec { rule, ..spec }
}

fn to_metric(spec: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { value_to_metric: true, ..spec }
}

fn shared(spec: DescriptorSpec) -> DescriptorSpec {
    DescriptorSpec { share_threshold: true, ..spec }
}

fn detailed(mut spec: DescriptorSpec) -> DescriptorSpec {
    spec.rule.as_mut().expect("it has a limit").detailed_metric = true;
    spec
}

pub(super) fn tree(domain: &str, descriptors: Vec<DescriptorSpec>) -> RuleTree {
    RuleTree::compile(vec![DomainSpec { domain: domain.into(), descriptors, http: None }])
}

/// Parses entries such as `key=value key=value`.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("a pair"));
    pairs.map(|(key, value)| Entry { key: bytes(key), value: bytes(value) }).collect()
}

fn find<'a>(tree: &'a RuleTree, text: &str) -> Option<&'a Arc<Rule>> {
    tree.domains.values().next().expect("a domain").find(&entries(text))
}

/// Checks the name of the rule that applies to each descriptor.
#[track_caller]
fn check(descriptors: Vec<DescriptorSpec>, cases: &[(&str, &str)]) {
    let tree = tree("d", descriptors);
    for (descriptor, expected) in cases {
        let found = find(&tree, descriptor).map_or("none", |rule| &rule.spec.name);
        assert_eq!(found, *expected, "{descriptor}");
    }
}

#[test]
fn a_value_comes_before_a_pattern_and_a_pattern_before_the_key_alone() {
    let rules = vec![leaf("a", "", "any"), leaf("a", "x*", "pattern"), leaf("a", "xy", "exact")];
    let cases = [("a=xy", "exact"), ("a=xz", "pattern"), ("a=", "any"), ("a=y", "any")];
    check(rules, &cases);
}

#[test]
fn the_first_matching_pattern_wins() {
    let rules = vec![leaf("a", "x*", "short"), leaf("a", "xyz*", "long"), leaf("b", "*", "other")];
    check(rules, &[("a=xyzz", "short"), ("a=y", "none")]);
}

#[test]
fn an_entry_like_a_pattern_comes_before_earlier_patterns() {
    let rules =
        || vec![leaf("path", "*", "all"), leaf("path", "/api/*", "api"), leaf("pa*h", "", "keys")];
    check(rules(), &[("path=/api/*", "api"), ("path=/api/1", "all"), ("path=*", "all")]);
    let keys = || vec![leaf("*", "", "all"), leaf("a*", "b", "literal")];
    check(keys(), &[("a*=b", "literal"), ("ax=b", "all"), ("a*=c", "all")]);
    // The last lookup is one for the text of the key, too.
    check(vec![leaf("*", "a", "joined")], &[("*_a=", "joined"), ("*_a=b", "joined")]);
}

#[test]
fn a_lookup_does_not_backtrack() {
    let rules = vec![
        node("a", "x", vec![leaf("b", "1", "exact")]),
        node("a", "p*", vec![leaf("b", "2", "pattern")]),
        node("a", "", vec![leaf("b", "", "any")]),
    ];
    let cases = [
        ("a=x b=1", "exact"),
        ("a=x b=2", "none"),
        ("a=p b=2", "pattern"),
        ("a=p b=1", "none"),
        ("a=z b=1", "any"),
    ];
    check(rules, &cases);
}

#[test]
fn a_rule_matches_descriptors_of_its_own_length() {
    let rules = vec![limited(node("a", "", vec![leaf("b", "", "below")]), "above")];
    let cases = [("a=1", "above"), ("a=1 b=2", "below"), ("a=1 c=2", "none"), ("b=2", "none")];
    check(rules, &cases);
    check(vec![leaf("a", "", "a")], &[("a=1 b=2", "none"), ("", "none")]);
}

#[test]
fn an_element_without_a_limit_exempts_its_value() {
    let rules = vec![leaf("a", "", "any"), node("a", "friend", vec![]), node("a", "f*", vec![])];
    check(rules, &[("a=friend", "none"), ("a=foe", "none"), ("a=other", "any")]);
}

#[test]
fn a_star_may_be_anywhere_and_match_nothing() {
    let rules = vec![
        leaf("path", "/*/img/*.png", "middle"),
        leaf("path", "/static*", "end"),
        leaf("h*st", "", "key"),
    ];
    let cases = [
        ("path=/x/img/y.png", "middle"),
        ("path=//img/.png", "middle"),
        ("path=/x/img/y.jpg", "none"),
        ("path=/static", "end"),
        ("path=x/static", "none"),
        // A pattern sees key and value as one text, and has to reach its end.
        ("host=x", "none"),
        ("host=best", "key"),
    ];
    check(rules, &cases);
}

#[test]
fn a_star_may_match_the_underscore_between_key_and_value() {
    check(vec![leaf("a", "*", "a")], &[("a=", "a"), ("a_b=c", "a"), ("ab=c", "none")]);
}

#[test]
fn keys_and_values_are_joined_with_an_underscore() {
    let cases = [("a_b=x", "any"), ("a=b", "any"), ("a=b_c", "none")];
    check(vec![leaf("a_b", "", "any")], &cases);
    let cases = [("a=b_c", "exact"), ("a_b=c", "exact"), ("a_b_c=x", "exact"), ("a=b", "none")];
    check(vec![leaf("a", "b_c", "exact")], &cases);
}

#[test]
fn an_unknown_domain_has_no_rules() {
    let tree = tree("d", vec![leaf("a", "", "a")]);
    assert!(tree.domain(b"e").is_none());
    assert_eq!((tree.domain_count(), tree.rules().len()), (1, 1));
}

#[track_caller]
fn check_counter(descriptors: Vec<DescriptorSpec>, descriptor: &str, expected: &str) {
    let tree = tree("domain", descriptors);
    let format = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    let rule = find(&tree, descriptor).expect("a rule");
    let limit = &rule.spec.limits[0].limit;
    let counter = rule.counter(limit, &format, &entries(descriptor), Timestamp::from_secs(1234));
    assert_eq!(String::from_utf8_lossy(counter.key.as_bytes()), expected);
}

#[test]
fn each_value_has_a_counter_unless_the_threshold_is_shared() {
    let files = || leaf("files", "files/*", "files");
    check_counter(vec![files()], "files=files/a", "domain_files_files/a_1234");
    check_counter(vec![shared(files())], "files=files/a", "domain_files_files/*_1234");
    let nested = || {
        let types = node("file", "file/*", vec![leaf("type", "", "type")]);
        vec![shared(node("path", "path/*", vec![shared(types)]))]
    };
    let expected = "domain_path_path/*_file_file/*_type_pdf_1234";
    check_counter(nested(), "path=path/1 file=file/2 type=pdf", expected);
    let repeated = vec![shared(node("k", "a*", vec![leaf("k", "b*", "b")]))];
    check_counter(repeated, "k=a1 k=b1", "domain_k_a*_k_b1_1234");
    check_counter(vec![leaf("a", "", "a")], "a=x", "domain_a_x_1234");
    let in_key = || vec![shared(leaf("route/*", "", "routes"))];
    check_counter(in_key(), "route/1=x", "domain_route/1_route/*_1234");
    let in_both = || vec![shared(leaf("pa*", "x*", "both"))];
    check_counter(in_both(), "path=x1", "domain_path_pa*_x*_1234");
    check_counter(in_both(), "pa*=x1", "domain_pa*_x*_1234");
    let across = || vec![shared(leaf("a", "*", "across"))];
    check_counter(across(), "a_b=c", "domain_a_b_a_*_1234");
}

#[test]
fn a_shared_counter_differs_from_that_of_a_value_like_its_pattern() {
    let rules = tree("d", vec![shared(leaf("a", "x*", "shared")), leaf("b", "", "any")]);
    let key = |descriptor: &str| {
        let rule = find(&rules, descriptor).expect("a rule");
        let limit = &rule.spec.limits[0].limit;
        rule.counter(limit, &KeyFormat::default(), &entries(descriptor), Timestamp::from_secs(0))
            .key
    };
    assert_eq!(key("a=x1"), key("a=x2"));
    assert_ne!(key("b=x1"), key("b=x2"));
}

#[test]
fn the_limits_of_a_rule_have_separate_counters_in_every_key_style() {
    let mut spec = leaf("a", "", "a");
    let limits = &mut spec.rule.as_mut().expect("it has a rule").limits;
    let minute =
        LimitSpec { limit: Limit::fixed(9, Window::new(Unit::Minute)), ..limits[0].clone() };
    limits.push(minute);
    let tree = tree("d", vec![spec]);
    let rule = find(&tree, "a=x").expect("a rule");
    for style in [KeyStyle::Unambiguous, KeyStyle::Reference] {
        let format = KeyFormat { style, ..KeyFormat::default() };
        // Where a second and a minute begin at the same time.
        let now = Timestamp::from_secs(60);
        let counter = |it: &LimitSpec| rule.counter(&it.limit, &format, &entries("a=x"), now).key;
        assert_ne!(counter(&rule.spec.limits[0]), counter(&rule.spec.limits[1]));
    }
}

#[test]
fn a_rule_without_a_limit_applies_and_is_unlimited() {
    let mut unlimited = leaf("a", "", "a");
    unlimited.rule.as_mut().expect("it has a rule").limits.clear();
    let tree = tree("d", vec![unlimited]);
    assert!(find(&tree, "a=x").expect("a rule").is_unlimited());
}

#[track_caller]
fn check_name(domain: &str, spec: DescriptorSpec, descriptor: &str, expected: &str) {
    let tree = tree(domain, vec![spec]);
    let rule = find(&tree, descriptor).expect("a rule");
    let of_request = rule.stat_name_for(&entries(descriptor));
    assert_eq!(of_request.as_ref().unwrap_or(rule.stat_name()).to_string(), expected);
}

#[test]
fn the_stat_name_is_the_rule_as_written_by_default() {
    let spec = node("k1", "", vec![leaf("k2", "v", "")]);
    check_name("d", spec, "k1=A k2=v", "d.k1.k2_v");
    check_name("test-domain", leaf("wild", "foo*", ""), "wild=foo1", "test-domain.wild_foo*");
    check_name("d", leaf("route/*", "", ""), "route/1=x", "d.route/*");
}

#[test]
fn value_to_metric_puts_the_value_into_the_stat_name() {
    let spec = to_metric(node("k1", "", vec![leaf("k2", "", "")]));
    check_name("d", spec, "k1=A k2=B", "d.k1_A.k2");

    let action = to_metric(node("action", "", vec![leaf("resource", "", "")]));
    let spec = to_metric(node("user", "", vec![action]));
    let descriptor = "user=alice action=readfile resource=x";
    check_name("domain", spec, descriptor, "domain.user_alice.action_readfile.resource");

    let method = to_metric(node("http_method", "", vec![to_metric(leaf("subject_id", "", ""))]));
    let spec = to_metric(node("route", "", vec![method]));
    let descriptor = "route= http_method=GET subject_id=";
    check_name("domain", spec, descriptor, "domain.route.http_method_GET.subject_id");

    let spec = to_metric(leaf("wild", "foo*", ""));
    check_name("d", spec, "wild=foo1", "d.wild_foo1");
}

#[test]
fn share_threshold_takes_precedence_over_the_metric_flags() {
    let spec = shared(to_metric(node("route", "api/*", vec![leaf("method", "", "")])));
    check_name("test-domain", spec, "route=api/1 method=GET", "test-domain.route_api/*.method");

    let spec = shared(node("service", "svc/*", vec![detailed(leaf("endpoint", "", ""))]));
    let descriptor = "service=svc/1 endpoint=get";
    check_name("test-domain", spec, descriptor, "test-domain.service_svc/*.endpoint_get");

    let files = shared(node("file", "file/*", vec![leaf("type", "", "")]));
    let spec = shared(node("path", "path/*", vec![files]));
    let descriptor = "path=path/1 file=file/2 type=pdf";
    check_name("test-domain", spec, descriptor, "test-domain.path_path/*.file_file/*.type");
}

#[test]
fn detailed_metric_puts_every_value_into_the_stat_name() {
    let spec = node("a", "", vec![detailed(leaf("b", "", ""))]);
    check_name("d", spec, "a=1 b=2", "d.a_1.b_2");
    check_name("d", detailed(leaf("a", "", "")), "a=", "d.a_");
    let above = to_metric(node("a", "", vec![detailed(leaf("b", "", ""))]));
    check_name("d", above, "a=1 b=", "d.a_1.b_");
}

/// Random lists of descriptors, in which every rule has a unique name.
pub(super) fn trees() -> impl Strategy<Value = Vec<DescriptorSpec>> {
    let key = || prop::sample::select(vec!["a", "b", "a_b", "b_a", "a*", "*", "*_b"]);
    let value = || prop::sample::select(vec!["", "a", "b", "b_a", "*", "a*", "*_*"]);
    let leaf = (key(), value(), any::<bool>()).prop_map(|(key, value, is_limited)| {
        let spec = node(key, value, Vec::new());
        if is_limited { limited(spec, "") } else { spec }
    });
    let list = vec(leaf, 0..6).prop_recursive(3, 64, 6, move |below| {
        let element = (key(), value(), any::<bool>(), below);
        vec(element, 0..6).prop_map(|elements| {
            let spec = |(key, value, is_limited, below)| {
                let spec = node(key, value, below);
                if is_limited { limited(spec, "") } else { spec }
            };
            elements.into_iter().map(spec).collect()
        })
    });
    list.prop_map(|mut list| {
        remove_duplicates_and_name_rules(&mut list, &mut 0);
        list
    })
}

fn remove_duplicates_and_name_rules(list: &mut Vec<DescriptorSpec>, count: &mut usize) {
    let mut seen = HashSet::new();
    list.retain(|spec| seen.insert(spec.composite_key()));
    for spec in list {
        if let Some(rule) = &mut spec.rule {
            *count += 1;
            rule.name = count.to_string().into();
        }
        remove_duplicates_and_name_rules(&mut spec.descriptors, count);
    }
}

/// The definition of [`Domain::find`].
fn find_by_definition<'a>(
    list: &'a [DescriptorSpec],
    entries: &[(String, String)],
) -> Option<&'a RuleSpec> {
    let ((key, value), rest) = entries.split_first()?;
    let joined = format!("{key}_{value}");
    let is_pattern = |it: &&DescriptorSpec| it.composite_key().contains('*');
    let named = |name: &str| list.iter().find(|spec| spec.composite_key() == name);
    let matches = |it: &DescriptorSpec| {
        Pattern::new(it.composite_key().as_bytes()).matches(joined.as_bytes())
    };
    let found = named(&joined)
        .or_else(|| list.iter().filter(is_pattern).find(|spec| matches(spec)))
        .or_else(|| named(key))?;
    if rest.is_empty() { found.rule.as_ref() } else { find_by_definition(&found.descriptors, rest) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_lookup_agrees_with_its_definition(
        list in trees(),
        descriptors in vec(vec(("[ab_*]{0,3}", "[ab_*]{0,3}"), 0..4), 8),
    ) {
        let tree = tree("d", list.clone());
        for descriptor in descriptors {
            let bytes = |it: &str| Bytes::copy_from_slice(it.as_bytes());
            let entries: Vec<_> =
                descriptor.iter().map(|(k, v)| Entry { key: bytes(k), value: bytes(v) }).collect();
            let found = tree.domain(b"d").and_then(|domain| domain.find(&entries));
            let expected = find_by_definition(&list, &descriptor);
            prop_assert_eq!(found.map(|rule| &rule.spec.name), expected.map(|rule| &rule.name));
        }
    }
}

#[test]
fn the_digest_follows_the_rules_and_not_the_order_of_domains() {
    let domain = |name: &str, key: &str| DomainSpec {
        domain: name.into(),
        descriptors: vec![DescriptorSpec { key: key.into(), ..DescriptorSpec::default() }],
        http: None,
    };
    let digest = |domains: Vec<DomainSpec>| RuleTree::compile(domains).digest().to_owned();
    let one = digest(vec![domain("a", "x"), domain("b", "y")]);
    assert_eq!(one.len(), 16);
    assert_eq!(one, digest(vec![domain("b", "y"), domain("a", "x")]));
    assert_ne!(one, digest(vec![domain("a", "y"), domain("b", "x")]));
    assert_ne!(one, digest(vec![domain("a", "x")]));
    assert_eq!(RuleTree::default().digest(), "");
}
