//! Rule files: whether tollgate takes them, and what it makes of them.

use std::path::{Path, PathBuf};

use super::{
    Case,
    finding::{Finding, Grade},
    limits,
    verdict::{Verdict, judge},
};
use crate::{
    config::{self, CompileOptions, Diagnostic, Diagnostics, SourceFile},
    rule_files::{self, ReadError, RuleSource, RuntimeLayout},
};

/// Reads the rules at `path` as both services would: every file of a
/// directory, whatever its name ends in.
pub(super) fn read(case: &Case<'_>, path: &Path) -> Result<Vec<SourceFile>, ReadError> {
    if !path.is_dir() {
        return rule_files::read(path);
    }
    let layout = RuntimeLayout {
        root: path.to_owned(),
        subdirectory: PathBuf::new(),
        app_directory: String::new(),
        watch_root: false,
        ignore_dot_files: case.env.is_true("RUNTIME_IGNOREDOTFILES"),
    };
    RuleSource::Runtime(layout).read()
}

/// Compares what both services make of `files`.
pub(super) fn compare(case: &Case<'_>, files: &[SourceFile], findings: &mut Vec<Finding>) {
    const MERGE: &str = "MERGE_DOMAIN_CONFIG";
    let said = case.env.is_true(MERGE);
    // Where that is not known, they are most likely meant to be right.
    let merge_domains = said || case.env.doubt(&[MERGE]).is_some();
    let verdicts = judge(files, merge_domains);
    match config::compile(files, CompileOptions { merge_domains }) {
        Ok(compiled) => {
            let same = |it: &Diagnostic| with_snippet(Finding::new(Grade::Same, &*it.message), it);
            findings.extend(compiled.warnings.iter().take(Diagnostics::MAX_SHOWN).map(same));
            only_here(files, &verdicts, findings);
            by_name(case, files, findings);
            limits::compare(case, files, findings);
            let apart = CompileOptions { merge_domains: said };
            if said != merge_domains && config::compile(files, apart).is_err() {
                let title = "rule files are right only if MERGE_DOMAIN_CONFIG is true";
                findings.push(Finding::new(Grade::Note, title).of(case.env, MERGE));
            }
        }
        Err(mistakes) => {
            let shown = mistakes.iter().take(Diagnostics::MAX_SHOWN);
            findings.extend(shown.map(|it| refused(case, it, files, &verdicts)));
            if mistakes.len() > Diagnostics::MAX_SHOWN {
                let more = mistakes.len() - Diagnostics::MAX_SHOWN;
                let title = format!("and {more} more mistakes in rule files");
                findings.push(Finding::new(Grade::WillNotStart, title));
            }
        }
    }
}

/// `finding` with the place of `mistake`, and the line that is there.
fn with_snippet(finding: Finding, mistake: &Diagnostic) -> Finding {
    let snippet = mistake.snippet().to_string();
    // The first line is the message.
    let snippet = snippet.split_once('\n').map_or(String::new(), |it| it.1.to_owned());
    Finding { snippet, place: mistake.file.clone(), ..finding }
}

fn refused(
    case: &Case<'_>,
    mistake: &Diagnostic,
    files: &[SourceFile],
    verdicts: &[Verdict],
) -> Finding {
    let verdict = files.iter().zip(verdicts).find(|(file, _)| file.name == mistake.file);
    let there = match verdict.map(|it| it.1) {
        Some(Verdict::Accepts) => "accepts this file".into(),
        Some(Verdict::Refuses(reason)) => format!("refuses this file, too: {reason}"),
        Some(Verdict::Unknown) | None => String::new(),
    };
    let here = match case.env.is_true("FORCE_START_WITHOUT_INITIAL_CONFIG") {
        true => "starts without rules, and every request fails until this is mended",
        false => "ends at the start",
    };
    let remedy = "mend it beforehand: `tollgate check` shows whether all is well";
    let finding = Finding::new(Grade::WillNotStart, &*mistake.message);
    with_snippet(finding.there(there).here(here).remedy(remedy), mistake)
}

/// Rules that only tollgate takes: with them there is no way back.
fn only_here(files: &[SourceFile], verdicts: &[Verdict], findings: &mut Vec<Finding>) {
    let refused = files.iter().zip(verdicts).find_map(|(file, verdict)| match verdict {
        Verdict::Refuses(reason) => Some((file, reason)),
        Verdict::Accepts | Verdict::Unknown => None,
    });
    findings.extend(refused.map(|(file, reason)| {
        Finding::new(Grade::Note, "these rules are for tollgate alone")
            .at(&file.name)
            .there(format!("refuses this file: {reason}"))
            .remedy("keep the rules from before, in case you go back")
    }));
}

/// Files that `TOLLGATE_CONFIG` leaves out.
fn by_name(case: &Case<'_>, files: &[SourceFile], findings: &mut Vec<Finding>) {
    let is_yaml = |it: &&SourceFile| it.name.ends_with(".yaml") || it.name.ends_with(".yml");
    if !case.env.has("TOLLGATE_CONFIG") || files.len() < 2 {
        return;
    }
    findings.extend(files.iter().filter(|it| !is_yaml(it)).map(|it| {
        Finding::new(Grade::Differs, "the name of a rule file ends in neither .yaml nor .yml")
            .at(&it.name)
            .there("reads it")
            .here("does not read it where TOLLGATE_CONFIG names a directory")
            .remedy("rename it")
    }));
}
