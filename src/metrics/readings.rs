//! The statistics that are not of rules, under dotted names: those that Envoy's
//! reference service gives to statsd, where it has them.

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};

use super::latency::RESPONSE_TIME;

/// One statistic, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Without the separators of statsd.
    pub name: String,
    /// What it is.
    pub value: Value,
}

/// What a statistic is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// So many since the start.
    Count(u64),
    /// So many now.
    Level(f64),
    /// How many calls, since the start, took about so many milliseconds. There
    /// are always as many pairs.
    Times(Vec<(f64, u64)>),
}

pub(super) fn of(families: &[MetricFamily]) -> Vec<Reading> {
    let mut readings = Vec::new();
    for family in families {
        for metric in family.get_metric() {
            let value = match family.get_field_type() {
                MetricType::COUNTER => Value::Count(whole(metric.get_counter().get_value())),
                MetricType::HISTOGRAM => Value::Times(times(metric.get_histogram())),
                _ => Value::Level(metric.get_gauge().get_value()),
            };
            readings.push(Reading { name: name(family.name(), metric.get_label()), value });
        }
    }
    readings
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was a whole number before Prometheus had it"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

/// The middle of each bucket, and what is in it; of the last, which has no
/// middle, its beginning.
fn times(histogram: &Histogram) -> Vec<(f64, u64)> {
    let (mut begin, mut below) = (0.0, 0);
    let mut times = Vec::new();
    for bucket in histogram.get_bucket() {
        let (end, count) = (bucket.upper_bound(), bucket.cumulative_count());
        let middle = if end.is_finite() { f64::midpoint(begin, end) } else { begin };
        times.push((middle * 1000.0, count.saturating_sub(below)));
        (begin, below) = (end, count);
    }
    if begin.is_finite() {
        times.push((begin * 1000.0, histogram.get_sample_count().saturating_sub(below)));
    }
    times
}

/// Scopes, and what they are called in statsd.
const SCOPES: [(&str, &str); 6] = [
    ("ratelimit_service_", "ratelimit.service."),
    ("ratelimit_localcache_", "ratelimit.localcache."),
    ("ratelimit_redis_pool_", "ratelimit.redis_pool."),
    ("ratelimit_redis_per_second_pool_", "ratelimit.redis_per_second_pool."),
    ("runtime_", "runtime."),
    ("tollgate_", "tollgate."),
];

/// What the statistic of this name and these labels is called in statsd.
fn name(family: &str, labels: &[LabelPair]) -> String {
    let separator = |it: char| it.is_control() || ".:|".contains(it);
    let values: Vec<_> = labels.iter().map(|it| it.value().replace(separator, "_")).collect();
    let values = values.join(".");
    match family {
        RESPONSE_TIME => return format!("ratelimit_server.{values}.response_time"),
        "ratelimit_service_total_requests" => {
            return format!("ratelimit_server.{values}.total_requests");
        }
        "ratelimit_service_should_rate_limit_error" => {
            return format!("ratelimit.service.call.should_rate_limit.{values}");
        }
        "ratelimit_service_rate_limit_domain_not_found" => {
            return "ratelimit.service.rate_limit.domain_not_found".into();
        }
        _ => {}
    }
    let mut name = family.to_owned();
    for (scope, dotted) in SCOPES {
        if let Some(rest) = family.strip_prefix(scope) {
            // What statsd times is in milliseconds.
            let rest = rest.strip_suffix("_seconds").map(|it| format!("{it}_time"));
            let rest = rest.as_deref().unwrap_or(&family[scope.len()..]);
            name = format!("{dotted}{rest}");
        }
    }
    if values.is_empty() { name } else { format!("{name}.{values}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        metrics::{ErrorType, Metrics},
        store::DenyCacheUsage,
    };

    fn value(metrics: &Metrics, name: &str) -> Option<Value> {
        let mut named = metrics.readings().into_iter().filter(|it| it.name == name);
        let value = named.next()?.value;
        assert_eq!(named.next(), None, "{name} is there twice");
        Some(value)
    }

    #[test]
    fn statistics_have_the_names_of_the_reference_service() {
        let metrics = Metrics::new(0.8);
        metrics.count_error(ErrorType::Store);
        metrics.count_refused_rules();
        let count = |name: &str| value(&metrics, name);
        let errors = "ratelimit.service.call.should_rate_limit";
        assert_eq!(count(&format!("{errors}.redis_error")), Some(Value::Count(1)));
        assert_eq!(count(&format!("{errors}.service_error")), Some(Value::Count(0)));
        assert_eq!(count("ratelimit.service.config_load_error"), Some(Value::Count(1)));
        assert_eq!(count("ratelimit.service.global_shadow_mode"), Some(Value::Count(0)));
        assert_eq!(count("tollgate.rules_rejected"), Some(Value::Level(1.0)));
        assert_eq!(count("ratelimit.localcache.hitCount"), None, "there is no such cache");
        let usage = DenyCacheUsage { hits: 2, misses: 3, ..DenyCacheUsage::default() };
        metrics.measured(None, Some(usage));
        assert_eq!(count("ratelimit.localcache.lookupCount"), Some(Value::Level(5.0)));
        let page: String = metrics.prometheus().collect();
        assert!(page.contains("\nratelimit_localcache_missCount 3\n"));
    }

    #[test]
    fn every_call_is_in_one_bucket_of_the_response_time() {
        let metrics = Metrics::new(0.8);
        for micros in [1, 7, 7, 60, 700, 20_000_000] {
            metrics.count_call("ShouldRateLimit", Duration::from_micros(micros));
        }
        let calls = value(&metrics, "ratelimit_server.ShouldRateLimit.total_requests");
        assert_eq!(calls, Some(Value::Count(6)));
        let times = value(&metrics, "ratelimit_server.ShouldRateLimit.response_time");
        let Some(Value::Times(times)) = times else { unreachable!("{times:?}") };
        let times: Vec<_> = times.into_iter().filter(|(_, calls)| *calls > 0).collect();
        let rounded = |&(millis, calls): &(f64, u64)| (format!("{millis:.4}"), calls);
        let rounded: Vec<_> = times.iter().map(rounded).collect();
        let expected =
            [("0.0025", 1), ("0.0075", 2), ("0.0750", 1), ("0.7500", 1), ("10000.0000", 1)];
        assert_eq!(rounded, expected.map(|(millis, calls)| (millis.to_owned(), calls)));
    }
}
