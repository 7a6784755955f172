use std::path::Path;

use futures_util::FutureExt;

use super::*;

/// The results of files, each a name and a content, of which the last has tests.
struct Outcome {
    status: CommandStatus,
    out: String,
    errors: String,
    junit: String,
}

fn run_files(files: &[(&str, &str)]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut last = PathBuf::new();
    for (name, text) in files {
        last = directory.path().join(name);
        fs::write(&last, text).unwrap();
    }
    run_paths(vec![last], directory.path())
}

fn run_paths(files: Vec<PathBuf>, directory: &Path) -> Outcome {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let junit = directory.join("junit.xml");
    let tests = TestRun { files, junit: Some(junit.clone()) };
    let status = run(&tests, &mut out, &mut errors).now_or_never().unwrap().unwrap();
    let place = format!("{}/", directory.display());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&place, "");
    let junit = fs::read(junit).unwrap();
    Outcome { status, out: text(out), errors: text(errors), junit: text(junit) }
}

const RULES: &str = "\
domain: shop
descriptors:
- key: user
  rate_limit: { unit: minute, requests_per_unit: 2, name: per_user, replaces: [{ name: old }] }
- key: plan
  rate_limit: { unit: hour, requests_per_unit: 9, name: old }
- key: free
  rate_limit: { unlimited: true }
- key: slow
  rate_limit: { unit: minute, requests_per_unit: 2, algorithm: sliding_window }
";

/// Checks the results of these tests of [`RULES`].
#[track_caller]
fn check(tests: &str, status: CommandStatus, expected: &str) {
    let text = format!("rules: rules.yaml\ndomain: shop\ntests:\n{tests}");
    let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", &text)]);
    assert_eq!((outcome.out.as_str(), outcome.errors.as_str()), (expected, ""));
    assert_eq!(outcome.status, status);
}

#[test]
fn the_example_passes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tests/edge_test.yaml");
    let directory = tempfile::tempdir().unwrap();
    let outcome = run_paths(vec![example], directory.path());
    assert!(outcome.out.ends_with("\n4 tests, 0 failed\n"), "{}{}", outcome.out, outcome.errors);
    assert_eq!(outcome.status, CommandStatus::Positive);
}

#[test]
fn every_field_of_an_answer_can_be_expected() {
    let tests = r"
- name: all fields
  steps:
  - descriptors: [user=ann]
    hits: 0
    expect: { code: OK, limit: 2 per minute, remaining: 2, reset: 60s, rule: shop.user }
  - descriptors: [user=ann]
    hits: 3
    expect: { code: OVER_LIMIT, reset: 60s }
  - descriptors: [slow=x]
    hits: 3
    expect: { code: OVER_LIMIT, reset: never }
  - { advance: 90s }
  - descriptors: [user=ann, plan=a, free=x, cart=y]
    times: 2
    expect:
      code: OK
      descriptors:
      - { code: OK, reset: 30s }
      - { rule: none, limit: none }
      - { rule: shop.free, limit: none }
      - { rule: none }
  - descriptors: [user=ann]
    refund: true
    hits: 2
    expect: { remaining: 2 }
";
    check(tests, CommandStatus::Positive, "pass  all fields\n1 test, 0 failed\n");
}

#[test]
fn a_failure_shows_the_expected_and_the_whole_answer() {
    let tests = r"
- name: passes
  steps:
  - { descriptors: [user=ann], expect: { code: OK } }
- name: fails
  steps:
  - descriptors: [user=ann]
    times: 4
    expect: { code: OK, limit: 2 per minute }
  - descriptors: [user=bob, Plan=a]
    expect: { descriptors: [{ remaining: 2, rule: shop.usr }, { rule: shop.plan }] }
";
    let expected = "\
pass  passes
FAIL  fails (a_test.yaml:8)
  step 1, line 10, request 3 of 4
    code: expected OK, got OVER_LIMIT
    answer: user=ann: OVER_LIMIT, limit 2 per minute, remaining 0, reset 60s, rule shop.user at rules.yaml:3
  step 2, line 13
    rule of user=bob: expected shop.usr, got shop.user
    remaining of user=bob: expected 2, got 1
    rule of Plan=a: expected shop.plan, got none
    answer: user=bob: OK, limit 2 per minute, remaining 1, reset 60s, rule shop.user at rules.yaml:3
    answer: Plan=a: OK, no rule applies: the key `Plan` is unknown for the first entry; the key in `Plan=a` differs from `plan` at rules.yaml:5 only in upper and lower case
2 tests, 1 failed
";
    check(tests, CommandStatus::Negative, expected);
}

#[test]
fn each_test_begins_with_unused_counters_at_its_own_time() {
    let tests = r"
- name: one
  start: 2026-03-01T12:00:50+01:00
  steps:
  - { descriptors: [user=ann], hits: 2, expect: { reset: 10s } }
- name: two
  steps:
  - { descriptors: [user=ann], expect: { remaining: 1, reset: 60s } }
";
    check(tests, CommandStatus::Positive, "pass  one\npass  two\n2 tests, 0 failed\n");
}

#[test]
fn mistakes_have_a_line_and_a_column() {
    let text = r"
rules: rules.yaml
domain: shop
start: noon
tests:
- nam: a
  steps:
  - descriptors: [user=ann]
    expect: { remainig: 1 }
  - descriptors: [user]
    times: 0
  - expect: { code: YES }
  - descriptors: [user=a, user=b]
    expect: { remaining: 1, code: YES, descriptors: [{ reset: 1.5s }] }
";
    let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", text)]);
    let expected = "\
a_test.yaml:4:8: `start` is `noon`, expected a time such as 2026-03-01T12:00:00Z, from 1970 to 9999-12-30T22:00:00Z
a_test.yaml:6:3: the key `nam` is unknown in a test, expected name, start, steps
a_test.yaml:6:3: the test has no `name`
a_test.yaml:9:15: the key `remainig` is unknown in `expect`, expected code, limit, remaining, reset, rule, descriptors
a_test.yaml:10:19: not a descriptor, expected key=value,key=value and so on
a_test.yaml:10:5: rate limit descriptor list must not be empty
a_test.yaml:11:12: `times` is `0`, expected a whole number from 1 to 100000
a_test.yaml:12:5: the step has no `descriptors`
a_test.yaml:14:35: `code` is `YES`, expected OK or OVER_LIMIT
a_test.yaml:14:13: `limit`, `remaining`, `reset` and `rule` belong to one descriptor, expected them in the elements of `descriptors`
a_test.yaml:14:13: `descriptors` of `expect` has 1 elements, expected one for each of 2 descriptors, and no `limit`, `remaining`, `reset` or `rule` beside it
a_test.yaml:14:63: `reset` is `1.5s`, expected whole seconds such as 30s, or never
";
    assert_eq!(outcome.errors, expected);
    assert_eq!(outcome.status, CommandStatus::Failed);
}

#[test]
fn a_file_that_compares_nothing_is_a_mistake() {
    for (tests, expected) in [
        ("[]", "a_test.yaml:3:8: `tests` is empty, expected at least one element"),
        ("[{ name: a, steps: [] }]", "a_test.yaml:3:27: `steps` is empty, expected at least one"),
        ("[{ name: a, steps: [{ advance: 1s }] }]", "a_test.yaml:3:9: the test compares nothing"),
        ("[{ name: a, steps: [{ descriptors: [user=a] }] }]", "3:9: the test compares nothing"),
        (
            "[{ name: a, steps: [{ descriptors: [user=a], expect: {} }] }]",
            "a_test.yaml:3:61: `expect` is empty, expected code, limit, ",
        ),
        (
            "[{ name: a, steps: [{ descriptors: [user=a], expect: { descriptors: [{}] } }] }]",
            "a_test.yaml:3:61: `expect` is empty, expected code, limit, ",
        ),
        (
            "[{ name: a, steps: [{ advance: 1s, expect: { code: OK } }] }]",
            "a_test.yaml:3:28: the step has no `descriptors`",
        ),
        (
            "[{ name: a, steps: [{ descriptors: [user=a], expect: { code: OK, remaining: } }] }]",
            "a_test.yaml:3:73: `remaining` has no value, expected one",
        ),
    ] {
        let text = format!("rules: rules.yaml\ndomain: shop\ntests: {tests}\n");
        let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", &text)]);
        assert!(outcome.errors.contains(expected), "{tests}: {}", outcome.errors);
        assert_eq!(outcome.status, CommandStatus::Failed, "{tests}");
    }
}

#[test]
fn a_request_that_no_rule_matches_fails_unless_that_is_expected() {
    const ONE: &str = "[user=a]";
    const TWO: &str = "[user=a, usr=a]";
    for (domain, descriptors, expect, expected) in [
        ("shop", ONE, "{ code: OK }", ""),
        ("shp", ONE, "{ code: OK }", "rule of user=a"),
        ("shp", ONE, "{ limit: none }", "rule of user=a"),
        ("shp", ONE, "{ rule: none }", ""),
        ("shop", "[usr=a]", "{ code: OK }", "rule of usr=a"),
        ("shop", "[usr=a]", "{ code: OK, rule: none }", ""),
        ("shop", TWO, "{ code: OK }", ""),
        ("shp", TWO, "{ code: OK }", "rule of user=a"),
        ("shop", TWO, "{ descriptors: [{ code: OK }, {}] }", ""),
        ("shop", TWO, "{ descriptors: [{ code: OK }, { code: OK }] }", "rule of usr=a"),
        ("shop", TWO, "{ descriptors: [{ code: OK }, { rule: none }] }", ""),
        ("shp", TWO, "{ descriptors: [{ rule: none }, {}] }", ""),
    ] {
        let text = format!(
            "rules: rules.yaml\ndomain: {domain}\ntests:\n- name: a\n  steps:\n  \
             - {{ descriptors: {descriptors}, expect: {expect} }}\n"
        );
        let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", &text)]);
        let place = format!("{domain}, {descriptors}, {expect}: {}", outcome.out);
        assert_eq!(outcome.errors, "", "{place}");
        if expected.is_empty() {
            assert_eq!(outcome.status, CommandStatus::Positive, "{place}");
        } else {
            let expected = format!("    {expected}: expected one, got none; if that is right, ");
            assert!(outcome.out.contains(&expected), "{place}");
            assert_eq!(outcome.status, CommandStatus::Negative, "{place}");
        }
    }
}

#[test]
fn a_request_before_the_compared_one_needs_a_rule() {
    let tests = r"
- name: a
  steps:
  - { descriptors: [usr=ann], hits: 2 }
  - { descriptors: [user=ann], expect: { code: OK } }
";
    let text = format!("rules: rules.yaml\ndomain: shop\ntests:\n{tests}");
    let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", &text)]);
    assert!(outcome.out.contains("  step 1, line 7\n    rule of usr=ann: "), "{}", outcome.out);
    assert_eq!(outcome.status, CommandStatus::Negative);
}

#[test]
fn inline_rules_have_the_lines_of_the_file() {
    let text = r"
inline_rules: |
  domain: shop
  descriptors:
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 2 }
tests:
- name: a
  steps:
  - { domain: shop, descriptors: [user=ann], expect: { remaining: 3 } }
";
    let outcome = run_files(&[("a_test.yaml", text)]);
    assert!(outcome.out.contains("rule shop.user at a_test.yaml:5\n"), "{}", outcome.out);
    let text = text.replace("unit: minute", "unit: minuet");
    let outcome = run_files(&[("a_test.yaml", &text)]);
    assert!(outcome.errors.contains("--> a_test.yaml:6:25\n"), "{}", outcome.errors);
    assert_eq!(outcome.status, CommandStatus::Failed);
}

#[test]
fn unusable_files_and_rules_have_their_own_exit_code() {
    let test =
        "tests: [{ name: a, steps: [{ domain: d, descriptors: [a=b], expect: { code: OK } }] }]\n";
    for (text, expected) in [
        (
            "rules: missing.yaml\n".to_owned() + test,
            "a_test.yaml:1:8: missing.yaml: cannot read this: No such file",
        ),
        (test.to_owned(), "a_test.yaml:1:1: the file has no `rules`"),
        ("rules: [a_test.yaml]\n".to_owned() + test, "error: the key `rules` is unknown"),
        ("{".to_owned(), "error: this is not YAML"),
        (String::new(), "a_test.yaml: the file is empty"),
        (test.to_owned() + "---\na: b\n", "a_test.yaml:3:1: this is a second document"),
        ("[]".to_owned(), "a_test.yaml:1:1: a file with tests is not a map"),
    ] {
        let outcome = run_files(&[("a_test.yaml", &text)]);
        assert!(outcome.errors.contains(expected), "{}", outcome.errors);
        assert_eq!(outcome.status, CommandStatus::Failed, "{text}");
    }
}

#[test]
fn the_report_is_well_formed() {
    let tests = r#"
rules: rules.yaml
tests:
- { name: 'a <"b"> & c', steps: [{ domain: shop, descriptors: [user=<ann>], expect: { remaining: 9 } }] }
- { name: passes, steps: [{ domain: shop, descriptors: [user=a], expect: { code: OK } }] }
"#;
    let outcome = run_files(&[("rules.yaml", RULES), ("a_test.yaml", tests)]);
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="a_test.yaml" tests="2" failures="1">
    <testcase name="a &lt;&quot;b&quot;&gt; &amp; c" classname="a_test.yaml">
      <failure message="the answer is not the expected one">
a_test.yaml:4
  step 1, line 4
    remaining of user=&lt;ann&gt;: expected 9, got 1
    answer: user=&lt;ann&gt;: OK, limit 2 per minute, remaining 1, reset 60s, rule shop.user at rules.yaml:3
      </failure>
    </testcase>
    <testcase name="passes" classname="a_test.yaml"/>
  </testsuite>
</testsuites>
"#;
    assert_eq!(outcome.junit, expected);
}

const HTTP_RULES: &str = "\
domain: edge
http:
  skip: [{ method: OPTIONS }]
  descriptors:
  - [path, remote_address]
  - [{ header: x-api-key, key: api_key }]
descriptors:
- key: path
  value: /login
  descriptors:
  - { key: remote_address, rate_limit: { unit: minute, requests_per_unit: 2 } }
- { key: api_key, rate_limit: { unit: minute, requests_per_unit: 9 } }
";

#[track_caller]
fn check_http(steps: &str, expected: &str, expected_errors: &str) {
    let text = format!("rules: rules.yaml\ndomain: edge\ntests:\n- name: http\n  steps:\n{steps}");
    let outcome = run_files(&[("rules.yaml", HTTP_RULES), ("a_test.yaml", &text)]);
    assert_eq!((outcome.out.as_str(), outcome.errors.as_str()), (expected, expected_errors));
}

#[test]
fn an_http_request_has_the_descriptors_that_the_rules_make() {
    let steps = "
  - http: GET //login?a
    from: 192.0.2.1
    times: 2
    expect: { code: OK, limit: 2 per minute }
  - http: GET /login
    headers: { X-Forwarded-For: '192.0.2.9, 192.0.2.1', X-Api-Key: k }
    expect: { code: OVER_LIMIT, descriptors: [{ remaining: 0 }, { code: OK, remaining: 8 }] }
  - http: GET /login
    from: 192.0.2.2
    expect: { code: OK, remaining: 1 }
  - http: OPTIONS /login
    expect: { code: OK, descriptors: [] }
";
    check_http(steps, "pass  http\n1 test, 0 failed\n", "");
}

#[test]
fn an_http_request_with_other_descriptors_than_expected_fails() {
    let steps = "
  - http: GET /login
    from: 192.0.2.1
    expect: { descriptors: [] }
  - http: OPTIONS /login
    expect: { code: OK }
";
    let expected = "\
FAIL  http (a_test.yaml:4)
  step 1, line 7
    descriptors: expected 0, got 1
    answer: path=/login,remote_address=192.0.2.1: OK, limit 2 per minute, remaining 1, reset 60s, rule edge.path_/login.remote_address at rules.yaml:11
  step 2, line 10
    descriptors: expected some (if none is right, expect `descriptors: []`), got none
1 test, 1 failed
";
    check_http(steps, expected, "");
}

#[test]
fn a_wrong_http_request_is_an_error_with_its_place() {
    let steps = "
  - { http: GET, expect: { code: OK } }
  - { http: GET /, headers: { 'a b': c }, from: here, expect: { code: OK } }
  - { http: GET /, descriptors: [a=b], expect: { code: OK } }
  - { descriptors: [a=b], from: 192.0.2.1, expect: { code: OK } }
";
    let errors = "\
a_test.yaml:7:13: not a request, expected a method and a path or URI, such as 'GET /login'
a_test.yaml:8:38: not a header, expected a name, a colon and a value, such as 'X-Api-Key: k'
a_test.yaml:8:49: `from` is `here`, expected an IP address
a_test.yaml:9:5: the step has `http` and `descriptors`, expected one of the two
a_test.yaml:10:33: `from` is without `http`, expected both
";
    check_http(steps, "0 tests, 0 failed\n", errors);
    let errors = "\
a_test.yaml:6: the rules need the address of the client, expected `from`
";
    check_http("  - { http: GET /, expect: { code: OK } }\n", "0 tests, 0 failed\n", errors);
}
