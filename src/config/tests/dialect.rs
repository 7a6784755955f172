use super::*;

#[test]
fn an_unquoted_number_or_flag_is_text_where_text_is_expected() {
    let text = "domain: 07\ndescriptors:\n- key: a\n  value: VALUE\n  rate_limit: { unit: day, requests_per_unit: 1 }\n";
    for value in ["010", "yes", "0x1F", "1_000", "10.0.0.1", "2024-01-01", "-5", "on", "'1.5'"] {
        let rules = rules(&text.replace("VALUE", value));
        let expected = format!("07.a_{}", value.trim_matches('\''));
        // Dots of addresses are underscores in statistics.
        let expected = expected.replace("10.0.0.1", "10_0_0_1");
        assert_eq!(rules[0].stat_name().to_string(), expected);
    }
    for value in ["", "~", "null", "''", "Null"] {
        // With a warning if it is empty.
        let compiled = compile_one(&text.replace("VALUE", value)).expect("it is valid");
        let rules = compiled.rules.rules();
        assert_eq!(rules[0].stat_name().to_string(), "07.a");
    }
    let quoted = rules(&text.replace("VALUE", "'null'"));
    assert_eq!(quoted[0].stat_name().to_string(), "07.a_null");
    let tagged = rules(&text.replace("VALUE", "!!str 1.5"));
    assert_eq!(tagged[0].stat_name().to_string(), "07.a_1.5");
}

#[test]
fn core_tags_set_the_type() {
    let rule = rule(
        "  !!str shadow_mode: !!bool 'yes'\n  rate_limit: !!map { unit: !!str day, requests_per_unit: \
         !!int '5', replaces: !!seq [], name: !!null '' }\n  metadata: { a: !!float 3, b: !<tag:yaml.org,2002:int> 0x10, \
         c: ! '7', d: !!null ~ }",
    );
    assert!(rule.spec.shadow_mode);
    assert_eq!(rule.spec.limits[0].limit.requests, 5);
    let metadata = serde_json::to_string(&rule.spec.metadata.as_deref()).unwrap();
    assert_eq!(metadata, r#"{"a":3.0,"b":16,"c":7,"d":null}"#);
    check_errors(
        "domain: !!int d\ndescriptors:\n- key: !!float 5\n  shadow_mode: !!bool 1\n  rate_limit: !!null 0\n",
        &[
            "1:9: the value `d` has the tag `!!int`, expected a whole number (correct the value, or remove the tag)",
            "3:16: `key` is the number `5`, expected a string (quote it: '5')",
            "4:16: the value `1` has the tag `!!bool`, expected `true` or `false` (correct the value, or remove the tag)",
            "4:23: `shadow_mode` is the quoted string `1`, expected `true` or `false` (remove the quotes)",
            "5:15: the value `0` has the tag `!!null`, expected `null` (correct the value, or remove the tag)",
            "5:22: `rate_limit` is the quoted string `0`, expected a map with `unit` and `requests_per_unit`, or with `unlimited: true`",
        ],
    );
}

#[test]
fn a_number_with_a_fraction_has_to_be_quoted() {
    for value in ["1.5", ".5", "1e3", "-1.", ".inf", "18446744073709551616", "09"] {
        let text = format!("domain: d\ndescriptors:\n- key: a\n  value: {value}\n");
        let expected = format!(
            "4:10: `value` is the number `{value}`, expected a string (quote it: '{value}')"
        );
        check_errors(&text, &[&expected]);
    }
}

#[test]
fn a_limit_is_any_whole_number_that_fits() {
    for (text, requests) in [
        ("0", 0),
        ("10", 10),
        ("010", 8),
        ("0o10", 8),
        ("0x10", 16),
        ("0b11", 3),
        ("1_000", 1000),
        ("4294967295", u32::MAX),
    ] {
        let rule = rule(&format!("  rate_limit: {{ unit: day, requests_per_unit: {text} }}"));
        assert_eq!(rule.spec.limits[0].limit.requests, requests, "{text}");
    }
    for text in ["-1", "4294967296", "1.0", "'10'", "yes", "ten", "[1]"] {
        let text = format!(
            "domain: d\ndescriptors:\n- key: a\n  rate_limit: {{ unit: day, requests_per_unit: {text} }}"
        );
        let errors = compile_one(&text).expect_err("no such number");
        let error = errors.first();
        assert_eq!((errors.len(), place(error)), (1, (4, 47)));
        assert!(error.message.ends_with("expected a whole number from 0 to 4294967295"));
    }
}

#[test]
fn flags_are_those_of_yaml_1_1_and_not_quoted() {
    let limit = "  rate_limit: { unit: day, requests_per_unit: 1 }";
    for (text, expected) in
        [("y", true), ("Yes", true), ("on", true), ("TRUE", true), ("n", false), ("Off", false)]
    {
        assert_eq!(rule(&format!("  shadow_mode: {text}\n{limit}")).spec.shadow_mode, expected);
    }
    assert!(!rule(&format!("  shadow_mode:\n{limit}")).spec.shadow_mode);
    check_errors(
        "domain: d\ndescriptors:\n- key: a\n  shadow_mode: 'true'\n  quota_mode: 1\n",
        &[
            "4:16: `shadow_mode` is the quoted string `true`, expected `true` or `false` (remove the quotes)",
            "5:15: `quota_mode` is `1`, expected `true` or `false`",
        ],
    );
}

#[test]
fn invalid_aliases_and_merge_keys_are_errors() {
    check_errors(
        "domain: d\ndescriptors: &a\n- key: b\n  descriptors: *a\n- { <<: 1, key: x }\n",
        &[
            "4:16: the alias is inside the node that it refers to",
            "5:9: `<<` is `1`, expected a map or a list of maps",
        ],
    );
    let help = "quote a text that begins with `*` or `&`";
    let unknown = "this is not YAML: while parsing node, found unknown anchor";
    check_errors("domain: *no", &[&format!("1:9: {unknown} ({help})")]);
    check_errors(
        "domain: !secret d\ndescriptors: !!set []\n",
        &[
            "1:9: the tag `!secret` is not understood (remove it)",
            "2:14: the tag `!!set` is not understood (remove it)",
        ],
    );
}

#[test]
fn an_error_in_an_anchor_is_reported_once() {
    check_errors(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: &l { unit: eon }\n- key: b\n  rate_limit: *l\n",
        &[
            "4:26: `eon` is not a unit of time (expected one of second, minute, hour, day, week, month, year)",
        ],
    );
}

#[test]
fn windows_line_endings_are_accepted() {
    let text = "domain: d\r\ndescriptors:\r\n- key: a\r\n  rate_limit:\r\n    unit: day\r\n    requests_per_unit: 1\r\n";
    assert_eq!(&*rules(text)[0].spec.location, "r.yaml:3");
    let shown = compile_one(&text.replace("day", "eon")).expect_err("no unit").to_string();
    assert!(shown.contains("r.yaml:5:11\n") && !shown.contains('\r'), "{shown}");
}

#[test]
fn a_duplicate_key_is_an_error_at_any_depth() {
    check_errors(
        "domain: d\ndomain: e\ndescriptors:\n- key: a\n  metadata: { x: { y: 1, 'y': 2, 08: 1 } }\n",
        &[
            "2:1: the key `domain` is already at r.yaml:1 (remove one of them)",
            "5:26: the key `y` is already at r.yaml:5 (remove one of them)",
        ],
    );
}
