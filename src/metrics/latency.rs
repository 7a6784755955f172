//! How long calls took.

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily};

pub(super) const RESPONSE_TIME: &str = "ratelimit_service_response_time_seconds";

/// Seconds: the bounds of Envoy's reference service, and those below them that
/// memory needs.
pub(super) const LATENCIES: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Tells response times in milliseconds, under the name that says seconds: so does
/// Envoy's reference service where it is told to.
pub(super) fn to_milliseconds(family: &mut MetricFamily) {
    if family.name() == RESPONSE_TIME {
        family.mut_metric().iter_mut().for_each(scale);
    }
}

fn scale(metric: &mut Metric) {
    let seconds = metric.get_histogram();
    let bucket = |it: &Bucket| {
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(it.cumulative_count());
        // The bounds are whole microseconds, and are to look like it.
        bucket.set_upper_bound((it.upper_bound() * 1e6).round() / 1e3);
        bucket
    };
    let mut millis = Histogram::default();
    millis.set_bucket(seconds.get_bucket().iter().map(bucket).collect());
    millis.set_sample_sum(seconds.get_sample_sum() * 1e3);
    millis.set_sample_count(seconds.get_sample_count());
    metric.set_histogram(millis);
}
