//! `tollgate migrate`: lists the differences when tollgate replaces Envoy's
//! reference service, envoyproxy/ratelimit.
//!
//! It reads the environment and the rules of that service, and compares item by
//! item. For tollgate it runs the code that serves:
//! [`Settings`](crate::settings::Settings) and [`config`](crate::config). For
//! the reference it has models in `reference` and `acceptance`, and a check for
//! each other known difference.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    exit::CommandStatus,
    input::{self, InputError},
};
use crate::{
    config::{
        SourceFile,
        documents::{self, Documents},
    },
    printable::printable_path,
    rule_files::ReadError,
};

mod environment;
mod env_file;
mod finding;
mod reference;
mod variables;
mod invalid;
mod defaults;
mod redis_address;
mod behaviour;
mod layout;
mod statistics;
mod container;
mod pod;
mod command;
mod ports;
mod pod_spec;
mod volumes;
mod mounted_rules;
mod acceptance;
mod limits;
mod rules;

use self::{
    environment::Environment,
    finding::{Finding, Grade},
    mounted_rules::MountedRules,
    pod::Pod,
};

/// The arguments of `tollgate migrate`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// A file of variables or a Kubernetes manifest; `-` is standard input.
    pub environment: Option<PathBuf>,
    /// The container to compare, if the manifest has several.
    pub container: Option<String>,
    /// A rule file, or a directory of rule files.
    pub rules: Option<PathBuf>,
    /// Set to list items without a difference, too.
    pub verbose: bool,
}

/// The reason why `tollgate migrate` cannot compare.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The environment cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The environment is neither a valid file of variables nor a valid manifest.
    #[error("{}: {_1}", printable_path(.0))]
    Environment(PathBuf, String),
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] ReadError),
    /// The output cannot be written.
    #[error("cannot write the findings")]
    Write(#[from] io::Error),
}

/// Compares, and writes the findings to `out`. Returns
/// [`CommandStatus::Positive`] if no difference is known.
///
/// # Errors
///
/// If the input cannot be read, or `out` cannot be written.
pub fn migrate(migration: &Migration, out: &mut impl Write) -> Result<CommandStatus, MigrateError> {
    let mut findings = Vec::new();
    let Some(path) = &migration.environment else {
        compare_rules(migration, &Environment::default(), &mut findings)?;
        return finish(migration, &findings, out);
    };
    let source = input::read(path)?;
    let text = text_of(&source).map_err(|problem| invalid_input(path, problem))?;
    if !pod::is_manifest(text) {
        let environment = read_variables(&source.name, text);
        let environment = environment.map_err(|problem| invalid_input(path, problem))?;
        compare_environment(&environment, &mut findings);
        compare_rules(migration, &environment, &mut findings)?;
        return finish(migration, &findings, out);
    }
    let documents = documents::read(&source);
    let pod = find_pod(&source, &documents, migration);
    let pod = pod.map_err(|problem| invalid_input(path, problem))?;
    if pod.runs_tollgate() {
        let container = &pod.path;
        writeln!(
            out,
            "{}: the container {container} already runs tollgate: nothing to migrate",
            source.name
        )?;
        return Ok(CommandStatus::Positive);
    }
    compare_pod(migration, &pod, &mut findings)?;
    finish(migration, &findings, out)
}

fn invalid_input(path: &Path, problem: String) -> MigrateError {
    MigrateError::Environment(path.to_owned(), problem)
}

fn text_of(source: &SourceFile) -> Result<&str, String> {
    match str::from_utf8(&source.bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err("this is not text, expected UTF-8".to_owned()),
    }
}

fn read_variables(file: &str, text: &str) -> Result<Environment, String> {
    for line in text.lines() {
        if line.trim_end() == "services:" {
            return Err(
                "this is a file of Docker Compose, expected the variables of its service, \
                        NAME=value on each line"
                    .to_owned(),
            );
        }
    }
    env_file::parse(file, text)
}

fn find_pod<'n>(
    source: &'n SourceFile,
    documents: &'n Documents<'_>,
    migration: &Migration,
) -> Result<Pod<'n>, String> {
    if let Some(diagnostics) = &documents.diagnostics {
        return Err(format!("this is not a valid manifest:\n{diagnostics}"));
    }
    Pod::find(&source.name, documents, migration.container.as_deref())
}

fn finish(
    migration: &Migration,
    findings: &[Finding],
    out: &mut impl Write,
) -> Result<CommandStatus, MigrateError> {
    finding::write(findings, migration.verbose, out)?;
    Ok(status(findings))
}

fn status(findings: &[Finding]) -> CommandStatus {
    for finding in findings {
        if matches!(finding.grade, Grade::WillNotStart | Grade::Differs) {
            return CommandStatus::Negative;
        }
    }
    CommandStatus::Positive
}

fn compare_environment(env: &Environment, findings: &mut Vec<Finding>) {
    invalid::invalid_settings(env, findings);
    invalid::invalid_collector(env, findings);
    variables::unknown_values(env, findings);
    variables::empty_values(env, findings);
    variables::octal_numbers(env, findings);
    variables::not_settings(env, findings);
    defaults::defaults(env, findings);
    for check in checks() {
        findings.extend(check(env));
    }
    variables::rejected_by_reference(env, findings);
    variables::unchanged(env, findings);
    behaviour::general_differences(env, findings);
}

/// A check for one kind of difference.
type DifferenceCheck = fn(&Environment) -> Option<Finding>;

fn checks() -> Vec<DifferenceCheck> {
    [behaviour::CHECKS, layout::CHECKS, statistics::CHECKS].concat()
}

fn compare_pod(
    migration: &Migration,
    pod: &Pod<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), MigrateError> {
    let path = Path::new(pod.file);
    let env = pod.environment(findings).map_err(|problem| invalid_input(path, problem))?;
    compare_environment(&env, findings);
    command::command(pod, findings);
    ports::probes(&env, pod, findings);
    ports::ports(&env, pod, findings);
    pod_spec::service_links(&env, pod, findings);
    pod_spec::grace_period(&env, pod, findings);
    let rules = MountedRules::read(&env, pod).map_err(|problem| invalid_input(path, problem))?;
    if !env.has_xds_rules() {
        rules.check(&env, pod, findings);
    }
    if env.has_xds_rules() || migration.rules.is_some() {
        return compare_rules(migration, &env, findings);
    }
    rules.add_notes(pod, findings);
    rules::compare(&env, &rules.files, findings);
    Ok(())
}

/// Compares the rules that `--rules` names.
fn compare_rules(
    migration: &Migration,
    env: &Environment,
    findings: &mut Vec<Finding>,
) -> Result<(), MigrateError> {
    let Some(path) = &migration.rules else { return Ok(()) };
    if env.has_xds_rules() {
        let title = "rule files are not read: rules come from an xDS server";
        let finding = Finding::new(Grade::Note, title).about(env, "CONFIG_TYPE");
        findings.push(finding.reference("does not read them either"));
        return Ok(());
    }
    rules::compare(env, &rules::read(env, path)?, findings);
    Ok(())
}

#[cfg(test)]
mod tests;
