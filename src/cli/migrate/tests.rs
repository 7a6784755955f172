//! What `tollgate migrate` finds.

use std::fs;

use super::*;

mod differences;
mod environments;
mod hostile;
mod known;
mod manifests;
mod mounted_rules;
mod pods;
mod rule_sets;
mod table;
mod unknown_sources;

/// With this environment nothing differs.
const SAME: &str = "\
LOG_LEVEL=warn
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis:6379
REDIS_TIMEOUT=10s
COUNTER_KEYS=reference
EXPIRATION_JITTER_MAX_SECONDS=300
RESPONSE_DYNAMIC_METADATA=false
USE_STATSD=false
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_WATCH_ROOT=false
RUNTIME_IGNOREDOTFILES=true
";

/// What is found in a file of variables.
fn found(environment: &str) -> Vec<Finding> {
    let environment = Environment::parse("a.env", environment).unwrap();
    let mut findings = Vec::new();
    compare_environment(&Case::new(&environment), &mut findings);
    findings
}

/// What of it matters, each as `grade: title`.
fn titles(findings: &[Finding]) -> Vec<String> {
    let matters = |it: &&Finding| it.grade != Grade::Same;
    findings.iter().filter(matters).map(|it| format!("{}: {}", it.grade, it.title)).collect()
}

/// Runs the command on a file of this content.
fn run(text: &[u8], migration: &Migration) -> (String, Result<Status, MigrateError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    fs::write(&path, text).unwrap();
    let migration = Migration { environment: Some(path), ..migration.clone() };
    let mut out = Vec::new();
    let status = migrate(&migration, &mut out);
    let out = String::from_utf8(out).unwrap();
    (out.replace(&format!("{}/", directory.path().display()), ""), status)
}

#[test]
fn an_environment_with_which_nothing_differs_is_a_yes() {
    let mut findings = found(SAME);
    assert_eq!(titles(&findings), Vec::<String>::new());
    assert_eq!(answer(&findings), Status::Yes);
    findings.push(Finding::new(Grade::Note, "look"));
    assert_eq!(answer(&findings), Status::Yes);
    for grade in [Grade::Differs, Grade::WillNotStart] {
        findings.push(Finding::new(grade, "look"));
        assert_eq!(answer(&findings), Status::No);
        findings.pop();
    }
}

#[test]
fn the_gravest_comes_first_and_all_are_counted() {
    let environment = SAME.replace("10s", "soon").replace("LOG_LEVEL=warn\n", "");
    let (out, status) = run(environment.as_bytes(), &Migration::default());
    let first = "\
will not start: REDIS_TIMEOUT=\"soon\"
 --> input:3
  = there: does not start with this either
  = here: expected a duration such as 500ms, 10s or 1h30m";
    assert!(out.starts_with(first), "{out}");
    let default = "
differs: LOG_LEVEL is not set
 --> input
  = there: WARN
  = here: info
  = to do: set LOG_LEVEL=warn to keep it

";
    assert!(out.contains(default), "{out}");
    assert!(out.contains("\n1 will not start, ") && out.ends_with("(--verbose shows them)\n"));
    assert!(matches!(status, Ok(Status::No)), "{status:?}");
}

#[test]
fn what_is_the_same_is_shown_if_asked_for() {
    let show = |verbose| run(SAME.as_bytes(), &Migration { verbose, ..Migration::default() }).0;
    let same = "same: REDIS_URL means the same\n --> input:3\n\n";
    assert!(show(true).contains(same), "{}", show(true));
    assert!(!show(false).contains(same), "{}", show(false));
    assert!(show(true).contains("same: COUNTER_KEYS is a setting of tollgate alone\n"));
}
