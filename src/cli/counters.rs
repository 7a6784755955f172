//! `tollgate get`, `reset` and `set`: the counters of a request, by the admin API of a running
//! service.

use std::{fmt::Write as _, io};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    admin_client::{AdminClient, AdminError},
    exit::CommandStatus,
};
use crate::{descriptor::Entry, printable::printable_text};

/// The arguments of `tollgate get`, `reset` and `set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterCommand {
    /// The service.
    pub client: AdminClient,
    /// The domain of the rules.
    pub domain: Bytes,
    /// At least one descriptor.
    pub descriptors: Vec<Vec<Entry>>,
    /// The operation.
    pub operation: CounterOperation,
    /// The name of the limit, or of its counter. `None` for all that apply.
    pub limit: Option<String>,
}

/// An operation on counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterOperation {
    /// Look, and change nothing.
    Get,
    /// Delete.
    Reset,
    /// Set to this many hits.
    Set(u64),
}

/// The reason why a command about counters failed.
#[derive(Debug, thiserror::Error)]
pub enum CounterCommandError {
    /// The service did not do it.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// JSON has no such bytes.
    #[error("expected the domain and the descriptors in UTF-8")]
    NotText,
    /// The output cannot be written.
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
}

/// Asks the service, and writes the answer to `out`. Returns [`CommandStatus::Positive`] if
/// each descriptor has a rule, and every counter was read or changed.
///
/// # Errors
///
/// If there is no answer, or the output cannot be written.
pub async fn run(
    command: &CounterCommand,
    out: &mut impl io::Write,
) -> Result<CommandStatus, CounterCommandError> {
    let body = body(command).ok_or(CounterCommandError::NotText)?;
    let answer = command.client.post(&path(command), body.to_string()).await?;
    let lines = lines(&answer, command.operation);
    out.write_all(lines.as_bytes())?;
    out.flush()?;
    Ok(status(&answer))
}

/// `None` if a part is not UTF-8.
fn body(command: &CounterCommand) -> Option<Value> {
    let mut descriptors = Vec::new();
    for entries in &command.descriptors {
        let mut list = Vec::new();
        for Entry { key, value } in entries {
            let (key, value) = (str::from_utf8(key).ok()?, str::from_utf8(value).ok()?);
            list.push(json!({"key": key, "value": value}));
        }
        descriptors.push(json!({"entries": list}));
    }
    let domain = str::from_utf8(&command.domain).ok()?;
    Some(json!({"domain": domain, "descriptors": descriptors}))
}

fn path(command: &CounterCommand) -> String {
    let mut path = match command.operation {
        CounterOperation::Get => return "/v1/counters/look".to_owned(),
        CounterOperation::Reset => "/v1/counters/reset?".to_owned(),
        CounterOperation::Set(used) => format!("/v1/counters/set?used={used}&"),
    };
    if let Some(limit) = &command.limit {
        let _ = write!(path, "limit={}", utf8_percent_encode(limit, NON_ALPHANUMERIC));
    }
    path
}

/// The answer as text. Control characters of clients are replaced.
fn lines(answer: &Value, operation: CounterOperation) -> String {
    let mut text = String::new();
    for descriptor in list(&answer["descriptors"]) {
        push_line(&mut text, string(&descriptor["descriptor"]));
        if let Some(reason) = descriptor["noLimit"].as_str() {
            push_line(&mut text, &format!("  no limit: {reason}"));
        }
        for counter in list(&descriptor["counters"]) {
            push_line(&mut text, &format!("  {}", counter_line(counter, operation)));
        }
    }
    if answer["shadowMode"] == true {
        push_line(&mut text, "SHADOW_MODE is on: no request is refused");
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    *text += &printable_text(line);
    text.push('\n');
}

fn counter_line(counter: &Value, operation: CounterOperation) -> String {
    let mut line = string(&counter["limit"]["text"]).to_owned();
    let name = string(&counter["limit"]["name"]);
    if !name.is_empty() {
        let _ = write!(line, " ({name})");
    }
    line += match counter["effect"].as_str() {
        Some("shadow") => ", refuses nothing because of shadow_mode",
        Some("replaced") => ", does not apply because another descriptor's rule replaces it",
        _ => "",
    };
    let found = &counter["found"];
    if counter["changed"] == true {
        match operation {
            CounterOperation::Set(used) => _ = write!(line, ": set to {used}, before: "),
            CounterOperation::Get | CounterOperation::Reset => line += ": reset, before: ",
        }
    } else {
        line += ": ";
    }
    if let Some(error) = counter["error"].as_str() {
        line += error;
    } else {
        let _ = write!(
            line,
            "{} used, {} remaining, resets in {} s",
            found["used"], found["remaining"], found["resetSeconds"]
        );
        if found["bannedSeconds"] != 0 {
            let _ = write!(line, ", penalty for {} s", found["bannedSeconds"]);
        }
    }
    line
}

fn status(answer: &Value) -> CommandStatus {
    let mut status = CommandStatus::Positive;
    for descriptor in list(&answer["descriptors"]) {
        for counter in list(&descriptor["counters"]) {
            if !counter["error"].is_null() {
                return CommandStatus::Failed;
            }
        }
        if descriptor["rule"].is_null() {
            status = CommandStatus::Unmatched;
        }
    }
    status
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
