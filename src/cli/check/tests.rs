use std::{fs, path::PathBuf};

use super::*;
use crate::{
    cli::rule_input::RulePlaces,
    rule_files::{self, LinkPolicy, RuleSource},
};

/// Checks files, each a name and a content; an empty content stands for a file
/// that does not exist. Returns the output without directories.
fn run(files: &[(&str, &str)]) -> (String, CommandStatus) {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = directory.path().join(name);
        if !text.is_empty() {
            fs::write(&path, text).unwrap();
        }
        paths.push(path);
    }
    let (out, status) = run_check(RulePlaces::Paths(paths));
    (out.replace(&format!("{}/", directory.path().display()), ""), status)
}

fn run_check(rules: RulePlaces) -> (String, CommandStatus) {
    let mut out = Vec::new();
    let status =
        check(&RuleInput { rules, links: LinkPolicy::Inside, merge_domains: false }, &mut out)
            .unwrap();
    (String::from_utf8(out).unwrap(), status)
}

const GOOD: &str = "domain: d\ndescriptors:\n- { key: a, rate_limit: { unlimited: true } }\n";
const WARNING: &str = "domain: e\ndescriptors:\n- key: a\n";

#[test]
fn valid_rules_are_counted() {
    let (out, status) = run(&[("a.yaml", GOOD)]);
    assert_eq!(
        (out.as_str(), status),
        ("1 file, 1 rule, 0 warnings: ok\n", CommandStatus::Positive)
    );
}

#[test]
fn a_mistake_in_http_is_shown_with_its_place_and_key() {
    for (http, place, message) in [
        ("http:", "2:1", "`http` has no `descriptors`"),
        ("http: {descriptors: [[remote_adress]]}", "2:23", "did you mean `remote_address`?"),
        ("http: {descriptors: [[{heder: x}]]}", "2:24", "did you mean `header`?"),
        ("http: {descriptors: [[{claim: org}]]}", "2:24", "`claim` has no `header`"),
        (
            "http: {trusted_hops: 0, descriptors: [[path]]}",
            "2:22",
            "`trusted_hops` is `0`, expected a whole number from 1 to 100",
        ),
    ] {
        let (out, status) = run(&[("a.yaml", &format!("domain: d\n{http}\n"))]);
        assert_eq!(status, CommandStatus::Negative, "{out}");
        assert!(out.contains(&format!("--> a.yaml:{place}\n")), "{out}");
        assert!(out.contains(message) && out.contains(&format!("2 | {http}\n")), "{out}");
    }
}

#[test]
fn warnings_are_shown_and_the_rules_are_valid() {
    let (out, status) = run(&[("a.yaml", GOOD), ("b.yaml", WARNING)]);
    let expected = "\
warning: this has no effect: it has neither `rate_limit` nor `descriptors`, and no other rule would match its entries
 --> b.yaml:3:3
  |
3 | - key: a
  |   ^

2 files, 1 rule, 1 warning: ok
";
    assert_eq!((out.as_str(), status), (expected, CommandStatus::Positive));
}

#[test]
fn mistakes_in_all_files_and_missing_files_are_shown_together() {
    let (out, status) =
        run(&[("a.yaml", "domain: 1.5\n"), ("b.yaml", ""), ("c.yaml", GOOD), ("d.yaml", GOOD)]);
    let expected = "\
error: b.yaml: cannot read this: No such file or directory (os error 2)

error: `domain` is the number `1.5`, expected a string
 --> a.yaml:1:9
  |
1 | domain: 1.5
  |         ^^^
  = help: quote it: '1.5'

error: the domain `d` is already at c.yaml:1
 --> d.yaml:1:1
  |
1 | domain: d
  | ^^^^^^
  = help: put all of it into one file, or switch on the merging of domains

3 files, 2 mistakes, 1 path unreadable: not ok
";
    assert_eq!((out.as_str(), status), (expected, CommandStatus::Failed));
}

#[test]
fn a_mistake_is_negative() {
    let (out, status) = run(&[("a.yaml", "domain: 1.5\n"), ("b.yaml", GOOD)]);
    assert!(out.ends_with("\n2 files, 1 mistake: not ok\n"), "{out}");
    assert_eq!(status, CommandStatus::Negative);
}

#[test]
fn valid_rules_beside_a_missing_path_are_a_failure() {
    let (out, status) = run(&[("a.yaml", GOOD), ("b.yaml", "")]);
    assert!(out.ends_with("\n1 file, 1 rule, 0 warnings, 1 path unreadable: not ok\n"), "{out}");
    assert_eq!(status, CommandStatus::Failed);
}

#[test]
fn configured_rules_are_read_as_serve_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.conf"), GOOD).unwrap();
    let layout = rule_files::RuntimeLayout {
        root: directory.path().into(),
        subdirectory: PathBuf::new(),
        app_directory: String::new(),
        watch_root: false,
        ignore_dot_files: false,
    };
    let (out, status) = run_check(RulePlaces::Configured(RuleSource::Runtime(layout)));
    assert_eq!(out, "1 file, 1 rule, 0 warnings: ok\n");
    assert_eq!(status, CommandStatus::Positive);
    let missing = RuleSource::Path("/nowhere".into());
    assert_eq!(run_check(RulePlaces::Configured(missing)).1, CommandStatus::Failed);
}

const MANIFEST: &str = include_str!("../../../k8s/tollgate.yaml");

#[test]
fn the_rules_of_a_manifest_are_checked() {
    let (out, status) = run(&[("tollgate.yaml", MANIFEST)]);
    assert_eq!(
        (out.as_str(), status),
        ("1 file, 1 rule, 0 warnings: ok\n", CommandStatus::Positive)
    );
}

#[test]
fn a_mistake_in_a_manifest_has_its_object_key_and_line() {
    let manifest = "\
apiVersion: v1
kind: List
items:
- kind: ConfigMap
  metadata: {name: rules, namespace: shop}
  data:
    LOG_LEVEL: info
    a.yaml: |
      # rules

      domain: d
      descriptors:
        - key: a
          rate_limit: {unit: day, limit: 1}
    b.yaml: \"domain: e\\ndescriptors: {}\"
  binaryData:
    c.yaml: ZG9tYWluOiBkCg==
---
kind: ConfigMap
metadata: {name: other}
";
    let (out, status) = run(&[("k.yaml", manifest)]);
    let expected = "\
note: ConfigMap shop/rules, key LOG_LEVEL has no rules and is skipped

note: ConfigMap other has no rules and is skipped

error: the key `limit` is unknown
  --> ConfigMap shop/rules, key a.yaml, k.yaml:14:35
   |
14 |     rate_limit: {unit: day, limit: 1}
   |                             ^^^^^
";
    assert!(out.starts_with(expected), "{out}");
    let expected = " --> k.yaml, ConfigMap shop/rules, key b.yaml:2:14\n";
    assert!(out.contains(expected), "{out}");
    let expected = "is already at ConfigMap shop/rules, key a.yaml, k.yaml:11\n";
    assert!(out.contains(expected), "{out}");
    let expected = " --> k.yaml, ConfigMap shop/rules, key c.yaml:1:1\n";
    assert!(out.contains(expected), "{out}");
    assert!(out.ends_with("\n3 files, 3 mistakes: not ok\n"), "{out}");
    assert_eq!(status, CommandStatus::Negative);
}

#[test]
fn each_yaml_key_beside_rules_is_a_rule_file_as_for_serve() {
    for value in
        ["", "{}", "[]", "null", "plain text", "domains: x", "Domain: x", "- a", "key: a\nvalue: b"]
    {
        for name in ["b.yaml", "b.yml"] {
            let quoted = value.replace('\n', "\\n");
            let manifest = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: r}}\ndata:\n  {name}: \
                 \"{quoted}\"\n  a.yaml: |\n    {}\n",
                GOOD.trim_end().replace('\n', "\n    ")
            );
            let (out, status) = run(&[("k.yaml", &manifest)]);
            assert_eq!(status, CommandStatus::Negative, "{value}: {out}");
            assert!(out.contains(&format!("ConfigMap r, key {name}")), "{value}: {out}");
            assert!(out.contains("\n2 files, "), "{value}: {out}");
        }
    }
}

#[test]
fn a_key_that_serve_does_not_read_from_a_directory_is_named() {
    for name in ["rules.txt", "rules", ".a.yaml"] {
        let value = GOOD.trim_end().replace('\n', "\n    ");
        let manifest = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: r}}\ndata:\n  {name}: |\n    {value}\n"
        );
        let (out, status) = run(&[("k.yaml", &manifest)]);
        let expected = format!("note: ConfigMap r, key {name}: `serve` does not read this from a ");
        assert!(out.starts_with(&expected), "{out}");
        assert!(out.ends_with("\n1 file, 1 rule, 0 warnings: ok\n"), "{out}");
        assert_eq!(status, CommandStatus::Positive);
    }
}

#[test]
fn skipped_keys_and_config_maps_are_named_up_to_a_bound() {
    let mut manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: r}}\ndata:\n  a.yaml: |\n    {}\n",
        GOOD.trim_end().replace('\n', "\n    ")
    );
    for number in 0..1000 {
        manifest += &format!("  key{number}: a\n");
    }
    manifest += "---\nkind: ConfigMap\nmetadata: {name: o}\ndata: {a.yaml: '- a'}\n";
    let (out, status) = run(&[("k.yaml", &manifest)]);
    assert!(out.starts_with("note: ConfigMap r, key key0 has no rules and is skipped\n"), "{out}");
    let more = format!("note: and {} more like this\n", 1001 - Diagnostics::MAX_SHOWN);
    assert!(out.contains(&more), "{out}");
    assert_eq!(status, CommandStatus::Positive);
}

#[test]
fn a_manifest_in_json_is_checked() {
    let manifest = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"data\": \
                    {\"a.yaml\": \"domain: d\\ndescriptors: [{key: a, rate_limit: {unlimited: true}}]\"}}";
    let (out, status) = run(&[("k.json", manifest)]);
    assert_eq!(
        (out.as_str(), status),
        ("1 file, 1 rule, 0 warnings: ok\n", CommandStatus::Positive)
    );
}

#[test]
fn lists_of_all_kinds_and_quoted_keys_are_read() {
    let data = "{a.yaml: \"domain: d\\ndescriptors: [{key: a, rate_limit: {unlimited: true}}]\"}";
    for manifest in [
        format!("apiVersion: v1\nkind: ConfigMapList\nitems:\n- data: {data}\n"),
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- kind: List\n  items:\n  - kind: ConfigMap\n    \
             data: {data}\n"
        ),
        format!("\"apiVersion\": v1\n\"kind\": ConfigMap\n\"data\": {data}\n"),
        format!("'apiVersion': v1\n'kind': ConfigMap\n'data': {data}\n"),
    ] {
        let (out, status) = run(&[("k.yaml", &manifest)]);
        assert_eq!(out, "1 file, 1 rule, 0 warnings: ok\n", "{manifest}");
        assert_eq!(status, CommandStatus::Positive);
    }
}

#[test]
fn a_template_is_named_with_its_line() {
    for line in ["  a: {{ .Values.a }}", "{{- if .Values.a }}"] {
        let manifest = format!("apiVersion: v1\nkind: ConfigMap\ndata:\n{line}\n  b: c\n");
        let (out, status) = run(&[("k.yaml", &manifest)]);
        assert!(out.starts_with("error: k.yaml: line 4 has the template `{{"), "{out}");
        assert!(out.contains(".Values.a }}`, expected a manifest: render it first"), "{out}");
        assert_eq!(status, CommandStatus::Failed);
    }
}

#[test]
fn a_path_that_is_given_twice_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, GOOD).unwrap();
    let other = directory.path().join(".").join("a.yaml");
    let (out, status) = run_check(RulePlaces::Paths(vec![path, other]));
    assert!(out.contains("a.yaml: this is given twice: remove one\n"), "{out}");
    assert!(!out.contains("the domain"), "{out}");
    assert_eq!(status, CommandStatus::Failed);
}

#[test]
fn a_manifest_without_readable_rules_is_a_failure() {
    for (manifest, expected) in [
        ("apiVersion: v1\nkind: Service\n", "no ConfigMap in this manifest has a rule file"),
        ("apiVersion: v1\nkind: [\n", "this is not a valid manifest:\nerror: "),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: r}\nbinaryData: {a: \"=\"}\n",
            "ConfigMap r, key a is not valid base64",
        ),
    ] {
        let (out, status) = run(&[("k.yaml", manifest)]);
        assert!(out.starts_with(&format!("error: k.yaml: {expected}")), "{out}");
        assert_eq!(status, CommandStatus::Failed, "{manifest}");
    }
}

#[test]
fn invalid_rules_in_a_manifest_are_mistakes() {
    for rules in ["domain: [", "descriptors: [{key: a}]", "\"domain\": 1.5"] {
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\ndata:\n  a.yaml: |\n    {rules}\n");
        let (out, status) = run(&[("k.yaml", &manifest)]);
        assert_eq!(status, CommandStatus::Negative, "{out}");
        assert!(out.contains("key a.yaml, k.yaml:5:"), "{out}");
    }
}

#[test]
fn a_rule_file_with_a_key_of_manifests_is_a_rule_file() {
    for (text, expected) in [
        (format!("apiVersion: v1\n{GOOD}"), "error: the key `apiVersion` is unknown"),
        (format!("{GOOD}apiVersion: v1\n"), " --> a.yaml:4:1\n"),
        (format!("apiVersion: v1\nkind: ConfigMap\n{GOOD}"), " --> a.yaml:2:1\n"),
        ("apiVersion: v1\ndomain: [\n".to_owned(), " --> a.yaml:"),
    ] {
        let (out, status) = run(&[("a.yaml", &text)]);
        assert!(out.contains(expected), "{out}");
        assert_eq!(status, CommandStatus::Negative, "{out}");
    }
}

#[test]
fn a_directory_may_not_have_manifests() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("k.yaml"), MANIFEST).unwrap();
    let (out, status) = run_check(RulePlaces::Paths(vec![directory.path().into()]));
    assert_eq!(status, CommandStatus::Failed);
    assert!(out.contains("k.yaml: this is a Kubernetes manifest, "), "{out}");
    assert!(
        out.ends_with(
            "name the file itself\n\n0 files, 0 rules, 0 warnings, 1 path unreadable: not ok\n"
        ),
        "{out}"
    );
}
