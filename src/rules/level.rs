//! One level of the tree of rules: the compiled form of a `descriptors` list.

use std::{collections::HashMap, sync::Arc};

use super::{
    element::Element,
    lookup::MatchKind,
    pattern::{Pattern, TextBuffer},
    patterns::Patterns,
    rule::Rule,
};
use crate::descriptor::Entry;

#[derive(Debug, Default)]
pub(super) struct Level {
    /// The elements without a `*`, by their composite keys.
    exact: HashMap<Box<[u8]>, Branch, foldhash::fast::RandomState>,
    /// The length of the longest key in `exact`, in bytes.
    longest_exact: usize,
    patterns: Patterns,
    /// The branch of each pattern, at the position of the pattern.
    pattern_branches: Vec<Branch>,
    /// The position of each pattern, by its text.
    pattern_positions: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
}

/// An element of the list: the rule for descriptors that end with it, and the
/// level for the next entry.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) element: Box<Element>,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) children: Option<Box<Level>>,
}

/// The element of a level that matches an entry.
#[derive(Clone, Copy)]
pub(super) struct Found<'l> {
    pub(super) branch: &'l Branch,
    pub(super) by: MatchKind,
}

impl Level {
    pub(super) fn find(&self, entry: &Entry) -> Option<Found<'_>> {
        let (key, value) = (entry.key.as_ref(), entry.value.as_ref());
        let composite_length = key.len() + 1 + value.len();
        if composite_length <= self.longest_exact || !self.patterns.is_empty() {
            let composite = join(key, value);
            if let Some(branch) = self.exact.get(composite.as_slice()) {
                return Some(Found { branch, by: MatchKind::Value });
            }
            if let Some(position) = self.pattern(&composite) {
                let branch = &self.pattern_branches[position];
                return Some(Found { branch, by: MatchKind::Pattern });
            }
        }
        let branch = self.any_value(key)?;
        Some(Found { branch, by: MatchKind::AnyValue })
    }

    /// Every element that matches `entry`, the one that [`Self::find`] returns first. Tests
    /// each pattern, so it is slow for a level with many.
    pub(super) fn find_all(&self, entry: &Entry) -> Vec<Found<'_>> {
        let composite = join(&entry.key, &entry.value);
        let mut all = Vec::new();
        if let Some(branch) = self.exact.get(composite.as_slice()) {
            all.push(Found { branch, by: MatchKind::Value });
        }
        let literal = self.pattern_positions.get(composite.as_slice());
        if let Some(&position) = literal {
            let branch = &self.pattern_branches[position];
            all.push(Found { branch, by: MatchKind::Pattern });
        }
        for (position, branch) in self.pattern_branches.iter().enumerate() {
            if literal == Some(&position) {
                continue;
            }
            if Pattern::new(branch.element.composite_key().as_bytes()).matches(&composite) {
                all.push(Found { branch, by: MatchKind::Pattern });
            }
        }
        if let Some(branch) = self.any_value(&entry.key)
            && !all.iter().any(|found| std::ptr::eq(found.branch, branch))
        {
            all.push(Found { branch, by: MatchKind::AnyValue });
        }
        all
    }

    /// The elements with a `*`, in the order of the source.
    pub(super) fn patterns(&self) -> &[Branch] {
        &self.pattern_branches
    }

    /// Every element: patterns in the order of the source, then the others in no order.
    pub(super) fn branches(&self) -> impl Iterator<Item = &Branch> {
        self.pattern_branches.iter().chain(self.exact.values())
    }

    /// The elements with this very key.
    pub(super) fn elements_of(&self, key: &[u8]) -> impl Iterator<Item = &Element> {
        let elements = self.branches().map(|branch| &*branch.element);
        elements.filter(move |element| element.key().as_bytes() == key)
    }

    /// The element for any value of `key`: the one with this very text, be it a pattern or
    /// not.
    fn any_value(&self, key: &[u8]) -> Option<&Branch> {
        let exact = self.exact.get(key);
        if exact.is_some() || !key.contains(&b'*') {
            return exact;
        }
        self.pattern_branches.get(*self.pattern_positions.get(key)?)
    }

    /// The position of the pattern for an entry: the one with this very text, or the first
    /// that matches it.
    fn pattern(&self, composite: &[u8]) -> Option<usize> {
        if composite.contains(&b'*')
            && let Some(position) = self.pattern_positions.get(composite)
        {
            return Some(*position);
        }
        self.patterns.first(composite)
    }
}

/// Joins key and value with an underscore, to be compared with the composite
/// keys of rules. As in the reference service, `a` with `b_c` and `a_b` with `c`
/// give the same text. Their counters differ all the same.
fn join(key: &[u8], value: &[u8]) -> TextBuffer {
    let mut joined = TextBuffer::with_capacity(key.len() + 1 + value.len());
    joined.extend_from_slice(key);
    joined.push(b'_');
    joined.extend_from_slice(value);
    joined
}

/// Collects the elements of a level.
#[derive(Default)]
pub(super) struct LevelBuilder {
    level: Level,
    patterns: Vec<Pattern>,
}

impl LevelBuilder {
    pub(super) fn add(&mut self, composite_key: &str, branch: Branch) {
        let level = &mut self.level;
        if composite_key.contains('*') {
            level.pattern_positions.insert(composite_key.as_bytes().into(), self.patterns.len());
            self.patterns.push(Pattern::new(composite_key.as_bytes()));
            level.pattern_branches.push(branch);
        } else {
            level.longest_exact = level.longest_exact.max(composite_key.len());
            level.exact.insert(composite_key.as_bytes().into(), branch);
        }
    }

    pub(super) fn build(mut self) -> Level {
        self.level.patterns = Patterns::new(self.patterns);
        self.level
    }
}
