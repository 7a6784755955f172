//! Counters with one series for each domain that has rules.

use std::{collections::HashMap, iter, sync::Arc};

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec};

use crate::rules::{
    RuleTree,
    stat_name::{self, StatName},
};

/// The most domains with a series of their own since the start of the process. Further
/// domains share one.
pub(super) const MAX_DOMAINS: usize = 1_000;

/// One counter for each domain that has had rules. It stays when its domain goes, because
/// a counter must not fall.
#[derive(Debug)]
pub(super) struct DomainCounters {
    counters: IntCounterVec,
    by_domain: RwLock<HashMap<Arc<str>, IntCounter, foldhash::fast::RandomState>>,
}

impl DomainCounters {
    /// No counters; `counters` has one label.
    pub(super) fn new(counters: IntCounterVec) -> Self {
        Self { counters, by_domain: RwLock::default() }
    }

    /// Creates the counters of all domains of `rules`.
    pub(super) fn install(&self, rules: &RuleTree) {
        let mut by_domain = self.by_domain.write();
        for name in rules.domain_names() {
            if MAX_DOMAINS <= by_domain.len() {
                break;
            }
            // The label that the series of rules have.
            let label = StatName::new(name, iter::empty());
            let counter = self.counters.with_label_values(&[label.domain()]);
            by_domain.insert(Arc::clone(name), counter);
        }
    }

    /// Counts one for `domain`, which must have rules.
    pub(super) fn count(&self, domain: &[u8]) {
        let domain = std::str::from_utf8(domain).unwrap_or_default();
        match self.by_domain.read().get(domain) {
            Some(counter) => counter.inc(),
            None => self.counters.with_label_values(&[stat_name::FOLDED]).inc(),
        }
    }
}
