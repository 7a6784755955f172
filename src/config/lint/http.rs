//! Checks the `http` of a domain against its rules.

use std::net::IpAddr;

use super::{
    super::{
        excerpt::quote,
        parsed::{ParsedDescriptor, ParsedDomain, ParsedEntry, ParsedTemplate},
        sink::DiagnosticSink,
        source::Location,
        yaml::{KeyOrigin, Map, YamlValue},
    },
    check_method, overlap,
};
use crate::mapping::{EntrySpec, Network, Source};

/// Headers whose values differ with each client or each request, and that anybody can choose.
const FREE_HEADERS: [&str; 8] = [
    "accept",
    "cookie",
    "forwarded",
    "referer",
    "traceparent",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
];

/// An element of the rules that a descriptor may reach.
#[derive(Clone, Copy)]
struct Reached<'d> {
    element: &'d ParsedDescriptor,
    /// The first entry of which each value has a counter of its own, and clients invent values.
    free_entry: Option<&'d ParsedEntry>,
}

/// Reports descriptors that are written twice, and warns of those that no rule matches or whose
/// limits do not work as meant.
pub(in super::super) fn check_http(domain: &ParsedDomain, sink: &mut DiagnosticSink<'_>) {
    let Some(http) = &domain.http else { return };
    for (index, template) in http.descriptors.iter().enumerate() {
        let is_same = |other: &&ParsedTemplate| specs(other).eq(specs(template));
        if let Some(first) = http.descriptors[..index].iter().find(is_same) {
            let place = sink.describe(first.location);
            let message =
                format!("the descriptor is already at {place}: requests would be counted twice");
            sink.error_with_help(template.location, message, "remove one of them");
            continue;
        }
        let reached = reach(domain, template, sink);
        check_limits(template, &reached, sink);
    }
}

/// Warns of a network of `trusted_proxies` that contains all clients.
pub(in super::super) fn check_trusted(
    network: Network,
    location: Location,
    sink: &mut DiagnosticSink<'_>,
) {
    if network.is_everything() {
        let message = "this network contains every client, so that the leftmost address of \
                       `X-Forwarded-For` counts, which clients write themselves";
        sink.warning_with_help(location, message, "name the networks of your proxies alone");
    }
}

/// Warns of a source that no request has, and of options of an entry without a value.
pub(in super::super) fn check_entry(
    map: &Map<'_>,
    source: &Source,
    location: Location,
    sink: &mut DiagnosticSink<'_>,
) {
    match source {
        Source::Header(name) if &**name == "host" => {
            let message = "the header `host` of a check may be the address of tollgate, and with \
                           HTTP/2 it is missing";
            sink.warning_with_help(location, message, "use the source `host`");
        }
        Source::Cookie(name) if name.contains(['=', ';']) || name.trim_ascii() != &**name => {
            let message = format!("no cookie has the name {}", quote(name));
            let help = "write the name alone, as it is in front of the `=`";
            sink.warning_with_help(location, message, help);
        }
        _ => {}
    }
    for name in ["claim", "default"] {
        if let Some(entry) = map.get(name)
            && entry.origin == KeyOrigin::Written
            && !entry.is_fresh
            && let YamlValue::Scalar(scalar) = &entry.node.value
            && (scalar.text.is_empty() || entry.node.is_null())
        {
            let message = format!("`{name}` has no value, so it has no effect");
            sink.warning_with_help(entry.key_location, message, "remove it, or write the value");
        }
    }
}

fn specs(template: &ParsedTemplate) -> impl Iterator<Item = &EntrySpec> {
    template.entries.iter().map(|entry| &entry.spec)
}

/// The elements that may match the last entry of `template`. Warns if there is none for one of
/// its entries.
fn reach<'d>(
    domain: &'d ParsedDomain,
    template: &'d ParsedTemplate,
    sink: &mut DiagnosticSink<'_>,
) -> Vec<Reached<'d>> {
    let mut lists = vec![(domain.descriptors.as_slice(), None)];
    let mut reached = Vec::new();
    for entry in &template.entries {
        reached.clear();
        let wanted = Wanted::new(&entry.spec);
        for (list, free_entry) in &lists {
            for element in *list {
                if wanted.may_be_matched_by(element) {
                    check_spelling(&entry.spec, element, sink);
                    let is_free = is_free(&entry.spec.source) && !shares_counters(element);
                    let free_entry = free_entry.or(is_free.then_some(entry));
                    reached.push(Reached { element, free_entry });
                }
            }
        }
        if reached.is_empty() {
            let key = quote(&entry.spec.key);
            let message = format!("no rule matches the descriptor: none has the key {key} here");
            sink.warning(entry.location, message);
            return reached;
        }
        lists.clear();
        for Reached { element, free_entry } in &reached {
            lists.push((element.children.as_slice(), *free_entry));
        }
    }
    if reached.iter().all(|Reached { element, .. }| element.spec.rule.is_none()) {
        let message = "no rule applies to the descriptor: none with these keys has a `rate_limit`";
        let help = "a limit applies only to a descriptor that ends with its entry";
        sink.warning_with_help(template.location, message, help);
    }
    reached
}

/// Warns of limits that work otherwise than they seem to.
fn check_limits(template: &ParsedTemplate, reached: &[Reached<'_>], sink: &mut DiagnosticSink<'_>) {
    let mut has_free_entry = false;
    let mut has_concurrency = false;
    for Reached { element, free_entry } in reached {
        let limits = element.spec.rule.iter().flat_map(|rule| &rule.limits);
        let mut limits = limits.peekable();
        if limits.peek().is_none() {
            continue;
        }
        let place = sink.describe(element.location);
        if let Some(entry) = free_entry
            && !has_free_entry
        {
            has_free_entry = true;
            let source = noun(&entry.spec.source);
            let message = format!(
                "the limit at {place} has a counter for each value of {source}, and clients can \
                 invent values: a new one is not limited"
            );
            let help = "give the rule the `value` that it is for; with a `*` in it, also \
                        `share_threshold: true`";
            sink.warning_with_help(entry.location, message, help);
        }
        if limits.any(|limit| limit.limit.algorithm.info().releasable) && !has_concurrency {
            has_concurrency = true;
            let message = format!(
                "nobody releases the permits of the `concurrency` limit at {place}: each HTTP \
                 request holds one until the end of its `lease`"
            );
            sink.warning(template.location, message);
        }
    }
}

/// Warns of a value that the source never has, because it is written otherwise.
fn check_spelling(spec: &EntrySpec, element: &ParsedDescriptor, sink: &mut DiagnosticSink<'_>) {
    let value = &element.spec.value;
    if element.spec.key != spec.key || value.is_empty() || value.contains('*') {
        return;
    }
    if let Some(reason) = impossible_value(&spec.source, value) {
        let message = format!("no request has the value {}: {reason}", quote(value));
        return sink.warning(element.location, message);
    }
    let normal = spec.source.normalize(value);
    if normal == *value && matches!(spec.source, Source::Method) {
        return check_method(value, element.location, sink);
    }
    if normal != *value && spec.default.as_ref() != Some(value) {
        let source = noun(&spec.source);
        let message = format!("no request has the value {}: {source} is normalized", quote(value));
        let mut help = format!("write {}", quote(&normal));
        if matches!(spec.source, Source::Path)
            && let Some((path, _)) = value.split_once('?')
        {
            help = format!("write {}, as the query is not part of the path", quote(path));
        }
        sink.warning_with_help(element.location, message, help);
    }
}

/// Why the source never has the value, however it is written.
fn impossible_value(source: &Source, value: &str) -> Option<&'static str> {
    let is_address = value.parse::<IpAddr>().is_ok();
    let is_network = Network::parse(value).is_some() && !is_address;
    match source {
        Source::RemoteAddress if !is_address => Some("it is no IP address"),
        Source::MaskedAddress(_) if !is_network => Some("it is no network, such as `10.0.0.0/8`"),
        _ => None,
    }
}

/// The source as a part of a message.
fn noun(source: &Source) -> String {
    match source {
        Source::Header(name) => format!("the header {}", quote(name)),
        Source::Query(name) => format!("the query parameter {}", quote(name)),
        source => source.to_string(),
    }
}

/// True if clients can invent values of the source without end.
fn is_free(source: &Source) -> bool {
    match source {
        Source::Path | Source::RawPath | Source::Query(_) => true,
        // Other headers often hold what the proxy has verified, such as a key or a plan.
        Source::Header(name) => FREE_HEADERS.contains(&&**name),
        _ => false,
    }
}

/// False if each value that the element matches has a counter of its own.
fn shares_counters(element: &ParsedDescriptor) -> bool {
    let spec = &element.spec;
    if element.composite_key.contains('*') { spec.share_threshold } else { !spec.value.is_empty() }
}

/// The entries that an entry of a descriptor may become: `key_value` for all of its values.
struct Wanted<'e> {
    key: &'e str,
    /// A pattern if the value is unknown.
    text: String,
}

impl<'e> Wanted<'e> {
    fn new(spec: &'e EntrySpec) -> Self {
        let key = spec.key.as_str();
        let text = match &spec.source {
            Source::Constant(value) => format!("{key}_{}", String::from_utf8_lossy(value)),
            _ => format!("{key}_*"),
        };
        Self { key, text }
    }

    /// False only if the element matches none of them.
    fn may_be_matched_by(&self, element: &ParsedDescriptor) -> bool {
        let composite_key = &element.composite_key;
        if composite_key == self.key {
            return true;
        }
        if composite_key.contains('*') {
            return overlap(composite_key, &self.text);
        }
        match self.text.strip_suffix('*') {
            Some(start) => composite_key.starts_with(start),
            None => *composite_key == self.text,
        }
    }
}
