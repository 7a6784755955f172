//! `tollgate check`: checks rules without serving them.

use std::io::{self, Write};

use super::{
    exit::CommandStatus,
    rule_input::{ReadRules, RuleInput},
};
use crate::config::{self, Compiled, Diagnostic, Diagnostics};

/// Checks rules, and writes their mistakes and warnings to `out`.
///
/// # Errors
///
/// If `out` cannot be written.
pub fn check(input: &RuleInput, out: &mut impl Write) -> io::Result<CommandStatus> {
    let rules = input.read();
    for error in &rules.errors {
        writeln!(out, "error: {error}\n")?;
    }
    write_notes(&rules, out)?;
    let result = config::compile(&rules.files, input.options());
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

/// Writes the first notes on files that `serve` reads otherwise, and the number of others.
pub(super) fn write_notes(rules: &ReadRules, out: &mut impl Write) -> io::Result<()> {
    for note in rules.notes.iter().take(Diagnostics::MAX_SHOWN) {
        writeln!(out, "note: {note}\n")?;
    }
    if rules.notes.len() > Diagnostics::MAX_SHOWN {
        writeln!(out, "note: and {} more like this\n", rules.notes.len() - Diagnostics::MAX_SHOWN)?;
    }
    Ok(())
}

/// Writes the first of `diagnostics`, and the number of further ones up to `total`.
pub(super) fn write_diagnostics<'a>(
    diagnostics: impl Iterator<Item = &'a Diagnostic>,
    total: usize,
    rules: &ReadRules,
    out: &mut impl Write,
) -> io::Result<()> {
    for diagnostic in diagnostics.take(Diagnostics::MAX_SHOWN) {
        let mut diagnostic = diagnostic.clone();
        rules.move_to_manifest(&mut diagnostic);
        writeln!(out, "{}", diagnostic.snippet())?;
    }
    if total > Diagnostics::MAX_SHOWN {
        writeln!(out, "and {} more\n", total - Diagnostics::MAX_SHOWN)?;
    }
    Ok(())
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
