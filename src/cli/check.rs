//! `tollgate check`: checks rules without serving them.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{exit::CommandStatus, input, manifest::is_manifest};
use crate::{
    config::{self, CompileOptions, Compiled, Diagnostic, Diagnostics, Position, SourceFile},
    rule_files::{self, LinkPolicy, RuleSource},
};

mod manifest_rules;

use self::manifest_rules::Block;

/// The arguments of `tollgate check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rules, which are checked as one set.
    pub rules: CheckedRules,
    /// The symbolic links that are followed below a directory.
    pub links: LinkPolicy,
    /// Set if several files may have the same domain.
    pub merge_domains: bool,
}

/// The rules to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedRules {
    /// The rules that `serve` would read with the current settings.
    Configured(RuleSource),
    /// Rule files, directories of them, and manifests; `-` is standard input.
    Paths(Vec<PathBuf>),
}

/// The rules that could be read.
#[derive(Default)]
struct ReadRules {
    files: Vec<SourceFile>,
    /// By file name, the positions of ConfigMap values in their manifests.
    blocks: HashMap<String, Block>,
    /// The errors of the paths that could not be read.
    errors: Vec<String>,
    /// Keys of ConfigMaps that are not rule files.
    skipped_keys: usize,
}

/// Checks rules, and writes their mistakes and warnings to `out`.
///
/// # Errors
///
/// If `out` cannot be written.
pub fn check(check: &Check, out: &mut impl Write) -> io::Result<CommandStatus> {
    let rules = read(&check.rules, check.links);
    for error in &rules.errors {
        writeln!(out, "error: {error}\n")?;
    }
    let result =
        config::compile(&rules.files, CompileOptions { merge_domains: check.merge_domains });
    match &result {
        Ok(compiled) => {
            write_diagnostics(compiled.warnings.iter(), compiled.warnings.len(), &rules, out)?;
        }
        Err(diagnostics) => write_diagnostics(diagnostics.iter(), diagnostics.len(), &rules, out)?,
    }
    let status = match &result {
        _ if !rules.errors.is_empty() => CommandStatus::Failed,
        Ok(_) => CommandStatus::Positive,
        Err(_) => CommandStatus::Negative,
    };
    writeln!(out, "{}", summary(&rules, &result, status))?;
    Ok(status)
}

fn read(checked: &CheckedRules, links: LinkPolicy) -> ReadRules {
    let mut rules = ReadRules::default();
    match checked {
        CheckedRules::Configured(source) => match source.read(links) {
            Ok(files) => rules.files = files,
            Err(error) => rules.errors.push(error.to_string()),
        },
        CheckedRules::Paths(paths) => {
            for path in paths {
                rules.read_path(path, links);
            }
        }
    }
    rules
}

impl ReadRules {
    fn read_path(&mut self, path: &Path, links: LinkPolicy) {
        if path.is_dir() {
            self.read_directory(path, links);
            return;
        }
        let file = match input::read(path) {
            Ok(file) => file,
            Err(error) => {
                self.errors.push(error.to_string());
                return;
            }
        };
        match manifest_rules::read(&file) {
            Ok(Some(found)) => {
                self.files.extend(found.files);
                self.blocks.extend(found.blocks);
                self.skipped_keys += found.skipped_keys;
            }
            Ok(None) => self.files.push(file),
            Err(error) => self.errors.push(format!("{}: {error}", file.name)),
        }
    }

    /// Reads a directory as `serve` does, which does not accept manifests.
    fn read_directory(&mut self, path: &Path, links: LinkPolicy) {
        let files = match rule_files::read(path, links) {
            Ok(files) => files,
            Err(error) => {
                self.errors.push(error.to_string());
                return;
            }
        };
        for file in files {
            if is_manifest(&String::from_utf8_lossy(&file.bytes)) {
                self.errors.push(format!(
                    "{}: this is a Kubernetes manifest, which `serve` does not read; to check the \
                     rules in its ConfigMaps, name the file itself",
                    file.name
                ));
            } else {
                self.files.push(file);
            }
        }
    }
}

/// Writes the first of `diagnostics`, and the number of further ones up to `total`.
fn write_diagnostics<'a>(
    diagnostics: impl Iterator<Item = &'a Diagnostic>,
    total: usize,
    rules: &ReadRules,
    out: &mut impl Write,
) -> io::Result<()> {
    for diagnostic in diagnostics.take(Diagnostics::MAX_SHOWN) {
        let mut diagnostic = diagnostic.clone();
        move_to_manifest(&mut diagnostic, rules);
        writeln!(out, "{}", diagnostic.snippet())?;
    }
    if total > Diagnostics::MAX_SHOWN {
        writeln!(out, "and {} more\n", total - Diagnostics::MAX_SHOWN)?;
    }
    Ok(())
}

/// Changes the position in a ConfigMap's value to that in the manifest.
fn move_to_manifest(diagnostic: &mut Diagnostic, rules: &ReadRules) {
    if let Some(block) = rules.blocks.get(&diagnostic.file)
        && let Position::Line { line, column } = &mut diagnostic.position
    {
        // A mistake in the value as a whole is reported at its padding.
        *line = (*line).max(block.skipped_lines + 1);
        *column += block.indent;
    }
}

fn summary(
    rules: &ReadRules,
    result: &Result<Compiled, Diagnostics>,
    status: CommandStatus,
) -> String {
    let mut parts = vec![count(rules.files.len(), "file")];
    match result {
        Ok(Compiled { rules, warnings }) => {
            parts.push(count(rules.rules().len(), "rule"));
            parts.push(count(warnings.len(), "warning"));
        }
        Err(diagnostics) => parts.push(count(diagnostics.len(), "mistake")),
    }
    if rules.skipped_keys > 0 {
        let keys = count(rules.skipped_keys, "key");
        parts.push(format!("{keys} without rules skipped"));
    }
    if !rules.errors.is_empty() {
        parts.push(format!("{} unreadable", count(rules.errors.len(), "path")));
    }
    let verdict = if status == CommandStatus::Positive { "ok" } else { "not ok" };
    format!("{}: {verdict}", parts.join(", "))
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests;
