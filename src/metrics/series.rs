//! The statistics of rules: one series for each name.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};
use prometheus::IntCounter;

use crate::rules::{Rule, RuleTree, stat_name::StatName};

mod counts;
mod fixed;
mod order;
mod past;
mod text;

pub use self::counts::HitCounts;
pub(super) use self::counts::{NamedSeries, STATISTICS, Values, statsd_name};
use self::{counts::Series, fixed::FixedSeries, order::Order, text::Rows};

/// The largest number of series that values of requests can create, through
/// `detailed_metric` and `value_to_metric`. Further values are counted in the series
/// `|other|` of their domain.
pub const MAX_DYNAMIC_SERIES: usize = 10_000;

/// The longest name that values of a request can create. Hits with a longer name are
/// counted as `|other|`, so that the series have bounded memory.
const MAX_NAME_BYTES: usize = 1024;

/// The number of dynamic series that are copied while no new one can be created.
const COPIED_AT_ONCE: usize = 500;

/// The series of all rules.
#[derive(Clone, Debug)]
pub(super) struct SeriesTable(Arc<Tables>);

#[derive(Debug)]
struct Tables {
    fixed: ArcSwap<FixedSeries>,
    /// The series whose names contain values of requests.
    dynamic: RwLock<IndexMap<Arc<StatName>, Arc<Series>>>,
    /// Counts descriptors that were counted under a common name.
    folded: IntCounter,
    /// Counts removed series whose last counts a watcher may not have delivered.
    lost: IntCounter,
    /// The removed series that each watcher has not read yet.
    watchers: Mutex<Vec<Weak<RemovedSeries>>>,
}

/// The most removed series whose last counts wait for one watcher, apart from those that
/// the last reload removed.
pub(super) const MAX_REMOVED_SERIES: usize = if cfg!(test) { 10_000 } else { 100_000 };

/// Series of rules that were replaced.
type RemovedSeries = Mutex<Vec<NamedSeries>>;

/// Reads all series, including those that are removed between two reads.
#[derive(Debug)]
pub(super) struct SeriesWatcher {
    tables: Arc<Tables>,
    removed: Arc<RemovedSeries>,
}

impl SeriesWatcher {
    /// All active series, and those that were removed since the last call.
    pub(super) fn series(&self) -> Vec<NamedSeries> {
        let mut all = self.tables.active();
        // Last, so that a series removed meanwhile is read here or in the next call.
        all.append(&mut self.removed.lock());
        all
    }
}

impl SeriesTable {
    /// A table without series. `folded` counts descriptors that are counted under a common
    /// name, `lost` removed series that a watcher does not read.
    pub(super) fn new(folded: IntCounter, lost: IntCounter) -> Self {
        Self(Arc::new(Tables {
            fixed: ArcSwap::default(),
            dynamic: RwLock::default(),
            folded,
            lost,
            watchers: Mutex::default(),
        }))
    }

    /// A watcher that reads every series that exists from now on.
    pub(super) fn watch(&self) -> SeriesWatcher {
        let removed = Arc::new(RemovedSeries::default());
        self.0.watchers.lock().push(Arc::downgrade(&removed));
        SeriesWatcher { tables: Arc::clone(&self.0), removed }
    }

    /// Counts hits in the series of `rule`.
    pub(super) fn add_to_rule(&self, rule: &Rule, counts: HitCounts) {
        self.0.fixed.load().add(rule, counts);
    }

    /// Counts hits in the series `name`, which contains values of the request.
    pub(super) fn add_to_name(&self, name: StatName, counts: HitCounts) {
        if let Some(series) = self.0.dynamic.read().get(&name) {
            return series.add(counts);
        }
        let mut dynamic = self.0.dynamic.write();
        let is_full = MAX_DYNAMIC_SERIES <= dynamic.len() && !dynamic.contains_key(&name);
        let name = if is_full || MAX_NAME_BYTES < name.length() {
            self.0.folded.inc();
            StatName::folded(name.domain())
        } else {
            name
        };
        dynamic.entry(Arc::new(name)).or_default().add(counts);
    }

    /// Creates a series for each of `rules`, keeps those that exist, and removes the
    /// series of other rules.
    pub(super) fn install(&self, rules: &RuleTree) {
        let old = self.0.fixed.load();
        let new = FixedSeries::new(rules, &old);
        let removed = new.removed();
        // Before the swap, so that a watcher finds each series in at least one place.
        for watcher in self.0.watchers.lock().iter() {
            if let Some(watcher) = watcher.upgrade() {
                let mut unread = watcher.lock();
                let excess = unread.len().saturating_sub(MAX_REMOVED_SERIES);
                unread.drain(..excess);
                unread.extend(removed.iter().cloned());
                self.0.lost.inc_by(excess.try_into().unwrap_or(u64::MAX));
            }
        }
        self.0.fixed.store(Arc::new(new));
    }

    /// The statistics in Prometheus' text format, in chunks. Each has the labels in
    /// `common` too.
    pub(super) fn prometheus(&self, common: String) -> impl Iterator<Item = String> + Send + use<> {
        self.rows(Order::Labels).prometheus(common)
    }

    /// The statistics under their statsd names, one per line, in chunks.
    pub(super) fn stat_lines(&self) -> impl Iterator<Item = String> + Send + use<> {
        self.rows(Order::Name).stat_lines()
    }

    fn rows(&self, order: Order) -> Rows {
        let fixed = self.0.fixed.load_full();
        let mut dynamic = self.0.dynamic();
        dynamic.sort_unstable_by(|a, b| order.compare(a.name(), b.name()));
        Rows::new(fixed, dynamic, order)
    }
}

impl Tables {
    fn active(&self) -> Vec<NamedSeries> {
        let mut all = Vec::new();
        for (name, series) in &self.fixed.load().by_name {
            all.push(NamedSeries::new(name, series));
        }
        all.extend(self.dynamic());
        all
    }

    /// A copy of the dynamic series, made in steps: requests that create a series wait
    /// for one step at most.
    fn dynamic(&self) -> Vec<NamedSeries> {
        let mut all = Vec::new();
        loop {
            let dynamic = self.dynamic.read();
            let end = dynamic.len().min(all.len() + COPIED_AT_ONCE);
            let Some(next) = dynamic.get_range(all.len()..end) else { return all };
            if next.is_empty() {
                return all;
            }
            for (name, series) in next {
                all.push(NamedSeries::new(name, series));
            }
        }
    }
}

#[cfg(test)]
mod tests;
