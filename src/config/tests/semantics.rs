use super::*;

#[test]
fn a_file_needs_a_domain() {
    let expected =
        "there is no `domain`, expected one that is not empty (add `domain: …` at the top)";
    for text in ["", "# nothing\n", "---\n", "descriptors: []\n", "null"] {
        check_errors(text, &[&format!("1:1: {expected}")]);
    }
    check_errors("\ndomain: ''\n", &[&format!("2:1: {expected}")]);
    check_errors(
        "- key: a\n",
        &["1:1: the file is a list, expected a map with `domain` and `descriptors`"],
    );
}

#[test]
fn a_domain_may_have_no_rules() {
    for text in ["domain: d", "domain: d\ndescriptors:\n", "---\ndomain: d\ndescriptors: []\n---\n"]
    {
        let compiled = compile_one(text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!((compiled.rules.domain_count(), compiled.warnings.len()), (1, 0));
    }
    assert_eq!(compile(&[], CompileOptions::default()).expect("no files").rules.domain_count(), 0);
}

#[test]
fn misplaced_keys_are_reported_with_the_right_place() {
    let text = "
domain: d
unit: day
descriptors:
- key: a
  unit: day
  name: x
  domain: d
  Value: x
  rate-limit: {}
  algorithm: x
  other: x
  rate_limit:
    unit: day
    requests_per_unit: 1
    shadow_mode: true
    descriptors: []
    replaces: [{ name: b, key: c }]
    1: 2
    ? [a]
    : b
";
    check_errors(
        text,
        &[
            "3:1: the key `unit` does not belong here (it belongs in `rate_limit` or an element of `rate_limits`)",
            "6:3: the key `unit` does not belong here (it belongs in `rate_limit` or an element of `rate_limits`)",
            "7:3: the key `name` does not belong here (it belongs in `rate_limit` or an element of `rate_limits`, or in an element of `replaces`)",
            "8:3: the key `domain` does not belong here (it belongs at the top of the file)",
            "9:3: the key `Value` is unknown (did you mean `value`?)",
            "10:3: the key `rate-limit` is unknown (did you mean `rate_limit`?)",
            "11:3: the key `algorithm` does not belong here (it belongs in `rate_limit` or an element of `rate_limits`)",
            "12:3: the key `other` is unknown (expected one of key, value, rate_limit, rate_limits, descriptors, shadow_mode, quota_mode, detailed_metric, value_to_metric, share_threshold, metadata)",
            "16:5: the key `shadow_mode` does not belong here (it belongs on a descriptor, beside `key`)",
            "17:5: the key `descriptors` does not belong here (it belongs at the top of the file, or on a descriptor, beside `key`)",
            "18:27: the key `key` does not belong here (it belongs on a descriptor, beside `key`)",
            "19:5: the key `1` is unknown (expected one of unit, requests_per_unit, unit_multiplier, period, algorithm, burst, count_denied, penalty, consume, on_error, accuracy, phase, calendar, lease, unlimited, name, replaces)",
            "20:7: a key is a list, expected a string",
        ],
    );
}

#[test]
fn a_descriptor_needs_a_key() {
    check_errors(
        "domain: d\ndescriptors:\n- value: x\n- key: ''\n- key:\n-\n- x\n- key: [a]\n",
        &[
            "3:3: the descriptor has no `key`, expected one that is not empty",
            "4:3: the descriptor has no `key`, expected one that is not empty",
            "5:3: the descriptor has no `key`, expected one that is not empty",
            "6:2: an element of `descriptors` is empty, expected a map with a `key`",
            "7:3: an element of `descriptors` is `x`, expected a map with a `key`",
            "8:8: `key` is a list, expected a string",
        ],
    );
}

#[test]
fn the_same_key_and_value_twice_in_one_list_is_an_error() {
    check_errors(
        "
domain: d
descriptors:
- { key: a, value: b }
- key: a_b
  descriptors:
  - key: x
  - { key: x, value: y }
  - key: x
- { key: a }
",
        &[
            "5:3: the key and value `a_b` are already in this list, at r.yaml:4 (remove one of them)",
            "9:5: the key and value `x` are already in this list, at r.yaml:7 (remove one of them)",
        ],
    );
}

#[test]
fn a_limit_needs_a_unit_or_is_unlimited() {
    let units = "expected one of second, minute, hour, day, week, month, year";
    check_errors(
        "
domain: d
descriptors:
- { key: a, rate_limit: { requests_per_unit: 1 } }
- { key: b, rate_limit: {} }
- { key: c, rate_limit: { unlimited: false, unit: } }
- { key: d, rate_limit: { unit: minutes } }
- { key: e, rate_limit: { unit: unknown } }
- { key: f, rate_limit: { unit: hr } }
- { key: g, rate_limit: { unit: sec } }
- { key: h, rate_limit: { unit: [day] } }
- { key: i, rate_limit: { unit: day, unlimited: true } }
- { key: j, rate_limit: day }
",
        &[
            &format!(
                "4:13: the limit has no `unit`, expected one, a `period`, or `unlimited: true` ({units})"
            ),
            &format!(
                "5:13: the limit has no `unit`, expected one, a `period`, or `unlimited: true` ({units})"
            ),
            &format!(
                "6:45: the limit has no `unit`, expected one, a `period`, or `unlimited: true` ({units})"
            ),
            &format!("7:33: `minutes` is not a unit of time (did you mean `minute`? {units})"),
            &format!("8:33: `unknown` is not a unit of time ({units})"),
            &format!("9:33: `hr` is not a unit of time ({units})"),
            &format!("10:33: `sec` is not a unit of time (did you mean `second`? {units})"),
            &format!("11:33: `unit` is a list, {units}"),
            "12:27: `unit` is combined with `unlimited: true`, expected one of the two",
            "13:25: `rate_limit` is `day`, expected a map with `unit` and `requests_per_unit`, or with `unlimited: true`",
        ],
    );
}

#[test]
fn a_null_value_counts_as_absent() {
    let text = "domain: d\ndescriptors:\n- { key: a, rate_limit: null, descriptors: null, metadata: ~ }\n- { key: b, rate_limit: { unlimited: true, unit: null, replaces: null, name: null } }";
    assert_eq!(compile_one(text).expect("no errors").rules.rules().len(), 1);
}

#[test]
fn invalid_replaces_lists_are_errors() {
    check_errors(
        "
domain: d
descriptors:
- key: a
  rate_limit: { unlimited: true, name: a, replaces: [{ name: a }, {}, { name: '' }, b, { name: [] }] }
- key: b
  rate_limit: { unlimited: true, name: \"b\\r\\nx: y\", replaces: { name: a } }
",
        &[
            "5:62: the rule replaces itself: `a` is its own name",
            "5:67: the element of `replaces` has no `name`, expected that of a rule",
            "5:79: the element of `replaces` has no `name`, expected that of a rule",
            "5:85: an element of `replaces` is `b`, expected a map with a `name`",
            "5:96: `name` is a list, expected a string",
            "7:40: the name contains control characters, expected none (it is sent to clients in a header)",
            "7:63: `replaces` is a map, expected a list of maps, each with a `name`",
        ],
    );
}

#[test]
fn only_a_pattern_can_share_its_threshold() {
    let flag = "share_threshold: true";
    check_errors(
        &format!(
            "domain: d\ndescriptors:\n- {{ key: a, value: b, {flag} }}\n- {{ key: a, {flag} }}\n"
        ),
        &[
            "3:23: `share_threshold` needs a `*` in `key` or `value`",
            "4:13: `share_threshold` needs a `*` in `key` or `value`",
        ],
    );
    let text =
        "  share_threshold: true\n  value: '*'\n  rate_limit: { unit: day, requests_per_unit: 1 }";
    assert_eq!(rule(text).stat_name().to_string(), "d.a_*");
}

#[test]
fn the_same_key_and_value_twice_is_explained_by_the_contents() {
    const LIMIT: &str = "rate_limit: { unit: day, requests_per_unit: 1 }";
    const CHILDREN: &str = "descriptors: [{ key: x, rate_limit: { unlimited: true } }]";
    for (first, second, help) in [
        (LIMIT, LIMIT, "remove one of them"),
        (LIMIT, "shadow_mode: true", "remove one of them"),
        (
            LIMIT,
            "rate_limit: { unit: hour, requests_per_unit: 1 }",
            "for several limits, list them in the `rate_limits` of one of them",
        ),
        (CHILDREN, CHILDREN, "put both lists of `descriptors` under one of them"),
        (CHILDREN, LIMIT, "put the limit and the list of `descriptors` under one of them"),
    ] {
        let text =
            format!("domain: d\ndescriptors:\n- {{ key: a, {first} }}\n- {{ key: a, {second} }}\n");
        let twice = "4:3: the key and value `a` are already in this list, at r.yaml:3";
        check_errors(&text, &[&format!("{twice} ({help})")]);
    }
}

#[test]
fn a_manifest_and_a_list_of_limits_are_recognized() {
    check_errors(
        "apiVersion: v1\nkind: ConfigMap\ndata: { a.yaml: 'domain: d' }\n",
        &[
            "1:1: this is a Kubernetes manifest, expected a rule file (mount its ConfigMap as a volume, and name the mounted file)",
        ],
    );
    check_errors(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit:\n  - { unit: day, requests_per_unit: 1 }\n",
        &[
            "4:3: `rate_limit` is a list, expected a map (for several limits, write `rate_limits` instead)",
        ],
    );
}

#[test]
fn metadata_is_a_map_and_keeps_its_own_keys() {
    check_errors(
        "domain: d\ndescriptors:\n- { key: a, metadata: [1] }\n",
        &["3:23: `metadata` is a list, expected a map"],
    );
    let rule = rule(
        "  metadata: { n: 1, y: 2, yes: 3, 011: 4, ~: 5, below: { n: 1, 011: 2, '~': 3 }, unit: day }\n  rate_limit: { unlimited: true }",
    );
    let metadata = serde_json::to_string(&rule.spec.metadata.as_deref()).unwrap();
    let expected =
        r#"{"":5,"011":4,"below":{"9":2,"false":1,"~":3},"n":1,"unit":"day","y":2,"yes":3}"#;
    assert_eq!(metadata, expected);
}

#[test]
fn metadata_that_json_cannot_express_is_changed_with_a_warning() {
    let text = "domain: d\ndescriptors:\n- key: a\n  rate_limit: { unlimited: true }\n  metadata: { x: [.nan, -.inf, .inf], z: { y: 1, yes: 2 } }\n";
    let compiled = compile_one(text).unwrap_or_else(|errors| panic!("{errors}"));
    let metadata = compiled.rules.rules()[0].spec.metadata.clone();
    let metadata = serde_json::to_string(&metadata.as_deref()).unwrap();
    assert_eq!(metadata, r#"{"x":["NaN","-Infinity","Infinity"],"z":{"true":2}}"#);
    let number = |column, from, to| {
        format!(
            "r.yaml:5:{column}: the number `{from}` is returned as the text `{to}` (JSON has no such number: quote it)\n"
        )
    };
    let expected = [
        number(19, ".nan", "NaN"),
        number(25, "-.inf", "-Infinity"),
        number(32, ".inf", "Infinity"),
        "r.yaml:5:50: the key is the same as one before it, and replaces its value (remove one of them, or quote both)\n".into(),
    ];
    assert_eq!(lines(&compiled.warnings), expected.concat());
}

#[test]
fn a_second_document_is_an_error() {
    check_errors(
        "domain: d\n---\ndomain: e\n---\ndomain: f\n",
        &[
            "3:1: a second document begins here, expected one in a file (put it into a file of its own)",
        ],
    );
}

fn two(first: &str, second: &str, merge_domains: bool) -> Result<Compiled, Diagnostics> {
    compile(
        &[source("a.yaml", first), source("b.yaml", second)],
        CompileOptions { merge_domains, ..CompileOptions::default() },
    )
}

#[test]
fn a_domain_is_in_one_file_unless_domains_are_merged() {
    let first =
        "domain: d\ndescriptors:\n- key: a\n  value: x*\n  rate_limit: { unlimited: true }\n";
    let second = "domain: d\ndescriptors:\n- key: a\n  value: '*'\n  rate_limit: { unlimited: true, replaces: [{ name: n }], name: m }\n- key: b\n  rate_limit: { unlimited: true, name: n }\n";
    let errors = two(first, second, false).expect_err("twice the same domain");
    assert_eq!(
        lines(errors.iter()),
        "b.yaml:1:1: the domain `d` is already at a.yaml:1 (put all of it into one file, or switch on the merging of domains)\n"
    );
    let merged = two(first, second, true).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(lines(&merged.warnings), "");
    let places: Vec<_> =
        merged.rules.rules().iter().map(|rule| rule.spec.location.to_string()).collect();
    assert_eq!(
        (merged.rules.domain_count(), places.join(" ")),
        (1, "a.yaml:3 b.yaml:3 b.yaml:6".into())
    );
}

#[test]
fn merged_files_may_not_repeat_a_top_level_key_and_value() {
    let first = "domain: d\ndescriptors:\n- { key: a, descriptors: [{ key: x, rate_limit: { unlimited: true } }] }\n";
    let errors = two(first, first, true).expect_err("twice the same key");
    assert_eq!(
        lines(errors.iter()),
        "b.yaml:3:3: the key and value `a` are already in this list, at a.yaml:3 (put both lists of `descriptors` under one of them)\n"
    );
}
