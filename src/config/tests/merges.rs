use super::*;

/// `NAME requests/unit` of each rule; `unlimited` without a limit.
fn limits(text: &str) -> (String, String) {
    let text = format!("domain: d\ndescriptors:\n{text}");
    let compiled = compile_one(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let mut found = Vec::new();
    for rule in compiled.rules.rules() {
        let limit = match rule.spec.limits.first() {
            Some(LimitSpec { limit, name, .. }) => {
                format!("{}/{} {name}", limit.requests, limit.window.unit().name())
            }
            None => "unlimited".into(),
        };
        found.push(format!("{} {limit}", rule.name()).trim_end().to_owned());
    }
    (found.join(", "), lines(&compiled.warnings))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(limits(text), (expected.to_owned(), String::new()));
}

#[test]
fn a_nested_map_is_merged_key_by_key() {
    check(
        "
- &b { key: tenant, value: free, rate_limit: { name: n, unit: minute, requests_per_unit: 5 } }
- { <<: *b, value: paid, rate_limit: { requests_per_unit: 50 } }
- { <<: *b, value: best, rate_limit: { requests_per_unit: 500, name: } }
- { <<: *b, value: none, rate_limit: , descriptors: [{ <<: *b, key: x, value: }] }
- { <<: *b, value: hour, rate_limit: { <<: { unit: hour, name: m } } }
",
        "d.tenant_free 5/minute n, d.tenant_paid 50/minute n, d.tenant_best 500/minute, \
         d.tenant_none.x 5/minute n, \
         d.tenant_hour 5/hour m",
    );
}

#[test]
fn the_last_merge_wins_and_of_a_list_the_first() {
    check(
        "
- &a { key: a, rate_limit: &day { unit: day, requests_per_unit: 1 } }
- &b { key: b, rate_limit: &hour { unit: hour, requests_per_unit: 2 } }
- { <<: *a, <<: *b, key: c }
- { <<: [*a, *b], key: d }
- { !!merge <<: *a, key: e, rate_limit: { !!merge '<<': *hour } }
- { key: f, rate_limit: { <<: [{ requests_per_unit: 3 }, *day, *hour] } }
- &chain { <<: *b, key: g, rate_limit: { requests_per_unit: 9 } }
- { <<: *chain, key: h }
",
        "d.a 1/day, d.b 2/hour, d.c 2/hour, d.d 1/day, d.e 2/hour, d.f 3/day, d.g 9/hour, \
         d.h 9/hour",
    );
}

#[test]
fn metadata_is_merged_at_its_top_only() {
    let text = "domain: d
descriptors:
- &a { key: a, metadata: { x: { y: 1 }, z: 2 }, rate_limit: { unlimited: true } }
- { <<: *a, key: b, metadata: { x: { w: 3 } } }
";
    let metadata = serde_json::to_string(&rules(text)[1].spec.metadata.as_deref()).unwrap();
    assert_eq!(metadata, r#"{"x":{"w":3},"z":2}"#);
}

#[test]
fn a_merge_below_a_key_replaces_its_value_with_a_warning() {
    let (found, warnings) = limits(
        "- { key: a, rate_limit: &default { unit: minute, requests_per_unit: 100 } }
- key: b
  rate_limit:
    requests_per_unit: 1000
    unit: minute
    <<: *default
- { key: c, rate_limit: { requests_per_unit: 7 }, <<: { rate_limit: *default } }
",
    );
    assert_eq!(found, "d.a 100/minute, d.b 100/minute, d.c 100/minute");
    let help = "(write `<<` first, above the keys that differ from it)";
    assert_eq!(
        warnings,
        format!(
            "r.yaml:6:5: `requests_per_unit` is `100` here, not `1000`: the `<<` at r.yaml:8 is below it, and replaces it {help}\n\
             r.yaml:9:27: `requests_per_unit` is `100` here, not `7`: the `<<` at r.yaml:9 is below it, and replaces it {help}\n"
        )
    );
}

#[test]
fn a_mistake_that_a_merge_makes_is_explained() {
    check_errors(
        "domain: d
descriptors:
- &a { key: a, rate_limit: { unlimited: true } }
- { key: b, <<: *a }
- { <<: *a, descriptors: [] }
- { <<: *a, key: c, rate_limit: { unit: hour, requests_per_unit: 2 } }
",
        &[
            "4:3: the key and value `a` are already in this list, at r.yaml:3 (a `<<` below them replaces them: write it first, above them)",
            "5:3: the key and value `a` are already in this list, at r.yaml:3 (they come from a `<<`: write others below it)",
            "6:35: `unit` is combined with `unlimited: true`, expected one of the two (a `<<` brings `unlimited: true` from r.yaml:3: write `unlimited: false` here)",
        ],
    );
}

#[test]
fn what_the_reference_refuses_may_be_accepted() {
    check(
        "
- { key: a, descriptors: &list [{ key: b, rate_limit: { unit: day, requests_per_unit: 1 } }] }
- { <<: *list, key: c }
- { key: d, rate_limit: { <<: { requests_per_unit: '' }, unit: day, requests_per_unit: 2 } }
",
        "d.a.b 1/day, d.c 1/day, d.d 2/day",
    );
}
