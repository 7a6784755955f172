//! The current values of statistics under their statsd names.

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};

use super::{
    definition::Definition,
    process_statistics::{CertificateStatistics, ProcessStatistics, XdsStatistics},
    store_statistics,
};

/// The current value of one statistic.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The statsd name, with dots between its components.
    pub name: String,
    /// The value, in the form of its kind.
    pub value: SampleValue,
}

/// The value of a statistic.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// Events since the process started.
    Count(u64),
    /// The present level of a gauge.
    Level(f64),
    /// The buckets of a histogram. Their number never changes.
    Times(Vec<Bucket>),
}

/// One bucket of a histogram of times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The middle of the bucket, in milliseconds. The last bucket has no upper bound:
    /// its lower bound stands for it.
    pub millis: f64,
    /// Calls in this bucket since the process started.
    pub calls: u64,
}

/// The samples of `families`, in their order.
pub(super) fn samples(families: &[MetricFamily]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for family in families {
        let Some(definition) = find(family.name()) else { continue };
        for metric in family.get_metric() {
            let value = match family.get_field_type() {
                MetricType::COUNTER => SampleValue::Count(count(metric.get_counter().get_value())),
                MetricType::HISTOGRAM => SampleValue::Times(buckets(metric.get_histogram())),
                _ => SampleValue::Level(metric.get_gauge().get_value()),
            };
            let name = statsd_name(definition, metric.get_label());
            push(&mut samples, Sample { name, value });
        }
    }
    samples
}

/// Adds `sample`. Counts of labels that differ only in replaced characters are one.
fn push(samples: &mut Vec<Sample>, sample: Sample) {
    if let SampleValue::Count(count) = sample.value
        && let Some(known) = samples.iter_mut().rev().find(|known| known.name == sample.name)
        && let SampleValue::Count(sum) = &mut known.value
    {
        *sum = sum.saturating_add(count);
        return;
    }
    samples.push(sample);
}

/// The row of the tables with this Prometheus name.
fn find(prometheus: &str) -> Option<&'static Definition> {
    let tables = [
        ProcessStatistics::DEFINITIONS,
        CertificateStatistics::DEFINITIONS,
        XdsStatistics::DEFINITIONS,
    ];
    for definitions in tables {
        for definition in definitions {
            if definition.prometheus == prometheus {
                return Some(definition);
            }
        }
    }
    for statistic in store_statistics::TABLES.into_iter().flatten() {
        if statistic.definition.prometheus == prometheus {
            return Some(&statistic.definition);
        }
    }
    None
}

fn statsd_name(definition: &Definition, labels: &[LabelPair]) -> String {
    let mut parts = definition.statsd.split("{}");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for (label, part) in labels.iter().zip(parts) {
        name += &clean(label.value());
        name += part;
    }
    name
}

/// Replaces the characters that separate names, values and types in statsd.
fn clean(label: &str) -> String {
    label.replace(|c: char| c.is_control() || ".:|".contains(c), "_")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Prometheus holds a whole number as f64"
)]
fn count(value: f64) -> u64 {
    value as u64
}

fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    let mut lower_bound = 0.0;
    let mut below = 0;
    for bucket in histogram.get_bucket() {
        let upper_bound = bucket.upper_bound();
        let middle = if upper_bound.is_finite() {
            f64::midpoint(lower_bound, upper_bound)
        } else {
            lower_bound
        };
        let calls = bucket.cumulative_count().saturating_sub(below);
        buckets.push(Bucket { millis: middle * 1000.0, calls });
        lower_bound = upper_bound;
        below = bucket.cumulative_count();
    }
    if lower_bound.is_finite() {
        let calls = histogram.get_sample_count().saturating_sub(below);
        buckets.push(Bucket { millis: lower_bound * 1000.0, calls });
    }
    buckets
}

#[cfg(test)]
mod tests;
