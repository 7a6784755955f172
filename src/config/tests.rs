use std::sync::Arc;

use super::*;
use crate::{
    limit::{Limit, Unit, Window},
    rules::{Rule, spec::LimitSpec},
};

mod dialect;
mod documents;
mod http;
mod http_warnings;
mod limits;
mod merges;
mod rejected;
mod robustness;
mod semantics;
mod trees;
mod warnings;

fn source(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.into(), bytes: text.into() }
}

fn compile_one(text: &str) -> Result<Compiled, Diagnostics> {
    compile(&[source("r.yaml", text)], CompileOptions::default())
}

/// Compiles a file that must have neither errors nor warnings.
#[track_caller]
fn rules(text: &str) -> Vec<Arc<Rule>> {
    let compiled = compile_one(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(lines(&compiled.warnings), "");
    compiled.rules.rules().to_vec()
}

/// The rule of a file whose only descriptor is `- key: a`, followed by `text`.
#[track_caller]
fn rule(text: &str) -> Arc<Rule> {
    rules(&format!("domain: d\ndescriptors:\n- key: a\n{text}")).remove(0)
}

/// The line and the column of an error in a file.
fn place(error: &Diagnostic) -> (u32, u32) {
    match error.position {
        Position::Line { line, column } => (line, column),
        Position::Path(_) => panic!("{error} has a path instead of a line"),
    }
}

fn lines<'a>(list: impl IntoIterator<Item = &'a Diagnostic>) -> String {
    list.into_iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// Compiles a file and compares its errors with `expected`, which leaves out the
/// name of the file.
#[track_caller]
fn check_errors(text: &str, expected: &[&str]) {
    let errors = compile_one(text).expect_err("the file has errors");
    let expected: String = expected.iter().map(|line| format!("r.yaml:{line}\n")).collect();
    assert_eq!(lines(errors.iter()), expected);
}

/// Like [`check_errors`] for the warnings of a file whose descriptors are `text`.
#[track_caller]
fn check_warnings(text: &str, expected: &[&str]) {
    let compiled = compile_one(&format!("domain: d\ndescriptors:\n{text}"));
    let compiled = compiled.unwrap_or_else(|errors| panic!("{errors}"));
    let expected: String = expected.iter().map(|line| format!("r.yaml:{line}\n")).collect();
    assert_eq!(lines(&compiled.warnings), expected);
}

#[test]
fn a_whole_file_becomes_rules() {
    let rules = rules(
        r"
domain: shop
descriptors:
- key: user
  value: eve
  shadow_mode: true
  detailed_metric: true
  metadata: { plan: [free, 1, 1.5, yes, null, '1'], 7: { on: x } }
  rate_limit:
    name: eves
    unit: Minute
    requests_per_unit: 5
    replaces: [{ name: all }]
- key: all
  quota_mode: true
  rate_limit: { name: all, unlimited: false, unit: YEAR, requests_per_unit: 4294967295 }
- key: path
  value: /img/*
  share_threshold: true
  descriptors:
  - key: open
    rate_limit: { unlimited: true }
",
    );
    let [eves, all, open] = rules.as_slice() else { panic!("{} rules", rules.len()) };
    let limits = |rule: &Rule| -> Vec<_> {
        rule.spec.limits.iter().map(|limit| (limit.name.to_string(), limit.limit.clone())).collect()
    };
    let fixed = |name: &str, requests, unit| {
        vec![(name.to_owned(), Limit::fixed(requests, Window::new(unit)))]
    };
    assert_eq!(limits(eves), fixed("eves", 5, Unit::Minute));
    assert_eq!(&*eves.spec.location, "r.yaml:4");
    assert_eq!(eves.spec.replaces, [Arc::from("all")]);
    assert!(eves.spec.shadow_mode && eves.spec.detailed_metric && !eves.spec.quota_mode);
    let metadata = serde_json::to_string(&eves.spec.metadata.as_deref()).unwrap();
    assert_eq!(metadata, r#"{"7":{"true":"x"},"plan":["free",1,1.5,true,null,"1"]}"#);
    assert_eq!(limits(all), fixed("all", u32::MAX, Unit::Year));
    assert!(all.spec.quota_mode && !all.spec.shadow_mode);
    assert!(open.is_unlimited());
    assert_eq!(open.stat_name().to_string(), "shop.path_/img/*.open");
}

#[test]
fn an_error_is_shown_with_its_line() {
    let text =
        "domain: shop\ndescriptors:\n- key: ü\n  rate_limit: { requests_per_unt: 5, unit: day }\n";
    let errors = compile_one(text).expect_err("there is one");
    let expected = "\
error: the key `requests_per_unt` is unknown
 --> r.yaml:4:17
  |
4 |   rate_limit: { requests_per_unt: 5, unit: day }
  |                 ^^^^^^^^^^^^^^^^
  = help: did you mean `requests_per_unit`?
";
    assert_eq!(errors.to_string(), expected);
    assert_eq!(errors.len(), 1);
}

#[test]
fn all_errors_of_all_files_are_reported_in_order() {
    let files = [
        source("a.yaml", "domain: a\ndescriptors:\n- key: x\n  valu: 1\n- value: y\n"),
        source("b.yaml", "domain: [\n"),
        source("c.yaml", "domain: a\ndescriptors:\n- key: x\n  rate_limit: { unit: eon }\n"),
    ];
    let errors = compile(&files, CompileOptions::default()).expect_err("the file has errors");
    let places: Vec<_> =
        errors.iter().map(|error| format!("{}:{}", error.file, place(error).0)).collect();
    assert_eq!(places, ["a.yaml:4", "a.yaml:5", "b.yaml:1", "c.yaml:1", "c.yaml:4"]);
}

#[test]
fn a_long_list_of_errors_is_cut() {
    let text = "domain: a\ndescriptors:\n".to_owned() + &"- kye: x\n".repeat(20_000);
    let errors = compile_one(&text).expect_err("the file has errors");
    assert_eq!(errors.len(), 20_000);
    let shown = errors.to_string();
    assert_eq!(shown.matches("error: ").count(), Diagnostics::MAX_SHOWN);
    assert!(shown.ends_with("and 19900 more\n"), "{}", &shown[shown.len() - 100..]);
}

#[test]
fn a_snippet_contains_no_control_characters() {
    let text = "domain: d\n\"\\e[2J\u{202e}x\": \u{85}1 # \u{7f}\t\n";
    let file = source("a\tb\u{1b}[2J.yaml", text);
    let shown =
        compile(&[file], CompileOptions::default()).expect_err("an unknown key").to_string();
    assert!(!shown.contains(|it: char| it.is_control() && it != '\n' || it == '\u{202e}'));
}
