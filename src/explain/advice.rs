//! Advice as sentences.

use super::notation::{descriptor, printable};
use crate::{
    descriptor::Entry,
    mapping::Missing,
    rules::{
        Element, Rule, RuleTree,
        explain::{Advice, EntryPart, Explanation, NearElement, RulePath, Shadowed, similar_names},
        lookup::LookupEnd,
    },
};

/// The most domains listed.
const MOST_NAMES: usize = 10;
/// The most domains listed that are like the one asked for.
const MOST_SIMILAR: usize = 3;

/// The element in the notation of a descriptor: `key=value`, or the key if it matches any
/// value.
pub fn element(element: &Element) -> String {
    let text = match element.value() {
        "" => element.key().to_owned(),
        value => format!("{}={value}", element.key()),
    };
    printable(&text)
}

fn entry(entries: &[Entry], index: usize) -> String {
    entries.get(index..=index).map_or_else(String::new, descriptor)
}

fn place(rule: &Rule) -> String {
    format!("{} at {}", printable(&rule.name()), rule.spec.location)
}

/// The reason why no rule applies.
pub fn reason(explanation: &Explanation<'_>, entries: &[Entry]) -> String {
    let next = explanation.chosen().count();
    let last = explanation
        .chosen()
        .last()
        .map(|element| format!("`{}` at {}", self::element(element), element.location));
    match (explanation.end, last) {
        (LookupEnd::NoLimit, Some(last)) => format!("{last} has no limit, and no entry follows"),
        (LookupEnd::NothingBelow, Some(last)) => {
            format!("`{}` follows, but {last} has no `descriptors`", entry(entries, next))
        }
        (_, last) => {
            let place = last
                .map_or_else(|| "for the first entry".to_owned(), |last| format!("below {last}"));
            unknown_entry(explanation, entries.get(next), &place)
        }
    }
}

/// The reason if nothing matches the entry `next`, which is the last one looked up.
fn unknown_entry(explanation: &Explanation<'_>, next: Option<&Entry>, place: &str) -> String {
    let (Some(next), Some(level)) = (next, explanation.levels.last()) else {
        return "a descriptor without entries matches none".to_owned();
    };
    if level.size == 0 {
        return "the domain has no rules".to_owned();
    }
    let key = printable(&String::from_utf8_lossy(&next.key));
    if level.knows_key {
        let value = printable(&String::from_utf8_lossy(&next.value));
        return format!("the key `{key}` is known {place}, but not with the value `{value}`");
    }
    format!("the key `{key}` is unknown {place}")
}

/// The reason why an HTTP request does not have a descriptor.
pub fn missing(missing: &Missing) -> String {
    let Missing { key, source, why } = missing;
    let key = printable(&String::from_utf8_lossy(key));
    printable(&format!("the entry `{key}` has no value, because {source} {why}"))
}

/// The reason why an HTTP request has no descriptors.
pub fn skipped(index: usize) -> String {
    format!(
        "element {} of `skip` matches the request: it passes, and nothing is counted",
        index + 1
    )
}

/// The problem of a domain without rules, with the names that may have been meant. `None`
/// for a known domain.
pub fn unknown_domain(rules: &RuleTree, domain: &[u8]) -> Option<String> {
    if rules.domain(domain).is_some() {
        return None;
    }
    let asked = String::from_utf8_lossy(domain);
    let mut names: Vec<&str> = rules.domain_names().map(|name| &**name).collect();
    names.sort_unstable();
    let mut problem = format!("no rule file has the domain `{}`", printable(&asked));
    let similar = similar_names(&asked, names.iter().copied(), MOST_SIMILAR);
    if similar.is_empty() {
        problem += &format!("; the domains are {}", quoted(&names));
    } else {
        problem += &format!("; did you mean {}?", quoted(&similar));
    }
    Some(problem)
}

/// The advice as a sentence, for a descriptor with these entries.
pub fn sentence(advice: &Advice<'_>, entries: &[Entry]) -> String {
    match advice {
        Advice::Similar(NearElement { entry: index, element: found, part, difference }) => {
            let part = match part {
                EntryPart::Value => "value",
                EntryPart::Key => "key",
            };
            format!(
                "the {part} in `{}` differs from `{}` at {} {}",
                entry(entries, *index),
                element(found),
                found.location,
                difference.phrase()
            )
        }
        Advice::Deeper(paths) => {
            format!("the rules below it need more entries: {}", rule_paths(paths))
        }
        Advice::Order { order, rule } => format!(
            "in another order, `{}`, the rule {} applies",
            chosen_entries(entries, order),
            place(rule)
        ),
        Advice::Part { entries: kept, rule } => surplus(entries, kept, rule),
        Advice::OtherValues { entry: index, elements, unlisted } => format!(
            "the key `{}` is known here, the value is not; known here: {}",
            key(entries, *index),
            listed(elements, *unlisted)
        ),
        Advice::Elsewhere { entry: index, paths } => {
            let key = key(entries, *index);
            format!("the key `{key}` belongs elsewhere, in {}", rule_paths(paths))
        }
        Advice::Known { entry: index, elements, unlisted } => format!(
            "nothing there is like `{}`; known: {}",
            entry(entries, *index),
            listed(elements, *unlisted)
        ),
    }
}

fn key(entries: &[Entry], index: usize) -> String {
    let key = entries.get(index).map_or(&[][..], |entry| &entry.key);
    printable(&String::from_utf8_lossy(key))
}

fn listed(elements: &[&Element], unlisted: usize) -> String {
    let mut texts = Vec::with_capacity(elements.len() + 1);
    for found in elements {
        texts.push(format!("`{}` at {}", element(found), found.location));
    }
    if unlisted > 0 {
        texts.push(format!("{unlisted} more"));
    }
    texts.join(", ")
}

/// The sentence that `rule` applies to the entries with the indexes `kept`.
fn surplus(entries: &[Entry], kept: &[usize], rule: &Rule) -> String {
    let others: Vec<_> = (0..entries.len()).filter(|index| !kept.contains(index)).collect();
    let count = match others.len() {
        1 => "is one entry too many".to_owned(),
        count => format!("are {count} entries too many"),
    };
    format!(
        "`{}` {count}: to `{}` alone, {} applies",
        chosen_entries(entries, &others),
        chosen_entries(entries, kept),
        place(rule)
    )
}

/// A rule that an element of another one hides.
pub fn shadowed(shadowed: &Shadowed<'_>) -> String {
    format!(
        "{} would apply if `{}` at {} did not come first",
        place(shadowed.rule),
        element(shadowed.chosen),
        shadowed.chosen.location
    )
}

fn chosen_entries(entries: &[Entry], indexes: &[usize]) -> String {
    let mut chosen = Vec::with_capacity(indexes.len());
    for index in indexes {
        chosen.extend(entries.get(*index).cloned());
    }
    descriptor(&chosen)
}

fn rule_paths(paths: &[RulePath<'_>]) -> String {
    let mut texts = Vec::with_capacity(paths.len());
    for RulePath { elements, rule } in paths {
        let keys: Vec<_> = elements.iter().map(|it| element(it)).collect();
        texts.push(format!("`{}` at {}", keys.join(","), rule.spec.location));
    }
    texts.join(", ")
}

/// The first of `names`, and the number of the others.
fn quoted(names: &[&str]) -> String {
    let mut texts = Vec::new();
    for name in names.iter().take(MOST_NAMES) {
        texts.push(format!("`{}`", printable(name)));
    }
    if MOST_NAMES < names.len() {
        texts.push(format!("{} more", names.len() - MOST_NAMES));
    }
    texts.join(", ")
}
