//! Rule files: acceptance by both services, and differences in their effect.

use std::path::{Path, PathBuf};

use super::{
    acceptance::{self, Acceptance},
    environment::Environment,
    finding::{Finding, Grade},
    limits,
};
use crate::{
    config::{self, CompileOptions, Diagnostic, Diagnostics, SourceFile},
    rule_files::{self, LinkPolicy, ReadError, RuleSource, RuntimeLayout},
    time_zones::TimeZones,
};

/// Reads the rules at `path` as both services would: all files of a directory,
/// with any extension.
pub(super) fn read(env: &Environment, path: &Path) -> Result<Vec<SourceFile>, ReadError> {
    if !path.is_dir() {
        return rule_files::read(path, LinkPolicy::Anywhere);
    }
    let layout = RuntimeLayout {
        root: path.to_owned(),
        subdirectory: PathBuf::new(),
        app_directory: String::new(),
        watch_root: false,
        ignore_dot_files: env.is_true("RUNTIME_IGNOREDOTFILES"),
    };
    RuleSource::Runtime(layout).read(LinkPolicy::Anywhere)
}

/// Compares the effect of `files` in both services.
pub(super) fn compare(env: &Environment, files: &[SourceFile], findings: &mut Vec<Finding>) {
    const MERGE: &str = "MERGE_DOMAIN_CONFIG";
    // If the variable is unknown, the rules are most likely valid with its value.
    let merge_domains = env.is_true(MERGE) || env.unknown_origin(&[MERGE]).is_some();
    let acceptances = acceptance::check(files, merge_domains);
    let compiled = match config::compile(
        files,
        CompileOptions { merge_domains, time_zones: TimeZones::newest() },
    ) {
        Ok(compiled) => compiled,
        Err(diagnostics) => {
            add_diagnostics(env, &diagnostics, files, &acceptances, findings);
            return;
        }
    };
    for warning in compiled.warnings.iter().take(Diagnostics::MAX_SHOWN) {
        // Advice is for a line whose effect its author did not expect, in either service.
        let grade = if warning.help.is_some() { Grade::Note } else { Grade::Same };
        let finding = Finding::new(grade, warning.message.as_str());
        findings.push(with_snippet(finding, warning));
    }
    only_for_tollgate(files, &acceptances, findings);
    other_extensions(env, files, findings);
    limits::compare(env, files, findings);
    if merge_domains && !env.is_true(MERGE) {
        let unmerged = CompileOptions { merge_domains: false, time_zones: TimeZones::newest() };
        if config::compile(files, unmerged).is_err() {
            let title = "the rule files are valid only if MERGE_DOMAIN_CONFIG is true";
            findings.push(Finding::new(Grade::Note, title).about(env, MERGE));
        }
    }
}

fn add_diagnostics(
    env: &Environment,
    diagnostics: &Diagnostics,
    files: &[SourceFile],
    acceptances: &[Acceptance],
    findings: &mut Vec<Finding>,
) {
    for diagnostic in diagnostics.iter().take(Diagnostics::MAX_SHOWN) {
        let mut finding = Finding::new(Grade::WillNotStart, diagnostic.message.as_str())
            .tollgate(if env.is_true("FORCE_START_WITHOUT_INITIAL_CONFIG") {
                "starts without rules, and every request fails until this is corrected"
            } else {
                "exits at the start"
            })
            .remedy("correct this first; `tollgate check` checks the rules");
        for (file, acceptance) in files.iter().zip(acceptances) {
            if file.name == diagnostic.file {
                finding.reference = reference_behaviour(acceptance);
                break;
            }
        }
        findings.push(with_snippet(finding, diagnostic));
    }
    if diagnostics.len() > Diagnostics::MAX_SHOWN {
        let more = diagnostics.len() - Diagnostics::MAX_SHOWN;
        let title = format!("and {more} more mistakes in rule files");
        findings.push(Finding::new(Grade::WillNotStart, title));
    }
}

fn reference_behaviour(acceptance: &Acceptance) -> String {
    match acceptance {
        Acceptance::Accepted => "accepts this file".to_owned(),
        Acceptance::Rejected(reason) => format!("also rejects this file: {reason}"),
        Acceptance::Unknown => String::new(),
    }
}

/// Sets the place of `finding` to that of `diagnostic`, with its line.
fn with_snippet(finding: Finding, diagnostic: &Diagnostic) -> Finding {
    let snippet = diagnostic.snippet().to_string();
    // The first line is the message.
    let snippet = match snippet.split_once('\n') {
        Some((_, rest)) => rest.to_owned(),
        None => String::new(),
    };
    Finding { snippet, place: diagnostic.file.clone(), ..finding }
}

/// Adds the first file that only tollgate accepts: with it there is no way
/// back to the reference.
fn only_for_tollgate(
    files: &[SourceFile],
    acceptances: &[Acceptance],
    findings: &mut Vec<Finding>,
) {
    for (file, acceptance) in files.iter().zip(acceptances) {
        if let Acceptance::Rejected(reason) = acceptance {
            findings.push(
                Finding::new(Grade::Note, "these rules work only with tollgate")
                    .at(&file.name)
                    .reference(format!("rejects this file: {reason}"))
                    .remedy("keep the previous rules, in case you go back"),
            );
            return;
        }
    }
}

/// Adds files that tollgate does not read from the directory `TOLLGATE_CONFIG`.
fn other_extensions(env: &Environment, files: &[SourceFile], findings: &mut Vec<Finding>) {
    if !env.is_set("TOLLGATE_CONFIG") || files.len() < 2 {
        return;
    }
    for file in files {
        if file.name.ends_with(".yaml") || file.name.ends_with(".yml") {
            continue;
        }
        let title = "the name of a rule file ends in neither .yaml nor .yml";
        findings.push(
            Finding::new(Grade::Differs, title)
                .at(&file.name)
                .reference("reads it")
                .tollgate("does not read it if TOLLGATE_CONFIG is a directory")
                .remedy("rename it"),
        );
    }
}
