//! `tollgate check`: are these rules right?

use std::{
    io::{self, Write},
    path::PathBuf,
};

use crate::{
    cli::Status,
    config::{self, CompileOptions, Compiled, Diagnostics, SourceFile},
    rule_files,
};

/// Reads the rules at `paths` as one set and writes to `out` what is wrong with
/// them.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn check(
    paths: &[PathBuf],
    options: CompileOptions,
    out: &mut impl Write,
) -> io::Result<Status> {
    let mut files = Vec::new();
    let mut unreadable = 0;
    for path in paths {
        match rule_files::read(path) {
            Ok(read) => files.extend(read),
            Err(error) => {
                unreadable += 1;
                writeln!(out, "error: {error}\n")?;
            }
        }
    }
    let result = config::compile(&files, options);
    match &result {
        Ok(Compiled { warnings, .. }) => {
            let mut shown = warnings.iter().take(Diagnostics::MAX_SHOWN);
            shown.try_for_each(|it| writeln!(out, "{}", it.snippet()))?;
            if warnings.len() > Diagnostics::MAX_SHOWN {
                writeln!(out, "and {} more\n", warnings.len() - Diagnostics::MAX_SHOWN)?;
            }
        }
        Err(mistakes) => writeln!(out, "{mistakes}")?,
    }
    writeln!(out, "{}", summary(&files, &result, unreadable))?;
    Ok(if result.is_ok() && unreadable == 0 { Status::Yes } else { Status::No })
}

fn summary(
    files: &[SourceFile],
    result: &Result<Compiled, Diagnostics>,
    unreadable: usize,
) -> String {
    let mut parts = vec![count(files.len(), "file")];
    match result {
        Ok(Compiled { rules, warnings }) => {
            parts.push(count(rules.rules().len(), "rule"));
            parts.push(count(warnings.len(), "warning"));
        }
        Err(mistakes) => parts.push(count(mistakes.len(), "mistake")),
    }
    if unreadable > 0 {
        parts.push(format!("{} unreadable", count(unreadable, "path")));
    }
    let verdict = if result.is_ok() && unreadable == 0 { "ok" } else { "not ok" };
    format!("{}: {verdict}", parts.join(", "))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
