//! Whether Envoy's reference service takes rule files: its checks, in short.

use std::collections::{HashMap, HashSet};

use crate::{
    config::{
        SourceFile,
        documents::{self, Item, Kind},
    },
    limit::Unit,
};

/// What it does with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepts,
    /// For this reason.
    Refuses(String),
    /// That cannot be told here.
    Unknown,
}

/// The keys that it knows, in whatever place.
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

/// Judges `files` as one set, in their order.
pub(super) fn judge(files: &[SourceFile], merge_domains: bool) -> Vec<Verdict> {
    let mut domains: HashMap<String, HashSet<String>> = HashMap::new();
    files.iter().map(|it| file(it, merge_domains, &mut domains)).collect()
}

fn file(
    file: &SourceFile,
    merge_domains: bool,
    domains: &mut HashMap<String, HashSet<String>>,
) -> Verdict {
    let documents = documents::read(file);
    // Of two equal keys it takes the last. Of the rest it is not known.
    let mistakes = documents.diagnostics.iter().flat_map(|it| it.iter());
    let is_duplicate = |message: &str| message.starts_with("the key ");
    if !mistakes.into_iter().all(|it| is_duplicate(&it.message)) {
        return Verdict::Unknown;
    }
    let Some(root) = documents.roots().and_then(|mut it| it.next()) else {
        return Verdict::Refuses("it has no domain".into());
    };
    let judged = keys(root).and_then(|()| load(root, merge_domains, domains));
    judged.map_or_else(Verdict::Refuses, |()| Verdict::Accepts)
}

type Judged = Result<(), String>;

fn refuse(item: Item<'_>, problem: &str) -> Judged {
    Err(format!("line {}: {problem}", item.line))
}

/// Its first pass: keys and scalars, wherever they are.
fn keys(item: Item<'_>) -> Judged {
    match item.kind() {
        Kind::Float => return refuse(item, "a number that is not whole"),
        Kind::Int(it) if i64::try_from(it).is_err() => return refuse(item, "a number too large"),
        _ => {}
    }
    for (key, is_text, value) in item.map() {
        if !is_text {
            return refuse(value, &format!("the key {key} is not a string"));
        }
        if !KEYS.contains(&key) {
            return refuse(value, &format!("it does not know the key {key}"));
        }
        if key != "metadata" {
            keys(value)?;
        }
    }
    item.list().try_for_each(|it| match it.kind() {
        Kind::Map => keys(it),
        _ => refuse(it, "an element of a list that is no map"),
    })
}

/// The second and third: types, and what has to be there.
fn load(
    root: Item<'_>,
    merge_domains: bool,
    domains: &mut HashMap<String, HashSet<String>>,
) -> Judged {
    if !matches!(root.kind(), Kind::Map | Kind::Null) {
        return refuse(root, "it is no map");
    }
    let domain = string(root, "domain")?;
    if domain.is_empty() {
        return refuse(root, "it has no domain");
    }
    let known = domains.contains_key(domain);
    if known && !merge_domains {
        return refuse(root, &format!("the domain {domain} is in another file"));
    }
    let siblings = domains.entry(domain.to_owned()).or_default();
    descriptors(root, siblings)
}

fn descriptors(parent: Item<'_>, siblings: &mut HashSet<String>) -> Judged {
    let Some(list) = parent.get("descriptors") else { return Ok(()) };
    if list.kind() != Kind::List {
        return refuse(list, "`descriptors` is no list");
    }
    list.list().try_for_each(|it| descriptor(it, siblings))
}

fn descriptor(item: Item<'_>, siblings: &mut HashSet<String>) -> Judged {
    let (key, value) = (string(item, "key")?, string(item, "value")?);
    if key.is_empty() {
        return refuse(item, "a descriptor without a key");
    }
    let composite = if value.is_empty() { key.to_owned() } else { format!("{key}_{value}") };
    let is_pattern = composite.contains('*');
    for flag in ["shadow_mode", "quota_mode", "detailed_metric", "value_to_metric"] {
        boolean(item, flag)?;
    }
    if boolean(item, "share_threshold")? && !is_pattern {
        return refuse(item, "`share_threshold` without a `*`");
    }
    if !siblings.insert(composite) {
        return refuse(item, "a key and value that are already in the list");
    }
    if let Some(limit) = item.get("rate_limit") {
        rate_limit(limit)?;
    }
    if let Some(it) = item.get("metadata").filter(|it| it.kind() != Kind::Map) {
        return refuse(it, "`metadata` is no map");
    }
    descriptors(item, &mut HashSet::new())
}

fn rate_limit(limit: Item<'_>) -> Judged {
    if limit.kind() != Kind::Map {
        return refuse(limit, "`rate_limit` is no map");
    }
    let requests = limit.get("requests_per_unit").map(|it| (it, it.kind()));
    match requests {
        None => {}
        Some((_, Kind::Int(number))) if u32::try_from(number).is_ok() => {}
        Some((it, _)) => return refuse(it, "`requests_per_unit` is no number that it takes"),
    }
    let unit = Unit::from_name(string(limit, "unit")?);
    match (boolean(limit, "unlimited")?, unit) {
        (true, Some(_)) => return refuse(limit, "`unlimited` with a unit"),
        (false, None) => return refuse(limit, "no unit that it knows"),
        _ => {}
    }
    let name = string(limit, "name")?;
    let Some(replaces) = limit.get("replaces") else { return Ok(()) };
    if replaces.kind() != Kind::List {
        return refuse(replaces, "`replaces` is no list");
    }
    replaces.list().try_for_each(|it| match string(it, "name")? {
        "" => refuse(it, "an element of `replaces` without a name"),
        other if other == name => refuse(it, "a rule that replaces itself"),
        _ => Ok(()),
    })
}

fn string<'n>(map: Item<'n>, key: &str) -> Result<&'n str, String> {
    match map.get(key) {
        None => Ok(""),
        Some(it) => it.text().ok_or_else(|| format!("line {}: `{key}` is no string", it.line)),
    }
}

fn boolean(map: Item<'_>, key: &str) -> Result<bool, String> {
    match map.get(key).map(|it| (it, it.kind())) {
        None => Ok(false),
        Some((_, Kind::Bool(it))) => Ok(it),
        Some((it, _)) => Err(format!("line {}: `{key}` is neither true nor false", it.line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: &str = "rate_limit: {unit: minute, requests_per_unit: 1}";

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let file = SourceFile { name: "a".into(), bytes: text.as_bytes().to_vec() };
        let verdict = judge(&[file], false);
        match (expected, &verdict[0]) {
            (None, Verdict::Accepts) => {}
            (Some(reason), Verdict::Refuses(it)) => assert!(it.contains(reason), "{text}: {it}"),
            other => unreachable!("{text}: {other:?}"),
        }
    }

    #[track_caller]
    fn check_descriptor(text: &str, expected: Option<&str>) {
        check(&format!("domain: d\ndescriptors:\n- {{{text}}}\n"), expected);
    }

    #[test]
    fn what_is_stricter_here_is_accepted_there() {
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
    fn what_it_refuses_is_refused() {
        check("", Some("no domain"));
        check("domain: 1.5", Some("not whole"));
        check("domain: [a]", Some("no map"));
        check("a: b", Some("does not know the key a"));
        check("on: b", Some("not a string"));
        check("domain: d\ndescriptors: {key: a}", Some("no list"));
        check_descriptor("value: a", Some("without a key"));
        check_descriptor("key: a, value: 18446744073709551615", Some("too large"));
        check_descriptor("key: a, shadow_mode: \"true\"", Some("neither true nor false"));
        check_descriptor("key: a, share_threshold: true", Some("without a `*`"));
        check_descriptor("key: a, descriptors: [{key: b}, {key: b}]", Some("already in the list"));
        check_descriptor("key: a, rate_limit: {}", Some("no unit"));
        check_descriptor("key: a, rate_limit: {unit: day, unlimited: true}", Some("with a unit"));
        check_descriptor(
            "key: a, rate_limit: {unit: day, requests_per_unit: -1}",
            Some("no number"),
        );
        check_descriptor("key: a, rate_limit: {algorithm: x}", Some("does not know"));
        let replaces =
            |it: &str| format!("key: a, rate_limit: {{unit: day, name: n, replaces: {it}}}");
        check_descriptor(&replaces("[{name: n}]"), Some("replaces itself"));
        check_descriptor(&replaces("[{name: \"\"}]"), Some("without a name"));
        check_descriptor(&replaces("[n]"), Some("no map"));
    }

    #[test]
    fn files_are_judged_together() {
        let file = |text: &str| SourceFile { name: "a".into(), bytes: text.as_bytes().to_vec() };
        let two = [file("domain: d\ndescriptors: [{key: a}]"), file("domain: d")];
        assert!(matches!(judge(&two, false)[1], Verdict::Refuses(_)));
        assert_eq!(judge(&two, true)[1], Verdict::Accepts);
        let twice = [two[0].clone(), two[0].clone()];
        assert!(matches!(judge(&twice, true)[1], Verdict::Refuses(_)));
    }

    #[test]
    fn what_is_no_yaml_is_not_judged() {
        let file = SourceFile { name: "a".into(), bytes: b"{{ .Values.rules }}: [".to_vec() };
        assert_eq!(judge(&[file], false), [Verdict::Unknown]);
    }
}
