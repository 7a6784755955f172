use std::fs;

use super::*;

/// Checks files of these names and contents, and returns what is said, without
/// the names of directories, and what came of it.
fn run(files: &[(&str, &str)]) -> (String, Status) {
    let directory = tempfile::tempdir().expect("a directory");
    let paths: Vec<_> = files.iter().map(|(name, _)| directory.path().join(name)).collect();
    for ((_, text), path) in files.iter().zip(&paths) {
        if !text.is_empty() {
            fs::write(path, text).expect("a file");
        }
    }
    let mut out = Vec::new();
    let status = check(&paths, CompileOptions::default(), &mut out).expect("a vector");
    let out = String::from_utf8(out).expect("text");
    (out.replace(&format!("{}/", directory.path().display()), ""), status)
}

const GOOD: &str = "domain: d\ndescriptors:\n- { key: a, rate_limit: { unlimited: true } }\n";
const WARNING: &str = "domain: e\ndescriptors:\n- key: a\n";

#[test]
fn good_rules_are_counted() {
    let (out, status) = run(&[("a.yaml", GOOD)]);
    assert_eq!((out.as_str(), status), ("1 file, 1 rule, 0 warnings: ok\n", Status::Yes));
}

#[test]
fn a_warning_is_shown_and_is_no_failure() {
    let (out, status) = run(&[("a.yaml", GOOD), ("b.yaml", WARNING)]);
    let expected = "\
warning: this has no effect: it has neither `rate_limit` nor `descriptors`, and no other rule would match its entries
 --> b.yaml:3:3
  |
3 | - key: a
  |   ^

2 files, 1 rule, 1 warning: ok
";
    assert_eq!((out.as_str(), status), (expected, Status::Yes));
}

#[test]
fn mistakes_of_all_files_and_missing_files_are_shown_in_one_go() {
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
    assert_eq!((out.as_str(), status), (expected, Status::No));
}

#[test]
fn good_rules_with_a_path_that_is_missing_are_a_failure() {
    let (out, status) = run(&[("a.yaml", GOOD), ("b.yaml", "")]);
    assert!(out.ends_with("\n1 file, 1 rule, 0 warnings, 1 path unreadable: not ok\n"), "{out}");
    assert_eq!(status, Status::No);
}
