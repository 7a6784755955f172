//! The hits of each rule since it was loaded.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    rules::{Rule, RuleTree},
    time::Timestamp,
};

/// Hits, divided by their result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitResults {
    /// Hits that passed, also those that would have been refused.
    pub passed: u64,
    /// Hits of requests that were refused because of them.
    pub refused: u64,
    /// Hits that passed only because of a shadow mode.
    pub would_refuse: u64,
    /// Hits that a policy decided because the store did not answer, passed or not.
    pub by_policy: u64,
}

impl HitResults {
    pub(super) fn values(self) -> [u64; 4] {
        let Self { passed, refused, would_refuse, by_policy } = self;
        [passed, refused, would_refuse, by_policy]
    }

    pub(super) fn of(values: [u64; 4]) -> Self {
        let [passed, refused, would_refuse, by_policy] = values;
        Self { passed, refused, would_refuse, by_policy }
    }
}

/// The rules in force and the hits of each.
#[derive(Debug)]
pub(super) struct RuleCounts {
    pub(super) rules: Arc<RuleTree>,
    pub(super) loaded_at: Timestamp,
    /// By [`Rule::index`], in the order of [`HitResults::values`].
    counts: Vec<[AtomicU64; 4]>,
}

impl RuleCounts {
    pub(super) fn new(rules: Arc<RuleTree>, loaded_at: Timestamp) -> Self {
        let counts = rules.rules().iter().map(|_| Default::default()).collect();
        Self { rules, loaded_at, counts }
    }

    /// Counts hits of `rule`, unless it is no longer in force.
    pub(super) fn add(&self, rule: &Arc<Rule>, hits: HitResults) {
        let in_force = self.rules.rules().get(rule.index);
        if !in_force.is_some_and(|it| Arc::ptr_eq(it, rule)) {
            return;
        }
        for (count, hits) in self.counts[rule.index].iter().zip(hits.values()) {
            if 0 < hits {
                count.fetch_add(hits, Relaxed);
            }
        }
    }

    /// The hits of the rule with this index.
    pub(super) fn of(&self, index: usize) -> HitResults {
        match self.counts.get(index) {
            Some(counts) => HitResults::of(counts.each_ref().map(|count| count.load(Relaxed))),
            None => HitResults::default(),
        }
    }
}
