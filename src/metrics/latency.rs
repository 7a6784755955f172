//! Buckets and units of histograms of times.

use prometheus::proto::{Bucket, Histogram, MetricFamily};

/// The upper bounds of all histograms, in seconds: those of Envoy's reference service,
/// and smaller ones for counters in memory.
pub(super) const BUCKET_SECONDS: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const RESPONSE_TIME: &str = "ratelimit_service_response_time_seconds";

/// The unit of response times on the Prometheus page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// The unit in the name of the statistic.
    Seconds,
    /// The unit that Envoy's reference service can be set to, under the same name.
    Milliseconds,
}

/// Converts response times to milliseconds. Other times stay in seconds.
pub(super) fn to_milliseconds(families: &mut [MetricFamily]) {
    for family in families {
        if family.name() == RESPONSE_TIME {
            for metric in family.mut_metric() {
                let millis = in_milliseconds(metric.get_histogram());
                metric.set_histogram(millis);
            }
        }
    }
}

fn in_milliseconds(seconds: &Histogram) -> Histogram {
    let mut buckets = Vec::new();
    for bucket in seconds.get_bucket() {
        let mut in_millis = Bucket::default();
        in_millis.set_cumulative_count(bucket.cumulative_count());
        // Bounds are whole microseconds. Rounding removes the error of the product.
        in_millis.set_upper_bound((bucket.upper_bound() * 1e6).round() / 1e3);
        buckets.push(in_millis);
    }
    let mut millis = Histogram::default();
    millis.set_bucket(buckets);
    millis.set_sample_sum(seconds.get_sample_sum() * 1e3);
    millis.set_sample_count(seconds.get_sample_count());
    millis
}
