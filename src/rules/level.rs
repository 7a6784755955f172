//! One level of the tree of rules: the compiled form of a `descriptors` list.

use std::{collections::HashMap, sync::Arc};

use super::{
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
}

/// An element of the list: the rule for descriptors that end with it, and the
/// level for the next entry.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) children: Option<Box<Level>>,
}

impl Level {
    pub(super) fn find(&self, entry: &Entry) -> Option<&Branch> {
        let (key, value) = (entry.key.as_ref(), entry.value.as_ref());
        let composite_length = key.len() + 1 + value.len();
        if composite_length <= self.longest_exact || !self.patterns.is_empty() {
            let composite = join(key, value);
            if let Some(branch) = self.exact.get(composite.as_slice()) {
                return Some(branch);
            }
            if let Some(position) = self.patterns.first(&composite) {
                return Some(&self.pattern_branches[position]);
            }
        }
        self.exact.get(key)
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
