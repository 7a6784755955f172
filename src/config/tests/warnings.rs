use super::*;

const LIMIT: &str = "rate_limit: { unit: day, requests_per_unit: 1 }";

#[test]
fn a_pattern_after_a_more_general_one_is_reported() {
    check_warnings(
        &format!(
            "
- {{ key: a, value: x*, {LIMIT} }}
- {{ key: a, value: x*y, {LIMIT} }}
- {{ key: a, value: '*y', {LIMIT} }}
- {{ key: a, value: xy, {LIMIT} }}
- {{ key: a, {LIMIT} }}
"
        ),
        &[
            "5:3: only an entry with this very text reaches this: `a_x*` at r.yaml:4 comes first and matches all others",
        ],
    );
}

#[test]
fn a_key_beside_a_pattern_for_every_value_is_reported() {
    check_warnings(
        &format!(
            "
- {{ key: a, {LIMIT} }}
- {{ key: a, value: '*', {LIMIT} }}
- {{ key: b, {LIMIT} }}
- {{ key: b, value: '?*', {LIMIT} }}
"
        ),
        &["4:3: no entry with this key reaches this: `a_*` at r.yaml:5 matches all"],
    );
}

#[test]
fn an_empty_value_is_reported_as_any_value() {
    let text = "an empty `value` matches every value that no other element of the list matches, \
                and not the empty value alone (remove it, or write the value)";
    check_warnings(
        &format!(
            "
- {{ key: a, value: \"\", {LIMIT} }}
- {{ key: b, value: , {LIMIT} }}
- key: c
  descriptors: [{{ key: d, value: '', {LIMIT} }}]
- {{ key: g, value: ~, {LIMIT} }}
- &any {{ key: e, value: x, {LIMIT} }}
- {{ <<: *any, value: '' }}
- {{ key: f, value: ' ', {LIMIT} }}
"
        ),
        &[&format!("4:13: {text}"), &format!("7:27: {text}")],
    );
}

#[test]
fn an_empty_descriptor_must_exempt_entries_from_another_rule() {
    let useful = format!(
        "
- {{ key: a, value: friend }}
- {{ key: a, value: f* }}
- {{ key: a, {LIMIT} }}
- {{ key: b, value: friend }}
- {{ key: b, value: f*, {LIMIT} }}
"
    );
    check_warnings(&useful, &[]);
    let text = "this has no effect: it has neither `rate_limit` nor `descriptors`, and no other rule would match its entries";
    check_warnings(
        "
- { key: a, value: friend }
- { key: b }
- { key: c, value: x* }
- { key: d, rate_limit: , descriptors: [] }
- key: e
  descriptors: [{ key: f }]
",
        &[4, 5, 6, 7]
            .map(|line| format!("{line}:3: {text}"))
            .iter()
            .map(String::as_str)
            .chain([&*format!("9:17: {text}")])
            .collect::<Vec<_>>(),
    );
}

#[test]
fn flags_of_a_limit_have_no_effect_without_one() {
    check_warnings(
        "
- key: a
  shadow_mode: true
  detailed_metric: true
  quota_mode: false
  metadata: {}
  descriptors:
  - key: b
    shadow_mode: true
    quota_mode: true
    metadata: {}
    rate_limit: { unlimited: true, requests_per_unit: 5 }
  - key: c
    rate_limit: { unlimited: true, requests_per_unit: 0 }
",
        &[
            "5:3: `shadow_mode` has no effect without a `rate_limit` beside it",
            "6:3: `detailed_metric` has no effect without a `rate_limit` beside it",
            "8:3: `metadata` has no effect without a `rate_limit` beside it",
            "11:5: `shadow_mode` has no effect on a limit that is `unlimited`",
            "12:5: `quota_mode` has no effect on a limit that is `unlimited`",
            "14:36: `requests_per_unit` has no effect beside `unlimited: true`",
        ],
    );
}

#[test]
fn a_missing_requests_per_unit_is_reported_but_zero_is_not() {
    check_warnings(
        "- { key: a, rate_limit: { unit: day } }\n- { key: b, rate_limit: { unit: day, requests_per_unit: 0 } }\n",
        &["3:13: `requests_per_unit` is missing, so that every request is refused"],
    );
}

#[test]
fn a_replaced_name_without_a_rule_is_reported() {
    check_warnings(
        "
- key: a
  rate_limit: { unlimited: true, name: a, replaces: [{ name: b }, { name: c }] }
- key: b
  descriptors: [{ key: c, rate_limit: { unlimited: true, name: c } }]
",
        &["5:62: no rule of this domain has the name `b`"],
    );
}

#[test]
fn a_lease_below_one_hit_is_reported() {
    let check = |lease: &str, requests: u32, advice: &str| {
        let rule = format!(
            "
- key: a
  rate_limit:
    unit: day
    requests_per_unit: {requests}
    accuracy:
      lease: {lease}
"
        );
        let why = match requests {
            0..=10 => format!(
                "an instance reserves at most a tenth of the remaining hits, and after one of \
                 {requests} requests that is less than one"
            ),
            _ => format!("it is less than one of {requests} requests, so no hit is reserved"),
        };
        let warning = format!("9:14: this has no effect: {why}; {advice}");
        let expected = if advice.is_empty() { vec![] } else { vec![&*warning] };
        check_warnings(&rule, &expected);
    };
    check("1%", 50, "write at least 2%, or leave `accuracy` out");
    check("2%", 50, "");
    check("1%", 30, "write at least 3.3334%, or leave `accuracy` out");
    check("3.3334%", 30, "");
    check("0.0001%", 999_999, "write at least 0.0002%, or leave `accuracy` out");
    check("0.0001%", 1_000_000, "");
    check("10%", 11, "");
    check("10%", 10, "leave `accuracy` out");
    check("10%", 9, "leave `accuracy` out");
    check("10%", 0, "leave `accuracy` out");
}
