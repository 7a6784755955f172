//! The growth of statistics since it was last delivered to a statsd server.
//!
//! Counts only grow, and a server receives differences. A difference that could not be
//! delivered is part of the next one, so that no queue is needed.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    Metrics,
    samples::{Sample, SampleValue},
    series::{MAX_REMOVED_SERIES, NamedSeries, STATISTICS, SeriesWatcher, Values, statsd_name},
};

/// Remembers the counts that one server has received.
#[derive(Debug)]
pub struct DeltaTracker {
    metrics: Arc<Metrics>,
    watcher: SeriesWatcher,
    /// By address of the series, which does not move while a cursor holds it.
    series: HashMap<usize, SeriesCursor>,
    /// Delivered counts by name: one for a counter, one for each bucket of a histogram.
    process: HashMap<String, Vec<u64>>,
    round: u64,
}

/// The delivered counts of one series of rules.
#[derive(Debug)]
struct SeriesCursor {
    series: NamedSeries,
    delivered: Values,
    /// The last round in which the rules had this series, or in which it was removed.
    last_seen_round: u64,
}

/// A change that the server has not received.
#[derive(Debug)]
pub struct Delta<'t> {
    /// The statsd name of the statistic.
    pub name: String,
    /// The change since the last delivery.
    pub change: Change,
    /// To be committed once the change is delivered.
    pub ack: Ack<'t>,
}

/// The change of a statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The growth of a counter, above 0.
    Growth(u64),
    /// The present level of a gauge.
    Level(f64),
    /// The growth of one bucket of a histogram.
    Times {
        /// The middle of the bucket, in milliseconds.
        millis: f64,
        /// The number of new calls, above 0.
        calls: u64,
    },
}

/// Records a delivery when it is [committed](Self::commit). If it is dropped, the change
/// is part of the next delta.
#[derive(Debug)]
pub struct Ack<'t>(Option<AckedCount<'t>>);

#[derive(Debug)]
struct AckedCount<'t> {
    delivered: &'t mut u64,
    now: u64,
}

impl<'t> Ack<'t> {
    fn new(delivered: &'t mut u64, now: u64) -> Self {
        Self(Some(AckedCount { delivered, now }))
    }

    /// Records that the change was delivered.
    pub fn commit(self) {
        if let Some(AckedCount { delivered, now }) = self.0 {
            *delivered = now;
        }
    }
}

impl SeriesCursor {
    fn is_delivered(&self) -> bool {
        self.series.values() == self.delivered
    }

    fn deltas(&mut self) -> Vec<Delta<'_>> {
        let mut deltas = Vec::new();
        let values = self.series.values();
        for ((statistic, now), delivered) in STATISTICS.iter().zip(values).zip(&mut self.delivered)
        {
            if *delivered < now {
                let name = statsd_name(self.series.name(), statistic.name);
                let change = Change::Growth(now - *delivered);
                deltas.push(Delta { name, change, ack: Ack::new(delivered, now) });
            }
        }
        deltas
    }
}

impl DeltaTracker {
    /// A tracker of a server that has received nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let watcher = metrics.series.watch();
        Self { metrics, watcher, series: HashMap::new(), process: HashMap::new(), round: 0 }
    }

    /// All changes that the server has not received: at most one for each counter and for
    /// each bucket of a histogram, and always one for each gauge.
    pub fn deltas(&mut self) -> impl Iterator<Item = Delta<'_>> {
        self.update_series();
        let mut samples = HashMap::new();
        for Sample { name, value } in self.metrics.samples() {
            let counts = match &value {
                SampleValue::Count(_) => 1,
                SampleValue::Level(_) => 0,
                SampleValue::Times(buckets) => buckets.len(),
            };
            self.process.entry(name.clone()).or_default().resize(counts, 0);
            samples.insert(name, value);
        }
        let mut process = Vec::new();
        for (name, delivered) in &mut self.process {
            if let Some(value) = samples.get(name) {
                push_sample_deltas(&mut process, name, value, delivered);
            }
        }
        self.series.values_mut().flat_map(SeriesCursor::deltas).chain(process)
    }

    /// Adds new series, and drops those without rules that have no change left to deliver.
    fn update_series(&mut self) {
        self.round += 1;
        for series in self.watcher.series() {
            let cursor = match self.series.entry(series.address()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(SeriesCursor {
                    series,
                    delivered: Values::default(),
                    last_seen_round: 0,
                }),
            };
            cursor.last_seen_round = self.round;
        }
        // Rules may be replaced any number of times while the server is unreachable.
        let mut waiting = 0;
        let mut lost = 0;
        self.series.retain(|_, cursor| {
            if cursor.last_seen_round == self.round {
                return true;
            }
            if cursor.is_delivered() {
                return false;
            }
            waiting += 1;
            let has_room = waiting <= MAX_REMOVED_SERIES;
            lost += u64::from(!has_room);
            has_room
        });
        self.metrics.process.series_lost.inc_by(lost);
    }
}

fn push_sample_deltas<'t>(
    deltas: &mut Vec<Delta<'t>>,
    name: &str,
    value: &SampleValue,
    delivered: &'t mut [u64],
) {
    let mut push = |change, ack| deltas.push(Delta { name: name.to_owned(), change, ack });
    match value {
        SampleValue::Level(level) => push(Change::Level(*level), Ack(None)),
        SampleValue::Count(now) => {
            for delivered in delivered {
                if *delivered < *now {
                    let growth = Change::Growth(now - *delivered);
                    push(growth, Ack::new(delivered, *now));
                }
            }
        }
        SampleValue::Times(buckets) => {
            for (bucket, delivered) in buckets.iter().zip(delivered) {
                if *delivered < bucket.calls {
                    let calls = bucket.calls - *delivered;
                    let times = Change::Times { millis: bucket.millis, calls };
                    push(times, Ack::new(delivered, bucket.calls));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
