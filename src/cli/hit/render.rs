//! An answer, for a person to read.

use std::io::{self, Write};

use prost_types::value::Kind;
use serde_json::Value as Json;

use super::Hit;
use crate::{
    descriptor::Entry,
    limit,
    wire::pb::envoy::{
        config::core::v3::HeaderValue,
        service::ratelimit::v3::{
            RateLimitResponse,
            rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        },
    },
};

/// Writes the answer to `hit`: what it comes to first, then the details.
pub(super) fn response(
    hit: &Hit,
    response: &RateLimitResponse,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", response.overall_code().as_str_name())?;
    for (i, entries) in hit.descriptors.iter().enumerate() {
        let status = response.statuses.get(i).map_or_else(|| "no answer".into(), status);
        writeln!(out, "  {}: {status}", descriptor(entries))?;
    }
    if let Some(seconds) = banned(response) {
        writeln!(out, "a penalty refuses everything for {seconds} s")?;
    }
    headers(out, "response headers", &response.response_headers_to_add)?;
    let Some(metadata) = &response.dynamic_metadata else { return Ok(()) };
    writeln!(out, "metadata")?;
    for (name, value) in &metadata.fields {
        writeln!(out, "  {}: {}", printable(name), printable(&json(value).to_string()))?;
    }
    Ok(())
}

/// For how many seconds a penalty holds, if one does and the answer says so.
fn banned(response: &RateLimitResponse) -> Option<Json> {
    let metadata = response.dynamic_metadata.as_ref()?;
    let Some(Kind::StructValue(rule)) = &metadata.fields.get("rule")?.kind else { return None };
    rule.fields.get("bannedSeconds").map(json).filter(Json::is_number)
}

fn headers(out: &mut impl Write, heading: &str, headers: &[HeaderValue]) -> io::Result<()> {
    if headers.is_empty() {
        return Ok(());
    }
    writeln!(out, "{heading}")?;
    headers.iter().try_for_each(|HeaderValue { key, value }| {
        writeln!(out, "  {}: {}", printable(key), printable(value))
    })
}

fn descriptor(entries: &[Entry]) -> String {
    let text = |it: &[u8]| printable(&String::from_utf8_lossy(it)).replace(',', "\\,");
    let pairs: Vec<_> =
        entries.iter().map(|it| format!("{}={}", text(&it.key), text(&it.value))).collect();
    pairs.join(",")
}

fn status(status: &DescriptorStatus) -> String {
    let mut text = status.code().as_str_name().to_owned();
    let Some(limit) = &status.current_limit else { return text + ", no limit" };
    text += &format!(", {}, {} remaining", describe(limit), status.limit_remaining);
    let Some(reset) = status.duration_until_reset else { return text + ", never passes" };
    let reset = reset.try_into().map_or(0, limit::ceil_seconds);
    let what = match status.code() {
        Code::OverLimit => "come back",
        Code::Ok | Code::Unknown => "resets",
    };
    text + &format!(", {what} in {reset} s")
}

fn describe(limit: &RateLimit) -> String {
    let unit = limit.unit().as_str_name().to_ascii_lowercase();
    let per = match (limit.unit(), limit.unit_multiplier) {
        (Unit::Unknown, _) => "at a time".to_owned(),
        (_, None | Some(0 | 1)) => format!("per {unit}"),
        (_, Some(multiplier)) => format!("per {multiplier} {unit}s"),
    };
    let name = match limit.name.as_str() {
        "" => String::new(),
        name => format!(" ({})", printable(name)),
    };
    format!("{} {per}{name}", limit.requests_per_unit)
}

/// Control characters could make the terminal show something else.
pub(super) fn printable(text: &str) -> String {
    let escape =
        |it: char| if it.is_control() { it.escape_default().to_string() } else { it.into() };
    text.chars().map(escape).collect()
}

fn json(value: &prost_types::Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        // 5 and not 5.0.
        Some(Kind::NumberValue(it)) => serde_json::from_str(&it.to_string()).unwrap_or_default(),
        Some(Kind::StringValue(text)) => Json::from(text.as_str()),
        Some(Kind::BoolValue(flag)) => Json::from(*flag),
        Some(Kind::StructValue(it)) => {
            it.fields.iter().map(|(name, value)| (name.clone(), json(value))).collect()
        }
        Some(Kind::ListValue(it)) => it.values.iter().map(json).collect(),
    }
}
