//! Limits that both services understand, and treat otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Case,
    finding::{Finding, Grade},
};
use crate::config::{
    SourceFile,
    documents::{self, Item, Kind},
};

/// How many findings of a kind are made at most.
const SHOWN: usize = 20;

/// What is known of the limits of all files.
#[derive(Default)]
struct Limits {
    /// Where limits are whose metadata the reference does not return.
    silent: Vec<String>,
    /// The limits for which all values are written down, by the name that the
    /// reference gives to their counter, without the window.
    fixed: HashMap<String, Vec<(String, String)>>,
    /// By domain, the files that have patterns on its first level.
    patterns: BTreeMap<String, BTreeSet<String>>,
}

/// Compares what both services do with `files`, which are right.
pub(super) fn compare(case: &Case<'_>, files: &[SourceFile], findings: &mut Vec<Finding>) {
    let mut limits = Limits::default();
    for file in files {
        let documents = documents::read(file);
        let root = documents.roots().and_then(|mut it| it.next());
        let Some(root) = root else { continue };
        let domain = text(root, "domain");
        let above = Above {
            file: &file.name,
            domain,
            counter: Some(format!("{domain}_")),
            ..Above::default()
        };
        limits.descriptors(root, &above);
    }
    metadata(case, &limits, findings);
    shared(case, &limits, findings);
    order(&limits, findings);
}

/// What leads to a list of descriptors.
#[derive(Clone, Default)]
struct Above<'a> {
    file: &'a str,
    domain: &'a str,
    /// The name of the counter so far; none if a value is not written down.
    counter: Option<String>,
    /// Whether a value of the request becomes part of a statistic.
    by_value: bool,
    depth: usize,
}

impl Limits {
    fn descriptors(&mut self, parent: Item<'_>, above: &Above<'_>) {
        for it in parent.get("descriptors").into_iter().flat_map(Item::list) {
            let (key, value) = (text(it, "key"), text(it, "value"));
            let is_pattern = key.contains('*') || value.contains('*');
            if is_pattern && above.depth == 0 {
                let files = self.patterns.entry(above.domain.to_owned()).or_default();
                files.insert(above.file.to_owned());
            }
            let shares = is_pattern && is_true(it, "share_threshold");
            let takes_any = value.is_empty() || is_pattern;
            let counter = above.counter.as_ref().filter(|_| !takes_any);
            let here = Above {
                counter: counter.map(|it| format!("{it}{key}_{value}_")),
                by_value: above.by_value || takes_any && !shares && is_true(it, "value_to_metric"),
                depth: above.depth + 1,
                ..above.clone()
            };
            if let Some(limit) = it.get("rate_limit").filter(|it| !is_true(*it, "unlimited")) {
                self.limit(it, limit, &here);
            }
            self.descriptors(it, &here);
        }
    }

    fn limit(&mut self, descriptor: Item<'_>, limit: Item<'_>, here: &Above<'_>) {
        let place = || format!("{}:{}", here.file, descriptor.line);
        let is_leaf = descriptor.get("descriptors").is_none();
        let renamed = here.by_value || is_leaf && is_true(descriptor, "detailed_metric");
        if renamed && descriptor.get("metadata").is_some() {
            self.silent.push(place());
        }
        if let Some(counter) = &here.counter {
            let unit = text(limit, "unit").to_lowercase();
            self.fixed.entry(counter.clone()).or_default().push((place(), unit));
        }
    }
}

fn metadata(case: &Case<'_>, limits: &Limits, findings: &mut Vec<Finding>) {
    const NAME: &str = "RESPONSE_DYNAMIC_METADATA";
    let asked = case.env.is_true(NAME)
        || case.env.text(NAME).is_some_and(|it| it.eq_ignore_ascii_case("always"));
    let Some(first) = limits.silent.first().filter(|_| asked) else { return };
    let place = match limits.silent.len() {
        1 => first.clone(),
        several => format!("{first} and {} more", several - 1),
    };
    findings.push(
        Finding::new(Grade::Differs, "the metadata of a rule is returned")
            .at(place)
            .there("loses it, as statistics of the rule are kept by value")
            .here("returns it with each answer that lets a request pass"),
    );
}

fn shared(case: &Case<'_>, limits: &Limits, findings: &mut Vec<Finding>) {
    let keeps =
        case.env.text("COUNTER_KEYS").is_some_and(|it| it.eq_ignore_ascii_case("reference"));
    let mut groups: Vec<_> = limits.fixed.values().filter(|it| 1 < it.len()).collect();
    groups.sort();
    for group in groups.into_iter().filter(|_| !keeps).take(SHOWN) {
        let (place, unit) = &group[0];
        let (other, other_unit) = &group[1];
        let when = match unit == other_unit {
            true => "always",
            false => "whenever their windows begin at the same moment",
        };
        findings.push(
            Finding::new(Grade::Differs, "two limits no longer share a counter")
                .at(place)
                .there(format!("counts for this and for {other} together, {when}"))
                .here("counts for each by itself")
                .unless(case.env, &["COUNTER_KEYS"]),
        );
    }
}

fn order(limits: &Limits, findings: &mut Vec<Finding>) {
    for (domain, files) in limits.patterns.iter().filter(|it| 1 < it.1.len()) {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        findings.push(
            Finding::new(
                Grade::Differs,
                format!("several files have patterns for the domain {domain}"),
            )
            .at(files.join(", "))
            .there("tries them in an order that is another after each start")
            .here("tries them in the order of the names of their files"),
        );
    }
}

fn text<'n>(item: Item<'n>, key: &str) -> &'n str {
    item.get(key).and_then(Item::text).unwrap_or_default()
}

fn is_true(item: Item<'_>, key: &str) -> bool {
    item.get(key).is_some_and(|it| it.kind() == Kind::Bool(true))
}
