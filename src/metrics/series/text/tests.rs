use std::collections::{BTreeMap, HashMap};

use prometheus::{
    IntCounter, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::{Counter, LabelPair, Metric, MetricFamily, MetricType},
};
use proptest::prelude::*;

use super::*;
use crate::metrics::{
    series::{HitCounts, SeriesTable, counts::Series},
    tags::Tags,
};

/// The name of a series, and the hits to add to it.
type Counted = (StatName, HitCounts);

/// The same series as a collector for the `prometheus` crate, which copies them all.
struct Copied(Vec<Counted>);

impl Collector for Copied {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut sums: BTreeMap<[String; 3], Values> = BTreeMap::new();
        for (name, counts) in &self.0 {
            let labels = [name.domain(), name.component(0), name.component(1)];
            let sum = sums.entry(labels.map(String::from)).or_default();
            for (sum, value) in sum.iter_mut().zip(values(*counts)) {
                *sum += value;
            }
        }
        let mut families = Vec::new();
        for (at, statistic) in STATISTICS.iter().enumerate() {
            let mut family = MetricFamily::default();
            family.set_name(format!("ratelimit_service_rate_limit_{}", statistic.name));
            family.set_help(statistic.help.into());
            family.set_field_type(MetricType::COUNTER);
            family.set_metric(sums.iter().map(|(labels, sum)| metric(labels, sum[at])).collect());
            families.push(family);
        }
        families
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus reads values as f64")]
fn metric(labels: &[String; 3], value: u64) -> Metric {
    let mut pairs = Vec::new();
    for (name, value) in ["domain", "key1", "key2"].into_iter().zip(labels) {
        if !value.is_empty() {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.clone());
            pairs.push(pair);
        }
    }
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(pairs);
    metric
}

fn values(counts: HitCounts) -> Values {
    let series = Series::default();
    series.add(counts);
    series.values()
}

/// A table in which the first `of_rules` series belong to rules.
fn table(counted: &[Counted], of_rules: usize) -> SeriesTable {
    let counter = |name: &str| IntCounter::new(name, name).unwrap();
    let table = SeriesTable::new(counter("folded"), counter("lost"));
    let mut fixed = FixedSeries::default();
    for (at, (name, counts)) in counted.iter().enumerate() {
        if at < of_rules {
            fixed.by_name.entry(Arc::new(name.clone())).or_default().add(*counts);
        } else {
            table.add_to_name(name.clone(), *counts);
        }
    }
    table.0.fixed.store(Arc::new(fixed));
    table
}

fn names() -> impl Strategy<Value = StatName> {
    let text = || prop::sample::select(vec!["", "a", "a.b", "b", "a\nb", "\"\\", "ü\u{0}", "a_b"]);
    (text(), prop::collection::vec(text(), 0..4)).prop_map(|(domain, components)| {
        StatName::new(domain, components.into_iter().map(String::from))
    })
}

fn hit_counts() -> impl Strategy<Value = HitCounts> {
    let hits = || prop_oneof![0..3_u64, (1 << 53) - 1..(1 << 53) + 3_u64, Just(1 << 58)];
    (hits(), hits(), hits()).prop_map(|(total, near, over_cached)| HitCounts {
        total,
        within: 1,
        near,
        over: 2,
        over_cached,
        over_shadowed: 3,
        refunded: 4,
    })
}

proptest! {
    #[test]
    fn pages_equal_those_of_the_prometheus_crate(
        counted in prop::collection::vec((names(), hit_counts()), 0..30),
        of_rules in 0..30_usize,
        tagged: bool,
    ) {
        let table = table(&counted, of_rules);
        let tags: &[_] = if tagged { &[("b", "x\"y"), ("a.c", "1")] } else { &[] };
        let tags = Tags::new(tags.iter().copied()).unwrap();

        let registry = Registry::new();
        registry.register(Box::new(Copied(counted.clone()))).unwrap();
        let mut families = registry.gather();
        families.retain(|family| !family.get_metric().is_empty());
        tags.add_labels(&mut families);
        let expected = TextEncoder::new().encode_to_string(&families).unwrap();
        let page: String = table.prometheus(tags.label_text()).collect();
        prop_assert_eq!(page, expected);

        let mut expected: HashMap<String, u64> = HashMap::new();
        for (name, counts) in &counted {
            for (statistic, value) in STATISTICS.iter().zip(values(*counts)) {
                *expected.entry(statsd_name(name, statistic.name)).or_default() += value;
            }
        }
        let page: String = table.stat_lines().collect();
        prop_assert_eq!(page.lines().count(), expected.len());
        for line in page.lines() {
            let (name, value) = line.rsplit_once(": ").unwrap();
            prop_assert_eq!(expected[name].to_string(), value);
        }
    }
}

#[test]
fn a_long_page_is_split_into_chunks_of_similar_size() {
    let mut counted = Vec::new();
    for user in 0..3000 {
        let name = StatName::new("shop", std::iter::once(format!("user_{user}")));
        counted.push((name, HitCounts::default()));
    }
    let table = table(&counted, 2000);
    for chunks in
        [table.prometheus(String::new()).collect::<Vec<_>>(), table.stat_lines().collect()]
    {
        let lines = chunks.concat().lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, 3000 * STATISTICS.len());
        let (last, full) = chunks.split_last().unwrap();
        assert!(full.len() > 10 && last.len() < 70_000);
        assert!(full.iter().all(|chunk| (65_536..70_000).contains(&chunk.len())));
    }
}
