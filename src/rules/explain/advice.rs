//! Finds the mistakes for which no rule applies to a descriptor.

use std::sync::Arc;

use super::{
    super::{
        Domain, Element, Rule,
        level::{Branch, Found, Level},
        lookup::LookupEnd,
        pattern::Pattern,
        walk,
    },
    similar::Difference,
};
use crate::descriptor::Entry;

/// The most elements or rules listed of each kind.
const MOST_LISTED: usize = 3;
/// The most elements that are searched for a key: those of a large domain.
const MOST_SEARCHED: usize = 200_000;
/// The most entries of which all orders are tried: 720 orders.
const MOST_ORDERED: usize = 6;
/// The most entries of which all parts are tried: 1,024 parts.
const MOST_PARTED: usize = 10;

/// A likely reason why no rule applies.
#[derive(Clone, Debug)]
pub enum Advice<'t> {
    /// An element nearly matches the entry that nothing matches.
    Similar {
        /// The index of the entry.
        entry: usize,
        /// The element.
        element: &'t Element,
        /// The part of the entry that differs.
        part: EntryPart,
        /// The difference.
        difference: Difference,
    },
    /// The element of the last entry has no limit. Rules below it need more entries.
    Deeper(Vec<RulePath<'t>>),
    /// A rule applies if the entries come in another order.
    Order {
        /// The indexes of the entries, in the other order.
        order: Vec<usize>,
        /// The rule.
        rule: &'t Arc<Rule>,
    },
    /// A rule applies to a part of the entries.
    Part {
        /// The indexes of the entries that remain.
        entries: Vec<usize>,
        /// The rule.
        rule: &'t Arc<Rule>,
    },
    /// The key of the entry that nothing matches is known elsewhere, in these rules.
    Elsewhere {
        /// The index of the entry.
        entry: usize,
        /// The rules.
        paths: Vec<RulePath<'t>>,
    },
    /// Nothing is like the entry. These elements are in the list.
    Known {
        /// The index of the entry.
        entry: usize,
        /// Some of the elements, by their keys.
        elements: Vec<&'t Element>,
        /// The number of the others.
        unlisted: usize,
    },
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryPart {
    /// The value.
    Value,
    /// The key.
    Key,
}

/// A rule, and the elements that lead to it.
#[derive(Clone, Debug)]
pub struct RulePath<'t> {
    /// From the root of the domain.
    pub elements: Vec<&'t Element>,
    /// The rule.
    pub rule: &'t Arc<Rule>,
}

/// A lookup that found no rule.
pub(super) struct Advisor<'a, 't> {
    pub(super) domain: &'t Domain,
    pub(super) entries: &'a [Entry],
    /// The last list in which an entry was looked up.
    pub(super) level: &'t Level,
    pub(super) end: LookupEnd<'t>,
    /// The elements that matched.
    pub(super) chosen: &'a [Found<'t>],
}

impl<'t> Advisor<'_, 't> {
    pub(super) fn advice(&self) -> Vec<Advice<'t>> {
        let mut advice = Vec::new();
        match self.end {
            LookupEnd::Rule(_) | LookupEnd::NoEntries => return advice,
            LookupEnd::NoElement => advice.extend(self.similar()),
            LookupEnd::NoLimit => advice.extend(self.deeper()),
            LookupEnd::NothingBelow => {}
        }
        match self.other_order() {
            Some(order) => advice.push(order),
            None => advice.extend(self.part()),
        }
        if matches!(self.end, LookupEnd::NoElement) && advice.is_empty() {
            advice.extend(self.elsewhere());
            if advice.is_empty() {
                advice.push(self.known());
            }
        }
        advice
    }

    /// The elements that nearly match the entry that nothing matches.
    fn similar(&self) -> Vec<Advice<'t>> {
        let index = self.chosen.len();
        let Some(entry) = self.entries.get(index) else { return Vec::new() };
        let key = String::from_utf8_lossy(&entry.key);
        let value = String::from_utf8_lossy(&entry.value);
        let mut found = Vec::new();
        for branch in self.level.branches() {
            let element = &*branch.element;
            if let Some((part, difference)) = near(element, &key, &value) {
                let has_other_value = !element.value().is_empty() && element.value() != value;
                let rank = (difference, part, has_other_value, element.composite_key());
                found.push((rank, Advice::Similar { entry: index, element, part, difference }));
            }
        }
        found.sort_unstable_by_key(|(rank, _)| *rank);
        found.truncate(MOST_LISTED);
        found.into_iter().map(|(_, advice)| advice).collect()
    }

    /// The rules below the last element.
    fn deeper(&self) -> Option<Advice<'t>> {
        let last = self.chosen.last()?;
        let mut search = RuleSearch::default();
        for found in self.chosen {
            search.path.push(&found.branch.element);
        }
        search.visit(last.branch.children.as_deref()?, &|_| true, true);
        let paths = search.first();
        if paths.is_empty() { None } else { Some(Advice::Deeper(paths)) }
    }

    fn other_order(&self) -> Option<Advice<'t>> {
        if MOST_ORDERED < self.entries.len() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        while next_permutation(&mut order) {
            if let Some(rule) = self.rule_for(&order) {
                return Some(Advice::Order { order, rule });
            }
        }
        None
    }

    /// The largest part of the entries to which a rule applies.
    fn part(&self) -> Option<Advice<'t>> {
        let count = self.entries.len();
        if MOST_PARTED < count {
            return None;
        }
        let mut parts: Vec<u32> = (1..(1 << count) - 1).collect();
        parts.sort_by_key(|part| part.count_zeros());
        for part in parts {
            let entries: Vec<usize> = (0..count).filter(|index| part >> index & 1 == 1).collect();
            if let Some(rule) = self.rule_for(&entries) {
                return Some(Advice::Part { entries, rule });
            }
        }
        None
    }

    /// The rule for the entries with these indexes.
    fn rule_for(&self, indexes: &[usize]) -> Option<&'t Arc<Rule>> {
        let mut entries = Vec::with_capacity(indexes.len());
        for index in indexes {
            entries.push(self.entries.get(*index)?.clone());
        }
        walk(&self.domain.root, &entries, |_| {}).rule()
    }

    /// The rules in other places with the key of the entry that nothing matches.
    fn elsewhere(&self) -> Option<Advice<'t>> {
        let index = self.chosen.len();
        let key = &*self.entries.get(index)?.key;
        let mut search = RuleSearch::default();
        search.visit(&self.domain.root, &|element| element.key().as_bytes() == key, false);
        let paths = search.first();
        if paths.is_empty() { None } else { Some(Advice::Elsewhere { entry: index, paths }) }
    }

    fn known(&self) -> Advice<'t> {
        let mut elements: Vec<_> = self.level.branches().map(|branch| &*branch.element).collect();
        elements.sort_unstable_by_key(|element| element.composite_key());
        let unlisted = elements.len().saturating_sub(MOST_LISTED);
        elements.truncate(MOST_LISTED);
        Advice::Known { entry: self.chosen.len(), elements, unlisted }
    }
}

/// The difference between an entry and `element`, which does not match it.
fn near(element: &Element, key: &str, value: &str) -> Option<(EntryPart, Difference)> {
    if element.is_pattern() {
        let text = format!("{key}_{value}");
        let matches = |level: &Difference| {
            let pattern = level.plain(element.composite_key());
            Pattern::new(pattern.as_bytes()).matches(level.plain(&text).as_bytes())
        };
        let difference = Difference::LEVELS.into_iter().find(matches)?;
        let part = if element.key() == key { EntryPart::Value } else { EntryPart::Key };
        return Some((part, difference));
    }
    if element.key() == key {
        return Some((EntryPart::Value, Difference::between(element.value(), value)?));
    }
    let difference = Difference::between(element.key(), key)?;
    let has_value = element.value().is_empty()
        || element.value() == value
        || Difference::between(element.value(), value).is_some();
    if has_value { Some((EntryPart::Key, difference)) } else { None }
}

/// Collects rules, with the elements that lead to them.
#[derive(Default)]
struct RuleSearch<'t> {
    path: Vec<&'t Element>,
    found: Vec<RulePath<'t>>,
    /// The number of elements visited.
    visited: usize,
}

impl<'t> RuleSearch<'t> {
    /// Collects the rules of and below elements that `is_wanted` accepts. `inside` is true
    /// below such an element.
    fn visit(&mut self, level: &'t Level, is_wanted: &dyn Fn(&Element) -> bool, inside: bool) {
        for branch in level.branches() {
            self.visited += 1;
            if MOST_SEARCHED < self.visited {
                return;
            }
            self.visit_branch(branch, is_wanted, inside || is_wanted(&branch.element));
        }
    }

    fn visit_branch(
        &mut self,
        branch: &'t Branch,
        is_wanted: &dyn Fn(&Element) -> bool,
        inside: bool,
    ) {
        self.path.push(&branch.element);
        if let Some(rule) = &branch.rule
            && inside
        {
            self.found.push(RulePath { elements: self.path.clone(), rule });
        }
        if let Some(children) = &branch.children {
            self.visit(children, is_wanted, inside);
        }
        self.path.pop();
    }

    /// The first of the rules in the order of the sources.
    fn first(mut self) -> Vec<RulePath<'t>> {
        self.found.sort_unstable_by_key(|path| path.rule.index);
        self.found.truncate(MOST_LISTED);
        self.found
    }
}

/// Changes `order` to the next one in alphabetical order. False at the last one.
pub(super) fn next_permutation(order: &mut [usize]) -> bool {
    let Some(pivot) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else {
        return false;
    };
    let Some(after) = order.iter().rposition(|element| order[pivot] < *element) else {
        return false;
    };
    order.swap(pivot, after);
    order[pivot + 1..].reverse();
    true
}
