//! `tollgate migrate`: what changes when tollgate takes the place of Envoy's
//! reference service?
//!
//! It reads what that service is started with and its rules, and compares item
//! by item. What tollgate makes of them is asked of the code that serves:
//! [`Settings`](crate::settings::Settings) and [`config`](crate::config). What
//! the reference makes of them is in `reference` and `verdict`, and each
//! difference that neither shows is a check in a table.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::Status,
    config::{MAX_BYTES, SourceFile, documents},
    rule_files::ReadError,
};

mod behaviour;
mod defaults;
mod environment;
mod finding;
mod layout;
mod limits;
mod manifest;
mod mounted;
mod pod;
mod reference;
mod rules;
mod statistics;
mod variables;
mod verdict;

use self::{
    environment::Environment,
    finding::{Finding, Grade},
    manifest::Pod,
    mounted::Mounted,
};

/// What to compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// A file of variables or a manifest of Kubernetes; `-` is the standard
    /// input.
    pub environment: Option<PathBuf>,
    /// The container, where the manifest has several.
    pub container: Option<String>,
    /// A file of rules, or a directory with such files.
    pub rules: Option<PathBuf>,
    /// Whether to show what is the same, too.
    pub verbose: bool,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The environment cannot be read.
    #[error("{}: cannot read this", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The environment is too long, is no text, or is neither kind of file.
    #[error("{}: {_1}", .0.display())]
    Environment(PathBuf, String),
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] ReadError),
    /// The findings cannot be written.
    #[error("cannot write what was found")]
    Write(#[from] io::Error),
}

/// What is compared.
struct Case<'a> {
    env: &'a Environment,
    /// Whether rules come by xDS, and not from files.
    by_xds: bool,
}

impl<'a> Case<'a> {
    fn new(env: &'a Environment) -> Self {
        let by_xds =
            env.text("CONFIG_TYPE").is_some_and(|it| it.eq_ignore_ascii_case("GRPC_XDS_SOTW"));
        Self { env, by_xds }
    }

    /// Where rules are, unless they come by xDS.
    fn rules_path(&self) -> PathBuf {
        if let Some(path) = self.env.text("TOLLGATE_CONFIG") {
            return path.into();
        }
        let text = |name, default| self.env.text(name).unwrap_or(default).trim_matches('/');
        let root = self.env.text("RUNTIME_ROOT").unwrap_or("/srv/runtime_data/current");
        [text("RUNTIME_SUBDIRECTORY", ""), text("RUNTIME_APPDIRECTORY", "config")]
            .iter()
            .filter(|it| !it.is_empty())
            .fold(PathBuf::from(root), |path, it| path.join(it))
    }
}

/// Compares, and writes to `out` what was found. [`Status::Yes`] means that
/// nothing is known to differ.
///
/// # Errors
///
/// If what is to be compared cannot be read, or `out` cannot be written to.
pub fn migrate(migration: &Migration, out: &mut impl Write) -> Result<Status, MigrateError> {
    let mut findings = Vec::new();
    match &migration.environment {
        None => compare_rules(migration, &Case::new(&Environment::default()), &mut findings)?,
        Some(path) => {
            let source = read(path)?;
            let wrong = |problem| MigrateError::Environment(path.clone(), problem);
            let text = str::from_utf8(&source.bytes)
                .ok()
                .filter(|it| !it.contains('\0'))
                .ok_or_else(|| wrong("this is no text, expected UTF-8".into()))?;
            if manifest::is_manifest(text) {
                let documents = documents::read(&source);
                if let Some(mistakes) = &documents.diagnostics {
                    return Err(wrong(format!("this is no manifest:\n{mistakes}")));
                }
                let container = migration.container.as_deref();
                let pod = Pod::find(&source.name, &documents, container).map_err(wrong)?;
                compare_pod(migration, &pod, &mut findings)?;
            } else if text.lines().any(|it| it.trim_end() == "services:") {
                let expected = "expected the variables of its service, NAME=value on each line";
                return Err(wrong(format!("this is a file of Docker Compose, {expected}")));
            } else {
                let environment = Environment::parse(&source.name, text).map_err(wrong)?;
                let case = Case::new(&environment);
                compare_environment(&case, &mut findings);
                compare_rules(migration, &case, &mut findings)?;
            }
        }
    }
    finding::write(&findings, migration.verbose, out)?;
    Ok(answer(&findings))
}

/// Whether nothing is known to differ.
fn answer(findings: &[Finding]) -> Status {
    let matters = |it: &Finding| matches!(it.grade, Grade::WillNotStart | Grade::Differs);
    if findings.iter().any(matters) { Status::No } else { Status::Yes }
}

/// The file at `path`, or the standard input.
fn read(path: &Path) -> Result<SourceFile, MigrateError> {
    let io = |error| MigrateError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    let is_stdin = path == Path::new("-");
    if is_stdin {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(io)?;
    } else {
        File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
    }
    if bytes.len() > MAX_BYTES {
        let problem = format!("this is too long, expected at most {MAX_BYTES} bytes");
        return Err(MigrateError::Environment(path.to_owned(), problem));
    }
    let name = if is_stdin { "stdin".into() } else { path.display().to_string() };
    Ok(SourceFile { name, bytes })
}

fn compare_environment(case: &Case<'_>, findings: &mut Vec<Finding>) {
    variables::mistakes(case, findings);
    variables::collector(case, findings);
    variables::unknown(case, findings);
    variables::empty(case, findings);
    variables::numbers(case, findings);
    variables::others(case, findings);
    defaults::defaults(case, findings);
    findings.extend(checks().filter_map(|check| check(case)));
    variables::refused_there(case, findings);
    variables::same(case, findings);
    behaviour::always(case, findings);
}

/// What the same settings do otherwise: a check for each kind of difference.
fn checks() -> impl Iterator<Item = &'static fn(&Case<'_>) -> Option<Finding>> {
    behaviour::CHECKS.iter().chain(layout::CHECKS).chain(statistics::CHECKS)
}

fn compare_pod(
    migration: &Migration,
    pod: &Pod<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), MigrateError> {
    let wrong = |problem| MigrateError::Environment(pod.file.into(), problem);
    let (environment, gaps) = pod.environment().map_err(wrong)?;
    findings.extend(gaps);
    let case = Case::new(&environment);
    compare_environment(&case, findings);
    pod::CHECKS.iter().for_each(|check| check(&case, pod, findings));
    let mounted = Mounted::find(&case, pod).map_err(wrong)?;
    if !case.by_xds {
        mounted.check(&case, pod, findings);
    }
    if case.by_xds || migration.rules.is_some() {
        return compare_rules(migration, &case, findings);
    }
    mounted.note_unseen(pod, findings);
    rules::compare(&case, &mounted.files, findings);
    Ok(())
}

fn compare_rules(
    migration: &Migration,
    case: &Case<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), MigrateError> {
    let Some(path) = &migration.rules else { return Ok(()) };
    if case.by_xds {
        let title = "rule files are not read: rules come by xDS";
        let finding = Finding::new(Grade::Note, title).of(case.env, "CONFIG_TYPE");
        findings.push(finding.there("does not read them either"));
        return Ok(());
    }
    rules::compare(case, &rules::read(case, path)?, findings);
    Ok(())
}

#[cfg(test)]
mod tests;
