//! Warns of rules that are valid but have no effect.
//!
//! The checks may miss such a rule, but a warning holds for every request.

use std::collections::HashSet;

mod http;
mod method;
mod skip;

pub(super) use self::{
    http::{check_entry, check_http, check_trusted},
    method::check_method,
    skip::{check_conditions, check_host, check_path_prefix},
};
use super::{
    excerpt::quote,
    parsed::{MAX_LEASE_SHARE, ParsedDescriptor, ParsedDomain, ParsedLimit, WHOLE_LIMIT},
    sink::DiagnosticSink,
    source::Location,
    yaml::{KeyOrigin, Map, YamlValue},
};
use crate::{
    limit::window::Phase,
    rules::{
        pattern::Pattern,
        spec::{LimitSpec, RuleSpec},
    },
};

/// The maximum number of patterns in a list that is checked. The time grows
/// with its square.
const MAX_PATTERNS: usize = 100;
/// The maximum length of a key that is checked, in bytes. The time grows with
/// its square.
const MAX_KEY_BYTES: usize = 256;

/// Warns of elements of one list that no entry reaches, and of elements that
/// change nothing.
pub(super) fn check_siblings(list: &[ParsedDescriptor], sink: &mut DiagnosticSink<'_>) {
    let keys = SiblingKeys::new(list.iter().map(|descriptor| descriptor.composite_key.as_str()));
    if keys.patterns.len() > MAX_PATTERNS {
        return;
    }
    for (index, descriptor) in list.iter().enumerate() {
        if descriptor.composite_key.len() > MAX_KEY_BYTES || descriptor.spec.key.is_empty() {
            continue;
        }
        if let Some(cover) = keys.cover(index, &descriptor.spec.value) {
            let name = quote(&list[cover].composite_key);
            let place = sink.describe(list[cover].location);
            let message = if descriptor.composite_key.contains('*') {
                format!(
                    "only an entry with this very text reaches this: {name} at {place} comes \
                     first and matches all others"
                )
            } else {
                format!("no entry with this key reaches this: {name} at {place} matches all")
            };
            sink.warning(descriptor.location, message);
        } else if descriptor.spec.rule.is_none()
            && descriptor.children.is_empty()
            && !keys.diverts(index)
        {
            let message = "this has no effect: it has neither `rate_limit` nor `descriptors`, and \
                           no other rule would match its entries";
            sink.warning(descriptor.location, message);
        }
    }
}

/// Warns of a `value` that is an empty text, and not `null` or left blank. One that replaces a
/// value from `<<` is not written by mistake.
pub(super) fn check_value(map: &Map<'_>, sink: &mut DiagnosticSink<'_>) {
    if let Some(entry) = map.get("value")
        && entry.origin == KeyOrigin::Written
        && !entry.is_fresh
        && let YamlValue::Scalar(scalar) = &entry.node.value
        && scalar.text.is_empty()
    {
        let message = "an empty `value` matches every value that no other element of the list \
                       matches, and not the empty value alone";
        let help = "remove it, or write the value";
        sink.warning_with_help(entry.key_location, message, help);
    }
}

/// A flag of a descriptor that applies to its limit.
struct Flag {
    name: &'static str,
    is_set: bool,
}

/// Warns of flags of a descriptor without a limit. `has_rule` is true if the
/// descriptor has a `rate_limit`, which may be unlimited.
pub(super) fn check_flags(
    map: &Map<'_>,
    rule: &RuleSpec,
    has_rule: bool,
    sink: &mut DiagnosticSink<'_>,
) {
    let is_limited = !rule.limits.is_empty();
    if is_limited {
        return;
    }
    let flags = [
        Flag { name: "shadow_mode", is_set: rule.shadow_mode },
        Flag { name: "quota_mode", is_set: rule.quota_mode },
        Flag { name: "detailed_metric", is_set: rule.detailed_metric },
        // An unlimited rule returns its metadata, too.
        Flag { name: "metadata", is_set: rule.metadata.is_some() && !has_rule },
    ];
    for Flag { name, is_set } in flags {
        if !is_set {
            continue;
        }
        let message = if has_rule {
            format!("`{name}` has no effect on a limit that is `unlimited`")
        } else {
            format!("`{name}` has no effect without a `rate_limit` beside it")
        };
        sink.warning(map[name].key_location, message);
    }
}

/// Warns of limits of one descriptor that refuse no request that another of
/// its limits allows.
pub(super) fn check_limits(limits: &[ParsedLimit], sink: &mut DiagnosticSink<'_>) {
    for (index, limit) in limits.iter().enumerate() {
        for (other_index, other) in limits.iter().enumerate() {
            if other_index != index && implies(&other.spec, &limit.spec) {
                let place = sink.describe(other.location);
                let message =
                    format!("this limit refuses nothing that the limit at {place} allows");
                sink.warning(limit.location, message);
                break;
            }
        }
    }
}

/// True if `outer` refuses every request that `inner` refuses: its windows
/// consist of whole windows of `inner`, its limit is not higher, and it counts
/// refused hits, too.
fn implies(outer: &LimitSpec, inner: &LimitSpec) -> bool {
    let (outer_window, inner_window) = (&outer.limit.window, &inner.limit.window);
    outer.limit.algorithm.counts_denied()
        && inner.limit.algorithm.info().window_in_key
        && outer_window.phase == Phase::Epoch
        && inner_window.phase == Phase::Epoch
        && outer_window.seconds().is_multiple_of(inner_window.seconds())
        && outer.limit.requests <= inner.limit.requests
        && outer.limit.penalty.is_zero()
        && inner.limit.penalty.is_zero()
        && !outer.all_or_nothing
        && outer.on_error == inner.on_error
        // Otherwise another rule may replace `outer` alone.
        && (outer.name.is_empty() || outer.name == inner.name)
}

/// Warns of an `accuracy` with which an instance can never reserve a hit.
/// `share` is in millionths of `requests`.
pub(super) fn check_lease(
    location: Location,
    share: u64,
    requests: u32,
    sink: &mut DiagnosticSink<'_>,
) {
    let requests = u64::from(requests);
    if requests <= WHOLE_LIMIT / MAX_LEASE_SHARE {
        let message = format!(
            "this has no effect: an instance reserves at most a tenth of the remaining hits, and \
             after one of {requests} requests that is less than one; leave `accuracy` out"
        );
        sink.warning(location, message);
    } else if requests * share < WHOLE_LIMIT {
        let smallest_share = WHOLE_LIMIT.div_ceil(requests);
        let percent = format!("{}.{:04}", smallest_share / 10_000, smallest_share % 10_000);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        let message = format!(
            "this has no effect: it is less than one of {requests} requests, so no hit is \
             reserved; write at least {percent}%, or leave `accuracy` out"
        );
        sink.warning(location, message);
    }
}

/// Warns of names in `replaces` that no rule of the domain has.
pub(super) fn check_replaced_names(domain: &ParsedDomain, sink: &mut DiagnosticSink<'_>) {
    for replaced in &domain.replaced_names {
        if !domain.names.contains(&replaced.name) {
            let message = format!("no rule of this domain has the name {}", quote(&replaced.name));
            sink.warning(replaced.location, message);
        }
    }
}

/// The composite keys of one list of descriptors.
struct SiblingKeys<'a> {
    all: Vec<&'a str>,
    /// The keys without a `*`.
    exact: HashSet<&'a str>,
    /// The keys with a `*`, in the order of the list.
    patterns: Vec<SiblingPattern>,
}

struct SiblingPattern {
    /// The position in the list.
    index: usize,
    pattern: Pattern,
}

impl<'a> SiblingKeys<'a> {
    fn new(composite_keys: impl Iterator<Item = &'a str>) -> Self {
        let mut keys = Self { all: Vec::new(), exact: HashSet::new(), patterns: Vec::new() };
        for (index, key) in composite_keys.enumerate() {
            keys.all.push(key);
            if key.contains('*') {
                keys.patterns.push(SiblingPattern { index, pattern: Pattern::new(key.as_bytes()) });
            } else {
                keys.exact.insert(key);
            }
        }
        keys
    }

    /// The index of a pattern that is looked up before the element at `index`
    /// and matches every entry that the element matches.
    ///
    /// An element that names a value is looked up before all patterns, another
    /// pattern in the order of the list, and a key without a value last.
    fn cover(&self, index: usize, value: &str) -> Option<usize> {
        let own = self.all[index];
        if own.contains('*') {
            for earlier in &self.patterns {
                if earlier.index < index && covers(&earlier.pattern, own) {
                    return Some(earlier.index);
                }
            }
        } else if value.is_empty() {
            let any_value = format!("{own}_*");
            for pattern in &self.patterns {
                if pattern.pattern.matches(any_value.as_bytes()) {
                    return Some(pattern.index);
                }
            }
        }
        None
    }

    /// True if another element would match an entry of the element at `index`
    /// if that element were removed.
    fn diverts(&self, index: usize) -> bool {
        let own = self.all[index];
        if own.contains('*') {
            for pattern in &self.patterns {
                if pattern.index > index && overlap(own, self.all[pattern.index]) {
                    return true;
                }
            }
            return self.exact.iter().any(|key| overlap(own, &format!("{key}_*")));
        }
        for (underscore, _) in own.match_indices('_') {
            if self.exact.contains(&own[..underscore]) {
                return true;
            }
        }
        self.patterns.iter().any(|other| other.pattern.matches(own.as_bytes()))
    }
}

/// True if `pattern` matches every entry that the pattern `other` matches.
///
/// If `pattern` matches the characters of `other`, each `*` of `other` is
/// matched by a `*` of `pattern`, and so is all text that the former stands
/// for. Every entry has an underscore between key and value. If `other` does
/// not contain one, one of its `*` stands for the underscore.
fn covers(pattern: &Pattern, other: &str) -> bool {
    if pattern.matches(other.as_bytes()) {
        return true;
    }
    if other.contains('_') {
        return false;
    }
    for (star, _) in other.match_indices('*') {
        let with_underscore = format!("{}*_{}", &other[..star], &other[star..]);
        if !pattern.matches(with_underscore.as_bytes()) {
            return false;
        }
    }
    true
}

/// False only if no text matches both patterns.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (FixedEnds::new(a), FixedEnds::new(b));
    (a.prefix.starts_with(b.prefix) || b.prefix.starts_with(a.prefix))
        && (a.suffix.ends_with(b.suffix) || b.suffix.ends_with(a.suffix))
}

/// The text of a pattern before its first `*` and after its last one.
struct FixedEnds<'a> {
    prefix: &'a str,
    suffix: &'a str,
}

impl<'a> FixedEnds<'a> {
    fn new(pattern: &'a str) -> Self {
        let Some((prefix, rest)) = pattern.split_once('*') else {
            return Self { prefix: pattern, suffix: "" };
        };
        let suffix = match rest.rsplit_once('*') {
            Some((_, suffix)) => suffix,
            None => rest,
        };
        Self { prefix, suffix }
    }
}

#[cfg(test)]
mod tests;
