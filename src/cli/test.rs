//! `tollgate test`: runs tests of rules, with counters in memory and a clock of its own.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use self::{play::TestResult, suite::Suite};
use super::{check, exit::CommandStatus, input, rule_input::ReadRules};
use crate::{config, engine::DecideError, printable::printable_text};

mod fields;
mod junit;
mod play;
mod read;
mod suite;

/// The arguments of `tollgate test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The files with tests; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The file for a report in the format of JUnit.
    pub junit: Option<PathBuf>,
}

/// The reason why `tollgate test` failed.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// A request cannot be decided.
    #[error(transparent)]
    Undecided(#[from] DecideError),
    /// The report cannot be written.
    #[error("{}: cannot write the report", .0.display())]
    Report(PathBuf, #[source] io::Error),
    /// The results cannot be written.
    #[error("cannot write the results")]
    Output(#[from] io::Error),
}

/// The results of one file.
struct SuiteResult {
    file: String,
    tests: Vec<TestResult>,
}

/// Runs the tests and writes the results to `out`; mistakes in the files go to `errors`.
/// Returns [`CommandStatus::Positive`] if all tests pass.
///
/// # Errors
///
/// If the results or the report cannot be written.
pub async fn run(
    run: &TestRun,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<CommandStatus, TestError> {
    let mut results = Vec::new();
    let mut is_usable = true;
    for path in &run.files {
        let Some(suite) = load(path, errors)? else {
            is_usable = false;
            continue;
        };
        let mut tests = Vec::with_capacity(suite.tests.len());
        for test in &suite.tests {
            let result = play::play(&suite, test).await?;
            write_result(&suite.file, &result, out)?;
            tests.push(result);
        }
        results.push(SuiteResult { file: suite.file, tests });
    }
    if let Some(path) = &run.junit {
        fs::write(path, junit::report(&results))
            .map_err(|error| TestError::Report(path.clone(), error))?;
    }
    let count = |result: &SuiteResult| result.tests.len();
    let failures = |result: &SuiteResult| result.failures();
    let (tests, failed): (usize, usize) =
        (results.iter().map(count).sum(), results.iter().map(failures).sum());
    let plural = if tests == 1 { "" } else { "s" };
    writeln!(out, "{tests} test{plural}, {failed} failed")?;
    Ok(match failed {
        _ if !is_usable => CommandStatus::Failed,
        0 => CommandStatus::Positive,
        _ => CommandStatus::Negative,
    })
}

impl SuiteResult {
    fn failures(&self) -> usize {
        self.tests.iter().filter(|test| !test.failures.is_empty()).count()
    }
}

fn write_result(file: &str, result: &TestResult, out: &mut impl Write) -> io::Result<()> {
    if result.failures.is_empty() {
        return writeln!(out, "pass  {}", result.name);
    }
    writeln!(out, "FAIL  {} ({file}:{})", result.name, result.line)?;
    for failure in &result.failures {
        writeln!(out, "{failure}")?;
    }
    Ok(())
}

/// The tests at `path`, or `None` if they or their rules have mistakes, which are written
/// to `errors`.
fn load(path: &Path, errors: &mut impl Write) -> io::Result<Option<Suite>> {
    let file = match input::read(path) {
        Ok(file) => file,
        Err(error) => {
            writeln!(errors, "error: {error}")?;
            return Ok(None);
        }
    };
    let mut rules = ReadRules::default();
    let suite = match read::read(&file, path, &mut rules) {
        Ok(suite) => suite,
        Err(mistakes) => {
            write!(errors, "{mistakes}")?;
            return Ok(None);
        }
    };
    check::write_notes(&rules, errors)?;
    match config::compile(&rules.files, suite.options) {
        Ok(compiled) => match suite.with_rules(file.name, compiled.rules) {
            Ok(suite) => Ok(Some(suite)),
            Err(mistakes) => {
                for mistake in mistakes {
                    writeln!(errors, "{}", printable_text(&mistake))?;
                }
                Ok(None)
            }
        },
        Err(diagnostics) => {
            check::write_diagnostics(diagnostics.iter(), diagnostics.len(), &rules, errors)?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
