//! Exit codes.

use std::process::ExitCode;

/// The result of a command that answers a question, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandStatus {
    /// Exit code 0: the request is allowed, the rules are valid, or nothing
    /// differs.
    Positive,
    /// Exit code 1: the request is over a limit, the rules have mistakes, or
    /// something differs.
    Negative,
    /// Exit code 2: the question cannot be answered, or the arguments are wrong.
    Failed,
    /// Exit code 3: no rule applies to a descriptor of the request.
    Unmatched,
}

impl From<CommandStatus> for ExitCode {
    fn from(status: CommandStatus) -> Self {
        Self::from(match status {
            CommandStatus::Positive => 0,
            CommandStatus::Negative => 1,
            CommandStatus::Failed => 2,
            CommandStatus::Unmatched => 3,
        })
    }
}
