//! An answer, for a person to read.

use std::io::{self, Write};

use serde_json::Value as Json;

use super::Hit;
use crate::{
    descriptor::Entry,
    grpc::client::{Response, ResponseCode, ResponseLimit, ResponseStatus},
};

/// Writes the answer to `hit`: the overall result first, then the details.
pub(super) fn response(hit: &Hit, response: &Response, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", response.code.name())?;
    for (i, entries) in hit.descriptors.iter().enumerate() {
        let status = match response.statuses.get(i) {
            Some(found) => status(found),
            None => "no answer".to_owned(),
        };
        writeln!(out, "  {}: {status}", descriptor(entries))?;
    }
    if let Some(seconds) = banned_seconds(response) {
        writeln!(out, "a penalty refuses everything for {seconds} s")?;
    }
    if !response.headers.is_empty() {
        writeln!(out, "response headers")?;
    }
    for (name, value) in &response.headers {
        writeln!(out, "  {}: {}", printable(name), printable(value))?;
    }
    if !response.metadata.is_empty() {
        writeln!(out, "metadata")?;
    }
    for (name, value) in &response.metadata {
        writeln!(out, "  {}: {}", printable(name), printable(&value.to_string()))?;
    }
    Ok(())
}

/// The rest of a penalty, if one decided and the metadata has it.
fn banned_seconds(response: &Response) -> Option<&Json> {
    let seconds = response.metadata.get("rule")?.get("bannedSeconds")?;
    if seconds.is_number() { Some(seconds) } else { None }
}

fn descriptor(entries: &[Entry]) -> String {
    let text = |it: &[u8]| printable(&String::from_utf8_lossy(it)).replace(',', "\\,");
    let pairs: Vec<_> =
        entries.iter().map(|it| format!("{}={}", text(&it.key), text(&it.value))).collect();
    pairs.join(",")
}

fn status(status: &ResponseStatus) -> String {
    let code = status.code.name();
    let Some(limit) = &status.limit else { return format!("{code}, no limit") };
    let text = format!("{code}, {}, {} remaining", describe(limit), status.remaining);
    let Some(seconds) = status.reset_seconds else { return text + ", never passes" };
    let event = match status.code {
        ResponseCode::OverLimit => "come back",
        ResponseCode::Ok | ResponseCode::Unknown => "resets",
    };
    format!("{text}, {event} in {seconds} s")
}

fn describe(limit: &ResponseLimit) -> String {
    let per = match (&limit.unit, limit.multiplier) {
        (None, _) => "at a time".to_owned(),
        (Some(unit), 0 | 1) => format!("per {unit}"),
        (Some(unit), multiplier) => format!("per {multiplier} {unit}s"),
    };
    let name = match limit.name.as_str() {
        "" => String::new(),
        name => format!(" ({})", printable(name)),
    };
    format!("{} {per}{name}", limit.requests)
}

/// Control characters could make the terminal show something else.
pub(super) fn printable(text: &str) -> String {
    let escape =
        |it: char| if it.is_control() { it.escape_default().to_string() } else { it.into() };
    text.chars().map(escape).collect()
}
