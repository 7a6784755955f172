//! The answer of a service as text.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::{
    descriptor::Entry,
    explain::notation::{descriptor, printable},
    grpc::client::{Response, ResponseCode, ResponseLimit, ResponseStatus},
};

/// Writes the overall result of a request, then the details.
pub(in crate::cli) fn response(
    descriptors: &[&[Entry]],
    response: &Response,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", response.code.name())?;
    let never_passes = rule_flag(response, "neverPasses");
    for (index, entries) in descriptors.iter().enumerate() {
        let status = match response.statuses.get(index) {
            Some(status) => describe_status(status, never_passes),
            None => "no answer".to_owned(),
        };
        writeln!(out, "  {}: {status}", descriptor(entries))?;
    }
    if is_ignored(response) {
        writeln!(
            out,
            "the request passes though a limit is exceeded: SHADOW_MODE refuses nothing, or \
             another quota is left"
        )?;
    }
    if never_passes && response.code == ResponseCode::OverLimit {
        writeln!(out, "this request can never pass: it has more hits than the limit allows")?;
    }
    if let Some(seconds) = penalty_seconds(response) {
        if is_shadow(response) {
            writeln!(
                out,
                "without the shadow mode, a penalty would refuse all requests for {seconds} s"
            )?;
        } else {
            writeln!(out, "a penalty refuses all requests for {seconds} s")?;
        }
    }
    if response.metadata.get("degraded") == Some(&Json::Bool(true)) {
        writeln!(out, "decided by on_error: the counter store did not answer")?;
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

fn rule_flag(response: &Response, name: &str) -> bool {
    let rule = response.metadata.get("rule");
    rule.and_then(|rule| rule.get(name)) == Some(&Json::Bool(true))
}

/// True if the limit of the metadata refuses nothing: by its rule, or because the service
/// allows a request whose descriptor is over its limit.
fn is_shadow(response: &Response) -> bool {
    rule_flag(response, "shadowMode") || is_ignored(response)
}

/// True if the service allows a request with a descriptor that is over its limit.
fn is_ignored(response: &Response) -> bool {
    let is_over = |status: &ResponseStatus| status.code == ResponseCode::OverLimit;
    response.code == ResponseCode::Ok && response.statuses.iter().any(is_over)
}

/// The remaining seconds of an active penalty, from the metadata.
fn penalty_seconds(response: &Response) -> Option<&Json> {
    let seconds = response.metadata.get("rule")?.get("bannedSeconds")?;
    if seconds.is_number() { Some(seconds) } else { None }
}

fn describe_status(status: &ResponseStatus, never_passes: bool) -> String {
    let code = status.code.name();
    let Some(limit) = &status.limit else {
        let limit = if status.is_unmatched() { "no limit" } else { "unlimited" };
        return format!("{code}, {limit}");
    };
    let reset = match (status.reset_seconds, status.code) {
        (None, _) => "is never allowed".to_owned(),
        (Some(seconds), ResponseCode::OverLimit) if !never_passes => {
            format!("retry in {seconds} s")
        }
        (Some(seconds), _) => format!("resets in {seconds} s"),
    };
    let limit = describe_limit(limit);
    format!("{code}, {limit}, {} remaining, {reset}", status.remaining)
}

fn describe_limit(limit: &ResponseLimit) -> String {
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
