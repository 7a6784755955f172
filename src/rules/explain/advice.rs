//! Finds the mistakes for which no rule applies to a descriptor.

use std::sync::Arc;

use super::{
    super::{
        Domain, Element, Rule,
        level::{Branch, Found, Level},
        lookup::LookupEnd,
        walk,
    },
    near::{self, MOST_LISTED, NearElement},
    similar::distance,
};
use crate::descriptor::Entry;

/// The most elements that are searched for a key: those of a large domain.
const MOST_SEARCHED: usize = 200_000;
/// The most entries of which all orders are tried: 720 orders.
const MOST_ORDERED: usize = 6;
/// The most entries of which all parts are tried: 1,024 parts.
const MOST_PARTED: usize = 10;

/// A likely reason why no rule applies, or another one than expected.
#[derive(Clone, Debug)]
pub enum Advice<'t> {
    /// An element nearly matches the entry.
    Similar(NearElement<'t>),
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
    /// The list has the key of the entry that nothing matches, with other values.
    OtherValues {
        /// The index of the entry.
        entry: usize,
        /// Some of the elements with the key, the nearest value first.
        elements: Vec<&'t Element>,
        /// The number of the others.
        unlisted: usize,
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
            LookupEnd::NoElement => advice.extend(self.nearest()),
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
                advice.extend(self.known());
            }
        }
        advice
    }

    /// The elements that nearly match the entry that nothing matches, or have its key.
    fn nearest(&self) -> Vec<Advice<'t>> {
        let index = self.chosen.len();
        let Some(entry) = self.entries.get(index) else { return Vec::new() };
        let mut similar = Vec::new();
        for near in near::similar(self.level, index, entry) {
            similar.push(Advice::Similar(near));
        }
        if similar.is_empty() {
            similar.extend(self.other_values(index, entry));
        }
        similar
    }

    /// The elements with the key of `entry`, none of which has its value.
    fn other_values(&self, index: usize, entry: &Entry) -> Option<Advice<'t>> {
        let value = String::from_utf8_lossy(&entry.value);
        let mut elements: Vec<_> = self.level.elements_of(&entry.key).collect();
        elements.sort_by_cached_key(|it| (distance(it.value(), &value), it.composite_key()));
        let unlisted = elements.len().saturating_sub(MOST_LISTED);
        elements.truncate(MOST_LISTED);
        if elements.is_empty() {
            return None;
        }
        Some(Advice::OtherValues { entry: index, elements, unlisted })
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

    /// Some elements of the list; `None` if it is empty.
    fn known(&self) -> Option<Advice<'t>> {
        let mut elements: Vec<_> = self.level.branches().map(|branch| &*branch.element).collect();
        elements.sort_unstable_by_key(|element| element.composite_key());
        let unlisted = elements.len().saturating_sub(MOST_LISTED);
        elements.truncate(MOST_LISTED);
        if elements.is_empty() {
            return None;
        }
        Some(Advice::Known { entry: self.chosen.len(), elements, unlisted })
    }
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
