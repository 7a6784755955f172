//! Explains a lookup: the elements that it tried, and the likely mistakes. Takes much longer than the lookup.

use std::sync::Arc;

use self::advice::Advisor;
pub use self::{
    advice::{Advice, RulePath},
    near::{EntryPart, NearElement},
    similar::{Difference, similar_names},
};
use super::{
    Domain, Element, Rule,
    level::{Found, Level},
    lookup::{LookupEnd, MatchKind},
    walk,
};
use crate::descriptor::Entry;

mod advice;
mod near;
mod similar;

/// The most patterns listed of one level that do not match.
const MOST_UNMATCHED: usize = 20;

/// The course of a lookup, and advice.
#[derive(Clone, Debug)]
pub struct Explanation<'t> {
    /// One for each entry that was looked up, in order.
    pub levels: Vec<TriedLevel<'t>>,
    /// The end of the lookup.
    pub end: LookupEnd<'t>,
    /// Rules that would apply if the element before theirs were removed, at most one for each
    /// entry.
    pub shadowed: Vec<Shadowed<'t>>,
    /// The likely mistakes, the most likely first. If a rule applies: the elements that would
    /// come first but for a slip, such as upper case.
    pub advice: Vec<Advice<'t>>,
}

/// The elements of a list that were tried for one entry.
#[derive(Clone, Debug)]
pub struct TriedLevel<'t> {
    /// In the order of the lookup: matching elements, and patterns for the key of the entry
    /// that do not match.
    pub tried: Vec<Tried<'t>>,
    /// The number of further patterns that do not match.
    pub unlisted: usize,
    /// The number of elements in the list.
    pub size: usize,
    /// The list has an element with the key of the entry.
    pub knows_key: bool,
}

/// An element that was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'t> {
    /// The element.
    pub element: &'t Element,
    /// Its result.
    pub result: TriedResult,
}

/// The result of trying an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriedResult {
    /// It matches, and the lookup went on below it.
    Chosen(MatchKind),
    /// It matches too, but another element comes before it.
    Later(MatchKind),
    /// Its pattern does not match.
    Unmatched,
}

/// The rule that would apply if one element were removed.
#[derive(Clone, Copy, Debug)]
pub struct Shadowed<'t> {
    /// The index of the entry that both elements match.
    pub entry: usize,
    /// The element of the rule.
    pub element: &'t Element,
    /// The element to remove.
    pub chosen: &'t Element,
    /// The rule.
    pub rule: &'t Arc<Rule>,
}

impl Domain {
    /// Explains the lookup for a descriptor with these entries. It is the same lookup as
    /// that of [`Self::find`].
    pub fn explain(&self, entries: &[Entry]) -> Explanation<'_> {
        let mut chosen = Vec::new();
        let end = walk(&self.root, entries, |found| chosen.push(found));
        let levels = levels(&self.root, &chosen, end);
        let mut tried = Vec::with_capacity(levels.len());
        let mut shadowed = Vec::new();
        let mut advice = Vec::new();
        for (index, (level, entry)) in levels.iter().zip(entries).enumerate() {
            let matching = level.find_all(entry);
            tried.push(tried_level(level, entry, &matching));
            let Some(first) = matching.first() else { continue };
            let missed = near::missed(level, index, entry, &matching);
            advice.extend(missed.into_iter().map(Advice::Similar));
            // Only the next element would be chosen without the first: it hides all others.
            if let Some(next) = matching.get(1)
                && let Some(rule) = rule_from(*next, &entries[index + 1..])
            {
                let (element, chosen) = (&*next.branch.element, &*first.branch.element);
                shadowed.push(Shadowed { entry: index, element, chosen, rule });
            }
        }
        if let Some(level) = levels.last() {
            advice.extend(Advisor { domain: self, entries, level, end, chosen: &chosen }.advice());
        }
        Explanation { levels: tried, end, shadowed, advice }
    }
}

impl<'t> Explanation<'t> {
    /// The elements that matched the entries, in order.
    pub fn chosen(&self) -> impl Iterator<Item = &'t Element> {
        self.levels.iter().filter_map(|level| {
            level.tried.iter().find_map(|tried| match tried.result {
                TriedResult::Chosen(_) => Some(tried.element),
                TriedResult::Later(_) | TriedResult::Unmatched => None,
            })
        })
    }
}

/// The lists in which entries were looked up.
fn levels<'t>(root: &'t Level, chosen: &[Found<'t>], end: LookupEnd<'t>) -> Vec<&'t Level> {
    let mut levels = Vec::new();
    if matches!(end, LookupEnd::NoEntries) {
        return levels;
    }
    levels.push(root);
    for found in chosen {
        levels.extend(found.branch.children.as_deref());
    }
    // The children of the last element were looked up only if one more entry followed.
    let looked_up = chosen.len() + usize::from(matches!(end, LookupEnd::NoElement));
    levels.truncate(looked_up);
    levels
}

/// The rule that applies if `found` is chosen, and `rest` are the entries after it.
fn rule_from<'t>(found: Found<'t>, rest: &[Entry]) -> Option<&'t Arc<Rule>> {
    if rest.is_empty() {
        return found.branch.rule.as_ref();
    }
    walk(found.branch.children.as_deref()?, rest, |_| {}).rule()
}

fn tried_level<'t>(level: &'t Level, entry: &Entry, matching: &[Found<'t>]) -> TriedLevel<'t> {
    let mut tried = Vec::new();
    let mut unlisted = 0;
    let chosen = matching.first();
    if chosen.is_none_or(|found| found.by != MatchKind::Value) {
        for branch in level.patterns() {
            let is_branch = |found: &Found<'_>| std::ptr::eq(found.branch, branch);
            if chosen.is_some_and(is_branch) {
                break;
            }
            // It matches too, but the pattern with the text of the entry comes first.
            if matching.iter().any(is_branch) {
                continue;
            }
            let element = &*branch.element;
            let has_key = element.key().as_bytes() == entry.key || element.key().contains('*');
            if has_key && tried.len() < MOST_UNMATCHED {
                tried.push(Tried { element, result: TriedResult::Unmatched });
            } else if has_key {
                unlisted += 1;
            }
        }
    }
    for (position, found) in matching.iter().enumerate() {
        let result = match position {
            0 => TriedResult::Chosen(found.by),
            _ => TriedResult::Later(found.by),
        };
        tried.push(Tried { element: &found.branch.element, result });
    }
    TriedLevel {
        tried,
        unlisted,
        size: level.branches().count(),
        knows_key: level.elements_of(&entry.key).next().is_some(),
    }
}

#[cfg(test)]
mod tests;
