use std::{collections::HashSet, time::Duration};

use super::*;
use crate::{
    metrics::{CheckResult, CheckedBy, CountedMethod, ErrorType, Metrics},
    rules::{RuleTree, spec::DomainSpec},
};

fn value(metrics: &Metrics, name: &str) -> Option<SampleValue> {
    let mut samples = metrics.samples();
    samples.retain(|sample| sample.name == name);
    assert!(samples.len() <= 1, "{name} has several values");
    Some(samples.pop()?.value)
}

#[test]
fn statistics_have_the_names_of_the_reference_service() {
    let metrics = Metrics::new(0.8);
    metrics.count_error(ErrorType::Store);
    metrics.count_rejected_rules();
    let value = |name: &str| value(&metrics, name);
    let errors = "ratelimit.service.call.should_rate_limit";
    assert_eq!(value(&format!("{errors}.redis_error")), Some(SampleValue::Count(1)));
    assert_eq!(value(&format!("{errors}.service_error")), Some(SampleValue::Count(0)));
    let load_errors = value("ratelimit.service.config_load_error");
    assert_eq!(load_errors, Some(SampleValue::Count(1)));
    let shadowed = value("ratelimit.service.global_shadow_mode");
    assert_eq!(shadowed, Some(SampleValue::Count(0)));
    assert_eq!(value("tollgate.rules_rejected"), Some(SampleValue::Level(1.0)));
    assert_eq!(value("tollgate.memory_evicted"), Some(SampleValue::Count(0)));
    assert_eq!(value("ratelimit.localcache.hitCount"), None, "there is no deny cache");
}

#[test]
fn each_label_has_its_place_in_the_statsd_name() {
    let metrics = Metrics::new(0.8);
    let spec = DomainSpec { domain: "a.b{}".into(), ..DomainSpec::default() };
    metrics.install_rules(&RuleTree::compile(vec![spec]));
    for domain in ["a.b{}", "unknown"] {
        metrics.count_check(CheckedBy::Nginx, domain, CheckResult::Refused);
    }
    for name in ["a_b{}", "_other_"] {
        let name = format!("tollgate.checks.nginx.{name}.refused");
        assert_eq!(value(&metrics, &name), Some(SampleValue::Count(1)), "{name}");
    }
}

#[test]
fn each_name_is_declared_once_and_has_a_place_for_its_label() {
    let mut definitions = ProcessStatistics::DEFINITIONS.to_vec();
    definitions.extend_from_slice(CertificateStatistics::DEFINITIONS);
    definitions.extend_from_slice(XdsStatistics::DEFINITIONS);
    for statistic in store_statistics::TABLES.into_iter().flatten() {
        definitions.push(statistic.definition);
    }
    let mut names = HashSet::new();
    for Definition { prometheus, statsd, labels, help } in definitions {
        assert!(names.insert(prometheus), "{prometheus} is declared twice");
        assert!(names.insert(statsd), "{statsd} is declared twice");
        assert_eq!(statsd.matches("{}").count(), labels.len(), "{statsd}");
        assert!(help.ends_with('.'), "{prometheus}: {help}");
    }
}

#[test]
fn own_counters_end_in_total_and_nothing_else_does() {
    let metrics = Metrics::new(0.8);
    metrics.count_certificate_load("http", None);
    metrics.set_xds_connected(true);
    let page: String = metrics.prometheus().collect();
    let mut counters = 0;
    for line in page.lines() {
        let Some(family) = line.strip_prefix("# TYPE ") else { continue };
        let (name, kind) = family.split_once(' ').unwrap();
        if name.starts_with("tollgate_") || name.starts_with("process_") {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
            counters += usize::from(kind == "counter");
        }
    }
    assert!(10 < counters, "{page}");
    for statistic in store_statistics::TABLES.into_iter().flatten() {
        let name = statistic.definition.prometheus;
        let is_counter = statistic.kind == MetricType::COUNTER;
        assert!(!name.starts_with("tollgate_") || name.ends_with("_total") == is_counter, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_page_shows_the_resources_of_the_process() {
    let page: String = Metrics::new(0.8).prometheus().collect();
    for name in ["cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "threads"] {
        let name = format!("process_{name} ");
        let line = page.lines().find(|line| line.starts_with(&name)).unwrap();
        assert!(0.0 <= line[name.len()..].parse().unwrap(), "{line}");
    }
    let start = page.lines().find_map(|it| it.strip_prefix("process_start_time_seconds "));
    assert!(1.6e9 < start.unwrap().parse().unwrap(), "{start:?}");
}

#[test]
fn domains_with_the_same_name_in_statsd_are_counted_together() {
    let metrics = Metrics::new(0.8);
    for domain in ["a.b", "a_b"] {
        let spec = DomainSpec { domain: domain.to_owned(), ..DomainSpec::default() };
        metrics.install_rules(&RuleTree::compile(vec![spec]));
        metrics.unmatched.count(domain.as_bytes());
    }
    let name = "tollgate.unmatched_descriptors.a_b";
    assert_eq!(value(&metrics, name), Some(SampleValue::Count(2)));
}

#[test]
fn domains_without_a_label_of_their_own_share_one() {
    let metrics = Metrics::new(0.8);
    let mut domains = Vec::new();
    for domain in 0..1_500 {
        domains.push(DomainSpec { domain: domain.to_string(), ..DomainSpec::default() });
    }
    metrics.install_rules(&RuleTree::compile(domains));
    for domain in 0..1_500 {
        metrics.unmatched.count(domain.to_string().as_bytes());
    }
    let name = "tollgate.unmatched_descriptors._other_";
    assert_eq!(value(&metrics, name), Some(SampleValue::Count(500)));
}

#[test]
fn every_family_is_in_the_tables() {
    let metrics = Metrics::new(0.8);
    metrics.count_certificate_load("http", None);
    metrics.set_xds_connected(true);
    metrics.count_call(CountedMethod::ShouldRateLimit, Duration::ZERO);
    for family in metrics.gather() {
        assert!(find(family.name()).is_some(), "{}", family.name());
    }
}

#[test]
fn every_call_is_in_one_bucket_of_the_response_time() {
    let metrics = Metrics::new(0.8);
    for micros in [1, 7, 7, 60, 700, 20_000_000] {
        metrics.count_call(CountedMethod::ShouldRateLimit, Duration::from_micros(micros));
    }
    let calls = value(&metrics, "ratelimit_server.ShouldRateLimit.total_requests");
    assert_eq!(calls, Some(SampleValue::Count(6)));
    let times = value(&metrics, "ratelimit_server.ShouldRateLimit.response_time");
    let Some(SampleValue::Times(buckets)) = times else { unreachable!("{times:?}") };
    let mut filled = Vec::new();
    for Bucket { millis, calls } in buckets {
        if calls > 0 {
            filled.push(format!("{millis:.4}: {calls}"));
        }
    }
    assert_eq!(filled, ["0.0025: 1", "0.0075: 2", "0.0750: 1", "0.7500: 1", "10000.0000: 1"]);
}
