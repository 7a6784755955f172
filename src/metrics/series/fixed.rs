//! The series of the active rules.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use super::{
    counts::{HitCounts, NamedSeries, Series, Values},
    order::Order,
    past::PastCounts,
};
use crate::rules::{Rule, RuleTree, stat_name::StatName};

/// The series of the active rules. Rules of the same name share one.
#[derive(Debug, Default)]
pub(super) struct FixedSeries {
    pub(super) by_name: HashMap<Arc<StatName>, Arc<Series>>,
    /// By [`Rule::index`]. A rule with another name at its index is no longer active.
    by_rule: Vec<(Arc<StatName>, Arc<Series>)>,
    /// The series that the last reload removed. Decisions in progress still add to them.
    removed: HashMap<Arc<StatName>, Arc<Series>>,
    past: PastCounts,
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
        for (name, series) in &old.by_name {
            if !new.by_name.contains_key(name) {
                new.removed.insert(Arc::clone(name), Arc::clone(series));
            }
        }
        new.past = old.past.after_reload(new.removed(), new.by_name.keys());
        new
    }

    /// The series that the last reload removed.
    pub(super) fn removed(&self) -> Vec<NamedSeries> {
        let mut removed = Vec::with_capacity(self.removed.len());
        for (name, series) in &self.removed {
            removed.push(NamedSeries::new(name, series));
        }
        removed
    }

    /// The counts of removed series with the same labels as `name`.
    pub(super) fn past(&self, name: &StatName) -> Values {
        self.past.of(name)
    }

    #[cfg(test)]
    pub(super) fn past_count(&self) -> usize {
        self.past.len()
    }

    pub(super) fn add(&self, rule: &Rule, counts: HitCounts) {
        if let Some((name, series)) = self.by_rule.get(rule.index)
            && Arc::ptr_eq(name, rule.stat_name())
        {
            return series.add(counts);
        }
        // The request was decided by rules that have been replaced since.
        let name = rule.stat_name();
        if let Some(series) = self.by_name.get(name).or_else(|| self.removed.get(name)) {
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
