use std::collections::{BTreeMap, HashMap};

use prometheus::{
    IntCounter, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::{Counter, LabelPair, Metric, MetricFamily, MetricType},
};
use proptest::prelude::*;

use super::*;
use crate::metrics::{
    series::{Bump, Series, SeriesTable},
    tags::Tags,
};

/// A name, and what has been counted there.
type Counted = (StatName, Bump);

/// The same by way of the `prometheus` crate, which makes a copy of everything.
struct Copied(Vec<Counted>);

impl Collector for Copied {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut sums: BTreeMap<[String; 3], Values> = BTreeMap::new();
        for (name, bump) in &self.0 {
            let labels = [name.domain(), name.component(0), name.component(1)];
            let sum = sums.entry(labels.map(String::from)).or_default();
            sum.iter_mut().zip(values(*bump)).for_each(|(sum, value)| *sum += value);
        }
        let family = |(at, (name, help)): (usize, &(&str, &str))| {
            let mut family = MetricFamily::default();
            family.set_name(format!("ratelimit_service_rate_limit_{name}"));
            family.set_help((*help).into());
            family.set_field_type(MetricType::COUNTER);
            family.set_metric(sums.iter().map(|(labels, sum)| metric(labels, sum[at])).collect());
            family
        };
        STATISTICS.iter().enumerate().map(family).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only f64")]
fn metric(labels: &[String; 3], value: u64) -> Metric {
    let label = |(name, value): (&str, &String)| {
        let mut label = LabelPair::default();
        label.set_name(name.into());
        label.set_value(value.clone());
        label
    };
    let labels = ["domain", "key1", "key2"].into_iter().zip(labels);
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(labels.filter(|(_, value)| !value.is_empty()).map(label).collect());
    metric
}

fn values(bump: Bump) -> Values {
    let series = Series::default();
    series.bump(bump);
    series.values()
}

/// The first of them are those of rules.
fn table(counted: &[Counted], of_rules: usize) -> SeriesTable {
    let table = SeriesTable::new(IntCounter::new("folded", "Folded.").unwrap());
    let mut fixed = Fixed::default();
    for (at, (name, bump)) in counted.iter().enumerate() {
        if at < of_rules {
            fixed.by_name.entry(Arc::new(name.clone())).or_default().bump(*bump);
        } else {
            table.bump_dynamic(name.clone(), *bump);
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

fn bumps() -> impl Strategy<Value = Bump> {
    let hits = || prop_oneof![0..3_u64, (1 << 53) - 1..(1 << 53) + 3_u64, Just(1 << 58)];
    (hits(), hits(), hits()).prop_map(|(total, near, cached)| Bump {
        total,
        within: 1,
        near,
        over: 2,
        cached,
        shadow: 3,
        refunded: 4,
    })
}

proptest! {
    #[test]
    fn pages_are_what_copies_of_all_series_make(
        counted in prop::collection::vec((names(), bumps()), 0..30),
        of_rules in 0..30_usize,
        tagged: bool,
    ) {
        let table = table(&counted, of_rules);
        let tags: &[_] = if tagged { &[("b", "x\"y"), ("a.c", "1")] } else { &[] };
        let tags = Tags::new(tags.iter().copied()).unwrap();

        let registry = Registry::new();
        registry.register(Box::new(Copied(counted.clone()))).unwrap();
        let mut families = registry.gather();
        families.retain(|it| !it.get_metric().is_empty());
        tags.label(&mut families);
        let expected = TextEncoder::new().encode_to_string(&families).unwrap();
        let page: String = table.prometheus(tags.text()).collect();
        prop_assert_eq!(page, expected);

        let mut expected: HashMap<String, u64> = HashMap::new();
        for (name, bump) in &counted {
            for ((statistic, _), value) in STATISTICS.iter().zip(values(*bump)) {
                *expected.entry(dotted(name, statistic)).or_default() += value;
            }
        }
        let page: String = table.dotted().collect();
        prop_assert_eq!(page.lines().count(), expected.len());
        for line in page.lines() {
            let (name, value) = line.rsplit_once(": ").unwrap();
            prop_assert_eq!(expected[name].to_string(), value);
        }
    }
}

#[test]
fn a_long_page_comes_in_pieces_of_about_one_size() {
    let name = |it: usize| StatName::new("shop", std::iter::once(format!("user_{it}")));
    let counted: Vec<_> = (0..3000).map(|it| (name(it), Bump::default())).collect();
    let table = table(&counted, 2000);
    for pieces in [table.prometheus(String::new()).collect::<Vec<_>>(), table.dotted().collect()] {
        let lines = pieces.concat().lines().filter(|it| !it.starts_with('#')).count();
        assert_eq!(lines, 3000 * STATISTICS.len());
        let (last, full) = pieces.split_last().unwrap();
        assert!(full.len() > 10 && last.len() < 70_000);
        assert!(full.iter().all(|it| (65_536..70_000).contains(&it.len())));
    }
}
