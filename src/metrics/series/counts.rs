//! The counts of one series.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::rules::stat_name::StatName;

/// One statistic that every series has.
#[derive(Debug)]
pub(in crate::metrics) struct SeriesStatistic {
    /// The last component of the Prometheus name and of the statsd name.
    pub(in crate::metrics) name: &'static str,
    pub(super) help: &'static str,
}

/// The statistics of a series, sorted by name.
pub(in crate::metrics) const STATISTICS: [SeriesStatistic; 7] = [
    SeriesStatistic { name: "near_limit", help: "Hits near their limit, passed or not." },
    SeriesStatistic { name: "over_limit", help: "Hits over their limit." },
    SeriesStatistic {
        name: "over_limit_with_local_cache",
        help: "Hits over their limit that the deny cache decided without a call to Redis.",
    },
    SeriesStatistic {
        name: "shadow_mode",
        help: "Hits over their limit that passed because their rule has shadow_mode.",
    },
    SeriesStatistic { name: "total_hits", help: "Hits that a rule applied to." },
    SeriesStatistic { name: "total_negative_hits", help: "Hits refunded." },
    SeriesStatistic { name: "within_limit", help: "Hits within their limit." },
];

/// One value for each of [`STATISTICS`], in the same order.
pub(in crate::metrics) type Values = [u64; STATISTICS.len()];

/// Adds `more` to `sums`, which stop at their largest value.
pub(super) fn add_values(sums: &mut Values, more: Values) {
    for (sum, value) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(value);
    }
}

/// The hits that one decision adds to a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitCounts {
    /// All hits, without those that were refunded.
    pub total: u64,
    /// Hits that were within the limit.
    pub within: u64,
    /// Hits near the limit, passed or not.
    pub near: u64,
    /// Hits over the limit, passed or not.
    pub over: u64,
    /// Hits over the limit that were decided without a call to the store.
    pub over_cached: u64,
    /// Hits over the limit that passed because of `shadow_mode`.
    pub over_shadowed: u64,
    /// Hits that were refunded.
    pub refunded: u64,
}

impl HitCounts {
    /// The counts in the order of [`STATISTICS`].
    fn values(self) -> Values {
        let Self { total, within, near, over, over_cached, over_shadowed, refunded } = self;
        [near, over, over_cached, over_shadowed, total, refunded, within]
    }
}

/// The counters of one series, in the order of [`STATISTICS`].
#[derive(Debug, Default)]
pub(super) struct Series([AtomicU64; STATISTICS.len()]);

impl Series {
    pub(super) fn values(&self) -> Values {
        self.0.each_ref().map(|counter| counter.load(Relaxed))
    }

    /// Adds `counts`. A counter stops at its largest value instead of wrapping to 0.
    pub(super) fn add(&self, counts: HitCounts) {
        for (counter, hits) in self.0.iter().zip(counts.values()) {
            if hits == 0 {
                continue;
            }
            let before = counter.fetch_add(hits, Relaxed);
            if before.checked_add(hits).is_none() {
                counter.store(u64::MAX, Relaxed);
            }
        }
    }
}

/// A series and its name.
#[derive(Clone, Debug)]
pub(in crate::metrics) struct NamedSeries {
    name: Arc<StatName>,
    series: Arc<Series>,
}

impl NamedSeries {
    pub(super) fn new(name: &Arc<StatName>, series: &Arc<Series>) -> Self {
        Self { name: Arc::clone(name), series: Arc::clone(series) }
    }

    pub(super) fn shared_name(&self) -> &Arc<StatName> {
        &self.name
    }

    pub(in crate::metrics) fn name(&self) -> &StatName {
        &self.name
    }

    pub(in crate::metrics) fn values(&self) -> Values {
        self.series.values()
    }

    /// The address of the counters. No other series has it while this value exists.
    pub(in crate::metrics) fn address(&self) -> usize {
        Arc::as_ptr(&self.series).addr()
    }
}

/// The statsd name of a statistic of the series `name`, in one line: control characters
/// become underscores.
pub(in crate::metrics) fn statsd_name(name: &StatName, statistic: &str) -> String {
    let name = format!("ratelimit.service.rate_limit.{name}.{statistic}");
    if name.contains(char::is_control) { name.replace(char::is_control, "_") } else { name }
}
