//! Checks the `skip` of an `http`.

use super::super::{excerpt::quote, sink::DiagnosticSink, source::Location};
use crate::mapping::{ConditionSpec, Source, TextPattern, normalize_path};

/// Characters that end a host, or that no valid host has.
const NOT_IN_HOSTS: [char; 9] = ['/', '?', '#', '@', '\\', '"', '<', '>', ' '];

/// Texts behind a prefix with which it may be the beginning of a normalized path: the prefix may
/// end within a segment, or within an escape.
const CONTINUATIONS: [&str; 4] = ["", "x", "F", "2F"];

/// Warns of a prefix of paths with which no normalized path begins.
pub(in super::super) fn check_path_prefix(
    pattern: &TextPattern,
    location: Location,
    sink: &mut DiagnosticSink<'_>,
) {
    let prefix = &pattern.text;
    let may_match = CONTINUATIONS.iter().any(|more| {
        let path = format!("{prefix}{more}");
        normalize_path(path.as_bytes()) == path.as_bytes()
    });
    if may_match {
        return;
    }
    let message = format!("no normalized path begins with {}", quote(prefix));
    let help = match prefix.split_once('?') {
        Some((path, _)) => format!("write {}, as the query is not part of the path", quote(path)),
        None => {
            let normal = normalize_path(prefix.as_bytes());
            format!("write {}", quote(&(String::from_utf8_lossy(&normal) + "*")))
        }
    };
    sink.warning_with_help(location, message, help);
}

/// Warns of a host in lower case that no request has.
pub(in super::super) fn check_host(
    pattern: &TextPattern,
    location: Location,
    sink: &mut DiagnosticSink<'_>,
) {
    let text = &pattern.text;
    if let Some(character) = text.chars().find(|it| NOT_IN_HOSTS.contains(it)) {
        let message = format!("no host is like {}: none contains `{character}`", quote(text));
        return sink.warning_with_help(location, message, "write the host alone");
    }
    let normal = Source::Host.normalize(text);
    // The colons of an IPv6 address are in brackets, and a dot may be the end of a prefix.
    let has_port = text.contains(':') && !text.starts_with('[');
    let may_match = if pattern.is_prefix { !has_port } else { normal == *text };
    if !may_match {
        let message = format!(
            "no request has the host {}: it is compared without port and without a dot at its end",
            quote(text)
        );
        sink.warning_with_help(location, message, format!("write {}", quote(&normal)));
    }
}

/// Warns of elements of `skip` that skip everything, or nothing that another one does not.
pub(in super::super) fn check_conditions(
    conditions: &[(ConditionSpec, Location)],
    sink: &mut DiagnosticSink<'_>,
) {
    for (index, (condition, location)) in conditions.iter().enumerate() {
        if holds_always(condition) {
            let message = "this skips every request, so that nothing is limited";
            sink.warning(*location, message);
            continue;
        }
        for (other_index, (other, other_location)) in conditions.iter().enumerate() {
            let is_first = other_index < index || !condition.covers(other);
            if other_index != index && other.covers(condition) && is_first {
                let place = sink.describe(*other_location);
                let message = format!("this has no effect: {place} skips these requests, too");
                sink.warning(*location, message);
                break;
            }
        }
    }
}

fn holds_always(condition: &ConditionSpec) -> bool {
    let ConditionSpec { method, path, host } = condition;
    let is_any_path = |path: &TextPattern| path.is_prefix && path.text == "/";
    let is_any_host = |host: &TextPattern| host.is_prefix && host.text.is_empty();
    method.is_none()
        && path.as_ref().is_none_or(is_any_path)
        && host.as_ref().is_none_or(is_any_host)
}
