//! The series of the active rules.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use super::{
    counts::{HitCounts, NamedSeries, Series},
    order::Order,
};
use crate::rules::{Rule, RuleTree, stat_name::StatName};

/// The series of the active rules. Rules of the same name share one.
#[derive(Debug, Default)]
pub(super) struct FixedSeries {
    pub(super) by_name: HashMap<Arc<StatName>, Arc<Series>>,
    /// By [`Rule::index`]. A rule with another name at its index is no longer active.
    by_rule: Vec<(Arc<StatName>, Arc<Series>)>,
    /// Sorted when a page is first shown.
    sorted_by_labels: OnceLock<Vec<NamedSeries>>,
    sorted_by_name: OnceLock<Vec<NamedSeries>>,
}

impl FixedSeries {
    /// The series of `rules`. Those that `old` has too keep their counts.
    pub(super) fn new(rules: &RuleTree, old: &Self) -> Self {
        let mut new = Self::default();
        for rule in rules.rules() {
            let name = rule.stat_name();
            if !new.by_name.contains_key(name) {
                let series = old.by_name.get(name).map(Arc::clone).unwrap_or_default();
                new.by_name.insert(Arc::clone(name), series);
            }
            new.by_rule.push((Arc::clone(name), Arc::clone(&new.by_name[name])));
        }
        new
    }

    /// The series of this value that `new` has not.
    pub(super) fn missing_from(&self, new: &Self) -> Vec<NamedSeries> {
        let mut missing = Vec::new();
        for (name, series) in &self.by_name {
            if !new.by_name.contains_key(name) {
                missing.push(NamedSeries::new(name, series));
            }
        }
        missing
    }

    pub(super) fn add(&self, rule: &Rule, counts: HitCounts) {
        if let Some((name, series)) = self.by_rule.get(rule.index)
            && Arc::ptr_eq(name, rule.stat_name())
        {
            return series.add(counts);
        }
        // The request was decided by rules that have been replaced since.
        if let Some(series) = self.by_name.get(rule.stat_name()) {
            series.add(counts);
        }
    }

    pub(super) fn sorted(&self, order: Order) -> &[NamedSeries] {
        let sorted = match order {
            Order::Labels => &self.sorted_by_labels,
            Order::Name => &self.sorted_by_name,
        };
        sorted.get_or_init(|| {
            let mut all = Vec::with_capacity(self.by_name.len());
            for (name, series) in &self.by_name {
                all.push(NamedSeries::new(name, series));
            }
            all.sort_unstable_by(|a, b| order.compare(a.name(), b.name()));
            all
        })
    }
}
