use super::*;
use crate::config::SourceFile;

/// The findings for files, each a name and a content.
fn found_in(environment: &str, files: &[(&str, &str)]) -> Vec<Finding> {
    let environment = env_file::parse("a.env", environment).unwrap();
    let file = |(name, text): &(&str, &str)| SourceFile {
        name: (*name).to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let files: Vec<_> = files.iter().map(file).collect();
    let mut findings = Vec::new();
    rules::compare(&environment, &files, &mut findings);
    findings
}

#[track_caller]
fn check(environment: &str, files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(titles(&found_in(environment, files)), expected);
}

const GOOD: &str = "\
domain: d
descriptors:
- {key: a, rate_limit: {unit: day, requests_per_unit: 1}}
";

#[test]
fn valid_rules_have_no_difference() {
    check("", &[("a.yaml", GOOD)], &[]);
    check("", &[], &[]);
}

#[test]
fn files_that_only_tollgate_rejects_are_shown_with_the_line() {
    let text = "domain: d\ndescriptors:\n- {key: a, unit: day, rate_limit: {unit: day}}\n";
    let found = found_in("", &[("a.yaml", text)]);
    assert_eq!(
        found[0].to_string(),
        "\
will not start: the key `unit` does not belong here
 --> a.yaml:3:12
  |
3 | - {key: a, unit: day, rate_limit: {unit: day}}
  |            ^^^^
  = help: it belongs in `rate_limit` or an element of `rate_limits`
  = ratelimit: accepts this file
  = tollgate: exits at the start
  = to do: correct this first; `tollgate check` checks the rules
"
    );
    for (text, expected) in [
        (format!("{GOOD}domain: d\n"), "the key `domain` is already at a:1"),
        (
            format!("{GOOD}---\ndomain: e\n"),
            "a second document begins here, expected one in a file",
        ),
    ] {
        let found = found_in("FORCE_START_WITHOUT_INITIAL_CONFIG=true", &[("a", &text)]);
        assert_eq!(
            (found[0].title.as_str(), found[0].reference.as_str()),
            (expected, "accepts this file")
        );
        assert!(found[0].tollgate.starts_with("starts without rules"), "{}", found[0]);
    }
}

#[test]
fn files_that_both_services_reject_have_both_reasons() {
    for (text, reason) in [
        ("domain: d\ndescriptors:\n- key: 1.5\n", "line 3: a number that is not an integer"),
        ("domian: d\n", "line 1: the key domian is unknown"),
        ("", "it has no domain"),
    ] {
        let there = &found_in("", &[("a.yaml", text)])[0].reference;
        assert_eq!(*there, format!("also rejects this file: {reason}"));
    }
    let unknown = &found_in("", &[("a.yaml", "domain: [\n")])[0];
    assert_eq!((unknown.grade, unknown.reference.as_str()), (Grade::WillNotStart, ""));
    let twice = found_in("", &[("a", GOOD), ("b", GOOD)]);
    assert_eq!(
        twice[0].reference,
        "also rejects this file: line 1: the domain d is in another file"
    );
}

#[test]
fn rules_for_tollgate_only_are_noted() {
    let text = "domain: d\ndescriptors:\n- key: a\n  rate_limit: {period: 5s}\n";
    check("", &[("a.yaml", text)], &["note: these rules work only with tollgate"]);
}

#[test]
fn a_merge_that_replaces_a_key_above_it_is_noted_with_both_values() {
    let text = "\
domain: d
descriptors:
- {key: a, rate_limit: &default {unit: day, requests_per_unit: 100}}
- {key: b, rate_limit: {requests_per_unit: 1000, <<: *default}}
";
    let found = found_in("", &[("a.yaml", text)]);
    assert_eq!(
        found[0].to_string(),
        "\
note: `requests_per_unit` is `100` here, not `1000`: the `<<` at a.yaml:4 is below it, and replaces it
 --> a.yaml:4:25
  |
4 | - {key: b, rate_limit: {requests_per_unit: 1000, <<: *default}}
  |                         ^^^^^^^^^^^^^^^^^
  = help: write `<<` first, above the keys that differ from it
"
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn returned_metadata_differs() {
    let limit = "rate_limit: {unit: day, requests_per_unit: 1}, metadata: {a: 1}";
    let text = format!(
        "domain: d\ndescriptors:\n- {{key: a, value_to_metric: true, {limit}}}\n\
         - {{key: b, detailed_metric: true, {limit}}}\n- {{key: c, {limit}}}\n\
         - {{key: d, value: e, value_to_metric: true, {limit}}}\n"
    );
    let files = [("a.yaml", text.as_str())];
    check(
        "RESPONSE_DYNAMIC_METADATA=true",
        &files,
        &["differs: the metadata of a rule is returned"],
    );
    let place = &found_in("RESPONSE_DYNAMIC_METADATA=1", &files)[0].place;
    assert_eq!(place, "a.yaml:3 and 1 more");
    check("RESPONSE_DYNAMIC_METADATA=false", &files, &[]);
}

#[test]
fn counters_that_were_shared_differ() {
    let text = "
domain: d
descriptors:
- key: a
  value: b
  descriptors:
  - {key: c, value: d, rate_limit: {unit: minute, requests_per_unit: 1}}
- key: a
  value: b_c_d
  rate_limit: {unit: hour, requests_per_unit: 1}
";
    let files = [("a.yaml", text)];
    check("", &files, &["differs: two limits no longer share a counter"]);
    let there = &found_in("", &files)[0].reference;
    assert!(there.ends_with("together, whenever their windows begin at the same moment"));
    check("COUNTER_KEYS=reference", &files, &[]);
}

#[test]
fn patterns_in_several_files_differ() {
    let text = "domain: d\ndescriptors:\n- {key: a, value: \"x*\", rate_limit: {unit: day}}\n";
    let other = text.replace("x*", "*y");
    let merge = "MERGE_DOMAIN_CONFIG=true";
    let files = [("a", text), ("b", other.as_str())];
    check(merge, &files, &["differs: several files have patterns for the domain d"]);
    check(merge, &[("a", text), ("b", GOOD)], &[]);
}

#[test]
fn files_that_tollgate_does_not_read_differ() {
    let other = GOOD.replace("domain: d", "domain: e");
    let files = [("a.yaml", GOOD), ("b.conf", other.as_str())];
    check("", &files, &[]);
    let title = "differs: the name of a rule file ends in neither .yaml nor .yml";
    check("TOLLGATE_CONFIG=/rules", &files, &[title]);
}

#[test]
fn all_files_of_a_directory_are_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("below")).unwrap();
    for (name, text) in [("a.conf", GOOD), ("below/b.yaml", "domain: [\n"), (".hidden", "x: [\n")] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let rules = Some(directory.path().to_owned());
    let migration = Migration { rules, ..Migration::default() };
    let mut out = Vec::new();
    assert!(matches!(migrate(&migration, &mut out), Ok(CommandStatus::Negative)));
    let out = String::from_utf8(out).unwrap();
    for place in [" --> below.b.yaml:", " --> .hidden:"] {
        assert!(out.contains(place), "{out}");
    }
    assert!(out.ends_with("2 will not start, 0 differ, 0 notes, 0 the same\n"), "{out}");
}

#[test]
fn valid_rules_alone_are_positive() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), GOOD).unwrap();
    let migration = Migration { rules: Some(file.path().into()), ..Migration::default() };
    let mut out = Vec::new();
    assert!(matches!(migrate(&migration, &mut out), Ok(CommandStatus::Positive)));
    assert_eq!(out, b"0 will not start, 0 differ, 0 notes, 0 the same\n");
}
