//! Acceptance of rule files by Envoy's reference service: a summary of its
//! checks.

use std::collections::{HashMap, HashSet};

use crate::{
    config::{
        SourceFile,
        documents::{self, Documents, Item, Kind},
    },
    limit::Unit,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Acceptance {
    Accepted,
    /// Holds the reason.
    Rejected(String),
    /// The file is not valid YAML for tollgate, whose parser differs from that
    /// of the reference.
    Unknown,
}

/// All keys that the reference knows. It accepts each at any place.
const KEYS: [&str; 16] = [
    "domain",
    "descriptors",
    "key",
    "value",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "name",
    "replaces",
    "shadow_mode",
    "quota_mode",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
];

/// By domain, the keys and values of its first level.
type Domains = HashMap<String, HashSet<String>>;

/// Checks `files` as one set, in their order. Returns a result for each.
pub(super) fn check(files: &[SourceFile], merge_domains: bool) -> Vec<Acceptance> {
    let mut domains = Domains::new();
    let mut acceptances = Vec::new();
    for file in files {
        acceptances.push(check_file(file, merge_domains, &mut domains));
    }
    acceptances
}

fn check_file(file: &SourceFile, merge_domains: bool, domains: &mut Domains) -> Acceptance {
    let documents = documents::read(file);
    if !is_yaml(&documents) {
        return Acceptance::Unknown;
    }
    let root = match documents.roots() {
        Some(mut roots) => roots.next(),
        None => None,
    };
    let Some(root) = root else {
        return Acceptance::Rejected("it has no domain".into());
    };
    let mut result = check_keys(root);
    if result.is_ok() {
        result = check_root(root, merge_domains, domains);
    }
    match result {
        Ok(()) => Acceptance::Accepted,
        Err(reason) => Acceptance::Rejected(reason),
    }
}

/// Returns true if the file has no mistakes, except for duplicate keys: the
/// reference takes the last.
fn is_yaml(documents: &Documents<'_>) -> bool {
    let Some(diagnostics) = &documents.diagnostics else { return true };
    diagnostics.iter().all(|diagnostic| diagnostic.message.starts_with("the key "))
}

/// The error is the reason for a rejection.
type CheckResult = Result<(), String>;

fn reject(item: Item<'_>, reason: &str) -> CheckResult {
    Err(format!("line {}: {reason}", item.line))
}

/// The first pass of the reference: keys and scalars at any place.
fn check_keys(item: Item<'_>) -> CheckResult {
    match item.kind() {
        Kind::Float => return reject(item, "a number that is not an integer"),
        Kind::Int(number) if i64::try_from(number).is_err() => {
            return reject(item, "a number too large");
        }
        _ => {}
    }
    for (key, is_text, value) in item.map() {
        if !is_text {
            return reject(value, &format!("the key {key} is not a string"));
        }
        if !KEYS.contains(&key) {
            return reject(value, &format!("the key {key} is unknown"));
        }
        if key != "metadata" {
            check_keys(value)?;
        }
    }
    for element in item.list() {
        if element.kind() != Kind::Map {
            return reject(element, "an element of a list is not a map");
        }
        check_keys(element)?;
    }
    Ok(())
}

/// The other passes of the reference: types and required keys.
fn check_root(root: Item<'_>, merge_domains: bool, domains: &mut Domains) -> CheckResult {
    if !matches!(root.kind(), Kind::Map | Kind::Null) {
        return reject(root, "the file is not a map");
    }
    let domain = string(root, "domain")?;
    if domain.is_empty() {
        return reject(root, "it has no domain");
    }
    if domains.contains_key(domain) && !merge_domains {
        return reject(root, &format!("the domain {domain} is in another file"));
    }
    let siblings = domains.entry(domain.to_owned()).or_default();
    check_descriptors(root, siblings)
}

fn check_descriptors(parent: Item<'_>, siblings: &mut HashSet<String>) -> CheckResult {
    let Some(list) = parent.get("descriptors") else { return Ok(()) };
    if list.kind() != Kind::List {
        return reject(list, "`descriptors` is not a list");
    }
    for descriptor in list.list() {
        check_descriptor(descriptor, siblings)?;
    }
    Ok(())
}

fn check_descriptor(item: Item<'_>, siblings: &mut HashSet<String>) -> CheckResult {
    let (key, value) = (string(item, "key")?, string(item, "value")?);
    if key.is_empty() {
        return reject(item, "a descriptor without a key");
    }
    let composite = if value.is_empty() { key.to_owned() } else { format!("{key}_{value}") };
    let is_pattern = composite.contains('*');
    for flag in ["shadow_mode", "quota_mode", "detailed_metric", "value_to_metric"] {
        boolean(item, flag)?;
    }
    if boolean(item, "share_threshold")? && !is_pattern {
        return reject(item, "`share_threshold` without a `*`");
    }
    if !siblings.insert(composite) {
        return reject(item, "a key and value that are already in the list");
    }
    if let Some(limit) = item.get("rate_limit") {
        check_rate_limit(limit)?;
    }
    if let Some(metadata) = item.get("metadata")
        && metadata.kind() != Kind::Map
    {
        return reject(metadata, "`metadata` is not a map");
    }
    check_descriptors(item, &mut HashSet::new())
}

fn check_rate_limit(limit: Item<'_>) -> CheckResult {
    if limit.kind() != Kind::Map {
        return reject(limit, "`rate_limit` is not a map");
    }
    if let Some(requests) = limit.get("requests_per_unit") {
        let is_valid = match requests.kind() {
            Kind::Int(number) => u32::try_from(number).is_ok(),
            _ => false,
        };
        if !is_valid {
            return reject(requests, "`requests_per_unit` is not an unsigned integer of 32 bits");
        }
    }
    let unit = Unit::from_name(string(limit, "unit")?);
    match (boolean(limit, "unlimited")?, unit) {
        (true, Some(_)) => return reject(limit, "`unlimited` with a unit"),
        (false, None) => return reject(limit, "no unit, or an unknown one"),
        _ => {}
    }
    check_replaces(limit)
}

fn check_replaces(limit: Item<'_>) -> CheckResult {
    let own_name = string(limit, "name")?;
    let Some(replaces) = limit.get("replaces") else { return Ok(()) };
    if replaces.kind() != Kind::List {
        return reject(replaces, "`replaces` is not a list");
    }
    for replaced in replaces.list() {
        let name = string(replaced, "name")?;
        if name.is_empty() {
            return reject(replaced, "an element of `replaces` without a name");
        }
        if name == own_name {
            return reject(replaced, "a rule that replaces itself");
        }
    }
    Ok(())
}

/// Returns an empty string if the key is missing.
fn string<'n>(map: Item<'n>, key: &str) -> Result<&'n str, String> {
    let Some(item) = map.get(key) else { return Ok("") };
    match item.text() {
        Some(text) => Ok(text),
        None => Err(format!("line {}: `{key}` is not a string", item.line)),
    }
}

/// Returns false if the key is missing.
fn boolean(map: Item<'_>, key: &str) -> Result<bool, String> {
    let Some(item) = map.get(key) else { return Ok(false) };
    match item.kind() {
        Kind::Bool(value) => Ok(value),
        _ => Err(format!("line {}: `{key}` is neither true nor false", item.line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: &str = "rate_limit: {unit: minute, requests_per_unit: 1}";

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let file = SourceFile { name: "a".into(), bytes: text.as_bytes().to_vec() };
        let acceptance = super::check(&[file], false);
        match (expected, &acceptance[0]) {
            (None, Acceptance::Accepted) => {}
            (Some(expected), Acceptance::Rejected(reason)) => {
                assert!(reason.contains(expected), "{text}: {reason}");
            }
            other => unreachable!("{text}: {other:?}"),
        }
    }

    #[track_caller]
    fn check_descriptor(text: &str, expected: Option<&str>) {
        check(&format!("domain: d\ndescriptors:\n- {{{text}}}\n"), expected);
    }

    #[test]
    fn files_that_only_tollgate_rejects_are_accepted() {
        check(&format!("domain: d\ndescriptors:\n- {{key: a, {LIMIT}}}\n"), None);
        check("domain: d\n---\ndomain: e\n", None);
        check("domain: 1.5\ndomain: d\n", None);
        check_descriptor("key: a, unit: minute, name: x, domain: 4", None);
        check_descriptor("key: a, rate_limit: {unit: MINUTE, shadow_mode: true}", None);
        check_descriptor("key: a, rate_limit: {unlimited: true, unit: bogus}", None);
        check_descriptor("key: a, metadata: {1: 1.5, x: [1]}", None);
        check_descriptor("key: 010, value: yes", None);
    }

    #[test]
    fn files_that_the_reference_rejects_are_rejected() {
        check("", Some("no domain"));
        check("domain: 1.5", Some("not an integer"));
        check("domain: [a]", Some("not a map"));
        check("a: b", Some("the key a is unknown"));
        check("on: b", Some("not a string"));
        check("domain: d\nhttp: {descriptors: [[path]]}", Some("the key http is unknown"));
        check("domain: d\ndescriptors: {key: a}", Some("not a list"));
        check_descriptor("value: a", Some("without a key"));
        check_descriptor("key: a, value: 18446744073709551615", Some("too large"));
        check_descriptor("key: a, shadow_mode: \"true\"", Some("neither true nor false"));
        check_descriptor("key: a, share_threshold: true", Some("without a `*`"));
        check_descriptor("key: a, descriptors: [{key: b}, {key: b}]", Some("already in the list"));
        check_descriptor("key: a, rate_limit: {}", Some("no unit"));
        check_descriptor("key: a, rate_limit: {unit: day, unlimited: true}", Some("with a unit"));
        check_descriptor(
            "key: a, rate_limit: {unit: day, requests_per_unit: -1}",
            Some("not an unsigned integer"),
        );
        check_descriptor("key: a, rate_limit: {algorithm: x}", Some("is unknown"));
        let replaces =
            |list: &str| format!("key: a, rate_limit: {{unit: day, name: n, replaces: {list}}}");
        check_descriptor(&replaces("[{name: n}]"), Some("replaces itself"));
        check_descriptor(&replaces("[{name: \"\"}]"), Some("without a name"));
        check_descriptor(&replaces("[n]"), Some("not a map"));
    }

    #[test]
    fn domains_are_checked_across_files() {
        let file = |text: &str| SourceFile { name: "a".into(), bytes: text.as_bytes().to_vec() };
        let two = [file("domain: d\ndescriptors: [{key: a}]"), file("domain: d")];
        assert!(matches!(super::check(&two, false)[1], Acceptance::Rejected(_)));
        assert_eq!(super::check(&two, true)[1], Acceptance::Accepted);
        let twice = [two[0].clone(), two[0].clone()];
        assert!(matches!(super::check(&twice, true)[1], Acceptance::Rejected(_)));
    }

    #[test]
    fn the_acceptance_of_invalid_yaml_is_unknown() {
        let file = SourceFile { name: "a".into(), bytes: b"{{ .Values.rules }}: [".to_vec() };
        assert_eq!(super::check(&[file], false), [Acceptance::Unknown]);
    }
}
