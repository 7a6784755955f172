//! Limits that are valid for both services and have another effect.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    environment::Environment,
    finding::{Finding, Grade},
};
use crate::{
    cli::manifest::{list, text},
    config::{
        SourceFile,
        documents::{self, Item, Kind},
    },
};

/// The largest number of findings of one kind.
const MAX_LISTED: usize = 20;

/// A limit whose descriptors all have a fixed key and value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FixedLimit {
    /// `file:line`.
    place: String,
    unit: String,
}

/// Facts about the limits of all files.
#[derive(Default)]
struct LimitSurvey {
    /// Places of limits for which the reference does not return metadata.
    without_metadata: Vec<String>,
    /// By the name of the counter in the reference, without the window.
    fixed_limits: HashMap<String, Vec<FixedLimit>>,
    /// By domain, the files with patterns on the first level.
    files_with_patterns: BTreeMap<String, BTreeSet<String>>,
}

/// Compares the effect of `files`, which are valid for tollgate.
pub(super) fn compare(env: &Environment, files: &[SourceFile], findings: &mut Vec<Finding>) {
    let mut survey = LimitSurvey::default();
    for file in files {
        let documents = documents::read(file);
        let Some(mut roots) = documents.roots() else { continue };
        let Some(root) = roots.next() else { continue };
        let domain = text(root, "domain");
        let parent = ListPosition {
            file: &file.name,
            domain,
            counter: Some(format!("{domain}_")),
            is_counted_by_value: false,
            depth: 0,
        };
        survey.add_descriptors(root, &parent);
    }
    returned_metadata(env, &survey, findings);
    shared_counters(env, &survey, findings);
    random_pattern_order(&survey, findings);
}

/// The position of a list of descriptors.
#[derive(Clone)]
struct ListPosition<'a> {
    file: &'a str,
    domain: &'a str,
    /// The first part of the counter's name, or `None` below a descriptor that
    /// matches several values.
    counter: Option<String>,
    /// Set if the reference keeps statistics for each value of a request.
    is_counted_by_value: bool,
    depth: usize,
}

impl LimitSurvey {
    fn add_descriptors(&mut self, parent_item: Item<'_>, parent: &ListPosition<'_>) {
        for descriptor in list(parent_item, "descriptors") {
            let (key, value) = (text(descriptor, "key"), text(descriptor, "value"));
            let is_pattern = key.contains('*') || value.contains('*');
            if is_pattern && parent.depth == 0 {
                let files = self.files_with_patterns.entry(parent.domain.to_owned()).or_default();
                files.insert(parent.file.to_owned());
            }
            let matches_several = value.is_empty() || is_pattern;
            let is_shared = is_pattern && is_true(descriptor, "share_threshold");
            let is_by_value =
                matches_several && !is_shared && is_true(descriptor, "value_to_metric");
            let counter = match &parent.counter {
                Some(prefix) if !matches_several => Some(format!("{prefix}{key}_{value}_")),
                _ => None,
            };
            let position = ListPosition {
                counter,
                is_counted_by_value: parent.is_counted_by_value || is_by_value,
                depth: parent.depth + 1,
                ..*parent
            };
            if let Some(limit) = descriptor.get("rate_limit")
                && !is_true(limit, "unlimited")
            {
                self.add_limit(descriptor, limit, &position);
            }
            self.add_descriptors(descriptor, &position);
        }
    }

    fn add_limit(&mut self, descriptor: Item<'_>, limit: Item<'_>, position: &ListPosition<'_>) {
        let place = format!("{}:{}", position.file, descriptor.line);
        let is_leaf = descriptor.get("descriptors").is_none();
        let is_detailed = is_leaf && is_true(descriptor, "detailed_metric");
        let has_metadata = descriptor.get("metadata").is_some();
        if has_metadata && (position.is_counted_by_value || is_detailed) {
            self.without_metadata.push(place.clone());
        }
        if let Some(counter) = &position.counter {
            let unit = text(limit, "unit").to_lowercase();
            let limits = self.fixed_limits.entry(counter.clone()).or_default();
            limits.push(FixedLimit { place, unit });
        }
    }
}

fn returned_metadata(env: &Environment, survey: &LimitSurvey, findings: &mut Vec<Finding>) {
    const NAME: &str = "RESPONSE_DYNAMIC_METADATA";
    let Some(first) = survey.without_metadata.first() else { return };
    if !env.is_true(NAME) && !env.is_word(NAME, "always") {
        return;
    }
    let place = match survey.without_metadata.len() {
        1 => first.clone(),
        several => format!("{first} and {} more", several - 1),
    };
    findings.push(
        Finding::new(Grade::Differs, "the metadata of a rule is returned")
            .at(place)
            .reference("loses it, because the statistics of the rule are kept by value")
            .tollgate("returns it with each response that allows a request"),
    );
}

fn shared_counters(env: &Environment, survey: &LimitSurvey, findings: &mut Vec<Finding>) {
    if env.is_word("COUNTER_KEYS", "reference") {
        return;
    }
    let mut groups = Vec::new();
    for limits in survey.fixed_limits.values() {
        if let [first, second, ..] = limits.as_slice() {
            groups.push((first, second));
        }
    }
    groups.sort();
    groups.truncate(MAX_LISTED);
    for (first, second) in groups {
        let times = if first.unit == second.unit {
            "always"
        } else {
            "whenever their windows begin at the same moment"
        };
        findings.push(
            Finding::new(Grade::Differs, "two limits no longer share a counter")
                .at(&first.place)
                .reference(format!(
                    "counts this limit and that at {} together, {times}",
                    second.place
                ))
                .tollgate("has a counter for each limit")
                .unless_set(env, &["COUNTER_KEYS"]),
        );
    }
}

fn random_pattern_order(survey: &LimitSurvey, findings: &mut Vec<Finding>) {
    for (domain, files) in &survey.files_with_patterns {
        if files.len() < 2 {
            continue;
        }
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let title = format!("several files have patterns for the domain {domain}");
        findings.push(
            Finding::new(Grade::Differs, title)
                .at(files.join(", "))
                .reference("tries them in a random order that changes with each start")
                .tollgate("tries them in the order of the file names"),
        );
    }
}

fn is_true(item: Item<'_>, key: &str) -> bool {
    match item.get(key) {
        Some(value) => value.kind() == Kind::Bool(true),
        None => false,
    }
}
