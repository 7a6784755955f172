//! Tests of `tollgate migrate`.

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

/// An environment without differences.
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

/// The findings for a file of variables.
fn found(environment: &str) -> Vec<Finding> {
    let environment = env_file::parse("a.env", environment).unwrap();
    let mut findings = Vec::new();
    compare_environment(&environment, &mut findings);
    findings
}

/// The findings that are not `same`, each as `grade: title`.
fn titles(findings: &[Finding]) -> Vec<String> {
    let matters = |finding: &&Finding| finding.grade != Grade::Same;
    findings
        .iter()
        .filter(matters)
        .map(|finding| format!("{}: {}", finding.grade, finding.title))
        .collect()
}

/// Runs the command on a file with the content `text`.
fn run(text: &[u8], migration: &Migration) -> (String, Result<CommandStatus, MigrateError>) {
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
fn an_environment_without_differences_is_positive() {
    let mut findings = found(SAME);
    assert_eq!(titles(&findings), Vec::<String>::new());
    assert_eq!(status(&findings), CommandStatus::Positive);
    findings.push(Finding::new(Grade::Note, "look"));
    assert_eq!(status(&findings), CommandStatus::Positive);
    for grade in [Grade::Differs, Grade::WillNotStart] {
        findings.push(Finding::new(grade, "look"));
        assert_eq!(status(&findings), CommandStatus::Negative);
        findings.pop();
    }
}

#[test]
fn the_gravest_findings_come_first_and_all_are_counted() {
    let environment = SAME.replace("10s", "soon").replace("LOG_LEVEL=warn\n", "");
    let (out, status) = run(environment.as_bytes(), &Migration::default());
    let first = "\
will not start: REDIS_TIMEOUT=\"soon\"
 --> input:3
  = ratelimit: does not start with this either
  = tollgate: expected a duration such as 500ms, 10s or 1h30m";
    assert!(out.starts_with(first), "{out}");
    let default = "
differs: LOG_LEVEL is not set
 --> input
  = ratelimit: WARN
  = tollgate: info
  = to do: set LOG_LEVEL=warn to keep the old level

";
    assert!(out.contains(default), "{out}");
    assert!(out.contains("\n1 will not start, ") && out.ends_with("(--verbose shows them)\n"));
    assert!(matches!(status, Ok(CommandStatus::Negative)), "{status:?}");
}

#[test]
fn verbose_shows_items_that_stay_the_same() {
    let show = |verbose| run(SAME.as_bytes(), &Migration { verbose, ..Migration::default() }).0;
    let same = "same: REDIS_URL means the same\n --> input:3\n\n";
    assert!(show(true).contains(same), "{}", show(true));
    assert!(!show(false).contains(same), "{}", show(false));
    assert!(show(true).contains("same: COUNTER_KEYS is a setting of tollgate alone\n"));
}
