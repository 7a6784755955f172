//! The reasons why no limit applies to a descriptor, or why a refused one passes, in words.

use super::shown::{Shown, ShownEntry};
use crate::{
    descriptor::Descriptor,
    engine::decision::{Decision, Match, Verdict},
    rules::{
        RuleTree,
        lookup::{Lookup, LookupEnd},
    },
};

/// The cause for which a request passes though it refuses this descriptor.
pub(super) fn of_pass(verdict: &Verdict, decision: &Decision) -> Option<&'static str> {
    if !verdict.is_refused() || decision.over_limit {
        return None;
    }
    Some(if decision.shadowed { "SHADOW_MODE" } else { "another quota" })
}

/// The reason why no limit applies to a descriptor; `None` if one does. Text of clients in it
/// is escaped.
pub fn without_limit(
    rules: &RuleTree,
    domain: &[u8],
    descriptor: &Descriptor,
    matched: &Match,
) -> Option<String> {
    match matched {
        Match::None => Some(of_search(rules, domain, descriptor)),
        other => of_match(other, |name| Shown(name.as_bytes()).to_string()),
    }
}

/// The reason why no limit applies, if the match itself tells it. `show` makes the name of
/// a rule fit to be shown.
pub(super) fn of_match(matched: &Match, show: impl Fn(&str) -> String) -> Option<String> {
    match matched {
        Match::UnknownDomain => Some("no rules define this domain".to_owned()),
        Match::None => Some("no rule matches".to_owned()),
        Match::Replaced(rule) => {
            Some(format!("the rule of another descriptor replaces {}", show(&rule.name())))
        }
        Match::Unlimited(rule) => Some(format!("the rule {} is unlimited", show(&rule.name()))),
        Match::Rule(..) | Match::Override(_) => None,
    }
}

/// The reason why no rule of the domain matches: the entry at which the search ended.
pub(super) fn of_search(rules: &RuleTree, domain: &[u8], descriptor: &Descriptor) -> String {
    let Some(domain) = rules.domain(domain) else {
        return "no rules define this domain".to_owned();
    };
    let lookup = domain.lookup(&descriptor.entries);
    let path = path(&lookup);
    let path = Shown(path.as_bytes());
    let next = descriptor.entries.get(lookup.steps.len());
    match (lookup.end, next) {
        (LookupEnd::Rule(_), _) => "the rules were reloaded meanwhile".to_owned(),
        (LookupEnd::NoElement, Some(entry)) if lookup.steps.is_empty() => {
            format!("no rule matches {} as the first entry", ShownEntry(entry))
        }
        (LookupEnd::NoElement, Some(entry)) => {
            format!("no rule below {path} matches {}", ShownEntry(entry))
        }
        (LookupEnd::NothingBelow, Some(entry)) => {
            format!("no rules are below {path}, so none matches {}", ShownEntry(entry))
        }
        (LookupEnd::NoLimit, _) => format!("{path} has no limit, only rules below it may have"),
        (LookupEnd::NoEntries | LookupEnd::NoElement | LookupEnd::NothingBelow, _) => {
            "the descriptor has no entries".to_owned()
        }
    }
}

/// The composite keys of the elements that matched, joined with dots.
fn path(lookup: &Lookup<'_>) -> String {
    let keys = lookup.steps.iter().map(|step| step.element.composite_key());
    keys.collect::<Vec<_>>().join(".")
}
