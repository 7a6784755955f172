//! The counts of series that reloads have removed.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    counts::{NamedSeries, Values, add_values},
    order::{ByLabels, Order},
};
use crate::rules::stat_name::StatName;

/// The most sums that are kept although no active rule has their labels.
pub(super) const MAX_UNUSED: usize = 10_000;

/// The sums of removed series by their labels for Prometheus. Series with the same labels
/// are shown as one, whose value must not fall when a reload removes some of them.
#[derive(Debug, Default)]
pub(super) struct PastCounts(Vec<PastSum>);

/// In the order of labels, which are unique.
#[derive(Debug)]
struct PastSum {
    name: Arc<StatName>,
    sum: Values,
    /// Removed by the last reload: decisions in progress still add to them.
    recent: Vec<NamedSeries>,
}

impl PastSum {
    fn values(&self) -> Values {
        let mut values = self.sum;
        for series in &self.recent {
            add_values(&mut values, series.values());
        }
        values
    }
}

impl PastCounts {
    /// The counts after one more reload, which removed `removed`. `active` are the names of
    /// the rules that remain.
    pub(super) fn after_reload<'a>(
        &self,
        removed: Vec<NamedSeries>,
        active: impl Iterator<Item = &'a Arc<StatName>>,
    ) -> Self {
        let mut sums = Vec::with_capacity(self.0.len() + removed.len());
        for past in &self.0 {
            let sum = past.values();
            if sum != Values::default() {
                sums.push(PastSum { name: Arc::clone(&past.name), sum, recent: Vec::new() });
            }
        }
        for series in removed {
            let name = Arc::clone(series.shared_name());
            sums.push(PastSum { name, sum: Values::default(), recent: vec![series] });
        }
        sums.sort_by(|a, b| Order::Labels.compare(&a.name, &b.name));
        sums.dedup_by(|next, kept| {
            let is_same = Order::Labels.compare(&next.name, &kept.name).is_eq();
            if is_same {
                add_values(&mut kept.sum, next.sum);
                kept.recent.append(&mut next.recent);
            }
            is_same
        });
        if MAX_UNUSED < sums.len() {
            drop_unused(&mut sums, active);
        }
        Self(sums)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The sums of removed series with the labels of `name`.
    pub(super) fn of(&self, name: &StatName) -> Values {
        match self.0.binary_search_by(|past| Order::Labels.compare(&past.name, name)) {
            Ok(position) => self.0[position].values(),
            Err(_) => Values::default(),
        }
    }
}

/// Drops sums that no page shows until there are [`MAX_UNUSED`], so that reloads without
/// end do not fill the memory.
fn drop_unused<'a>(sums: &mut Vec<PastSum>, active: impl Iterator<Item = &'a Arc<StatName>>) {
    let active: BTreeSet<_> = active.map(|name| ByLabels(name)).collect();
    let mut unused = 0;
    sums.retain(|past| {
        if active.contains(&ByLabels(&past.name)) {
            return true;
        }
        unused += 1;
        unused <= MAX_UNUSED
    });
}
