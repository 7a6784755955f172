use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    metrics::{CountedMethod, series::HitCounts},
    rules::{
        RuleTree,
        spec::{DescriptorSpec, DomainSpec, RuleSpec},
    },
};

const HIT: HitCounts = HitCounts {
    total: 1,
    within: 1,
    near: 0,
    over: 0,
    over_cached: 0,
    over_shadowed: 0,
    refunded: 0,
};

/// Whether the server receives the deltas.
#[derive(Clone, Copy)]
enum Delivery {
    Succeeds,
    Fails,
}

/// Rules of the domain `shop` with these keys.
fn rules(keys: &[&str]) -> RuleTree {
    let mut descriptors = Vec::new();
    for key in keys {
        let rule = Some(RuleSpec::default());
        let key = (*key).into();
        descriptors.push(DescriptorSpec { key, rule, ..DescriptorSpec::default() });
    }
    RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors, http: None }])
}

/// The hits of rules in the deltas, by name without prefix.
fn hits(tracker: &mut DeltaTracker, delivery: Delivery) -> BTreeMap<String, u64> {
    let mut hits = BTreeMap::new();
    for Delta { name, change, ack } in tracker.deltas() {
        if let Change::Growth(growth) = change
            && let Some(name) = name.strip_suffix(".total_hits")
        {
            let name = name.strip_prefix("ratelimit.service.rate_limit.").unwrap();
            *hits.entry(name.to_owned()).or_default() += growth;
        }
        if let Delivery::Succeeds = delivery {
            ack.commit();
        }
    }
    hits
}

fn hit_each(metrics: &Metrics, rules: &RuleTree) {
    for rule in rules.rules() {
        metrics.series.add_to_rule(rule, HIT);
    }
}

fn map(hits: &[(&str, u64)]) -> BTreeMap<String, u64> {
    hits.iter().map(|(name, hits)| ((*name).to_owned(), *hits)).collect()
}

#[test]
fn an_undelivered_difference_is_part_of_the_next_one() {
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    let rules = rules(&["a"]);
    metrics.install_rules(&rules);
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), map(&[]), "no hit has been counted");
    hit_each(&metrics, &rules);
    assert_eq!(hits(&mut tracker, Delivery::Fails), map(&[("shop.a", 1)]));
    hit_each(&metrics, &rules);
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), map(&[("shop.a", 2)]));
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), map(&[]));
}

#[test]
fn removed_rules_deliver_their_last_hits_and_new_rules_of_the_same_name_start_at_0() {
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    let (a, b) = (rules(&["a"]), rules(&["b"]));
    // Also rules that are added and removed between two deliveries.
    for rules in [&a, &b, &a, &b] {
        metrics.install_rules(rules);
        hit_each(&metrics, rules);
    }
    let expected = map(&[("shop.a", 2), ("shop.b", 2)]);
    assert_eq!(hits(&mut tracker, Delivery::Fails), expected);
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), expected);
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), map(&[]));
    assert_eq!(tracker.series.len(), 1, "series of removed rules are dropped");
}

/// So many rules, whose names contain `round`.
fn many_rules(round: usize, count: usize) -> RuleTree {
    let keys: Vec<_> = (0..count).map(|key| format!("{round}_{key}")).collect();
    rules(&keys.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn all_rules_that_a_reload_removes_deliver_their_last_hits() {
    const RULES: usize = 20_000;
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    for round in 0..2 {
        let rules = many_rules(round, RULES);
        metrics.install_rules(&rules);
        hit_each(&metrics, &rules);
    }
    let delivered = hits(&mut tracker, Delivery::Succeeds);
    assert_eq!(delivered.values().sum::<u64>(), 2 * RULES as u64);
    assert_eq!(metrics.process.series_lost.get(), 0);
}

#[test]
fn removed_rules_take_bounded_memory_while_the_server_is_unreachable() {
    const RULES: usize = 4_000;
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    for round in 0..5 {
        let rules = many_rules(round, RULES);
        metrics.install_rules(&rules);
        hit_each(&metrics, &rules);
    }
    metrics.install_rules(&rules(&[]));
    let waiting = hits(&mut tracker, Delivery::Fails).len();
    let lost = usize::try_from(metrics.process.series_lost.get()).unwrap();
    assert_eq!(waiting + lost, 5 * RULES);
    assert!(waiting <= MAX_REMOVED_SERIES + RULES, "{waiting}");
    assert!(hits(&mut tracker, Delivery::Fails).len() <= MAX_REMOVED_SERIES);
}

#[test]
fn a_hit_that_is_counted_after_its_rule_was_removed_is_delivered() {
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    let old = rules(&["a"]);
    metrics.install_rules(&old);
    metrics.install_rules(&rules(&["b"]));
    hit_each(&metrics, &old);
    assert_eq!(hits(&mut tracker, Delivery::Succeeds), map(&[("shop.a", 1)]));
}

#[test]
fn two_servers_receive_deltas_independently() {
    let metrics = Arc::new(Metrics::new(0.8));
    let mut first = DeltaTracker::new(Arc::clone(&metrics));
    let mut second = DeltaTracker::new(Arc::clone(&metrics));
    let (old, new) = (rules(&["a"]), rules(&["b"]));
    metrics.install_rules(&old);
    hit_each(&metrics, &old);
    assert_eq!(hits(&mut first, Delivery::Succeeds), map(&[("shop.a", 1)]));
    hit_each(&metrics, &old);
    metrics.install_rules(&new);
    assert_eq!(hits(&mut first, Delivery::Succeeds), map(&[("shop.a", 1)]));
    assert_eq!(hits(&mut second, Delivery::Succeeds), map(&[("shop.a", 2)]));
}

/// Delivers all deltas and returns the changes of the statistic `name`.
fn deliver(tracker: &mut DeltaTracker, name: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    for delta in tracker.deltas() {
        if delta.name == name {
            changes.push(delta.change);
            delta.ack.commit();
        }
    }
    changes
}

#[test]
fn times_are_delivered_once_by_bucket_and_levels_always() {
    let metrics = Arc::new(Metrics::new(0.8));
    let mut tracker = DeltaTracker::new(Arc::clone(&metrics));
    let response_time = "ratelimit_server.ShouldRateLimit.response_time";
    for micros in [7, 7, 700] {
        metrics.count_call(CountedMethod::ShouldRateLimit, Duration::from_micros(micros));
    }
    let changes = deliver(&mut tracker, response_time);
    let [Change::Times { calls: 2, .. }, Change::Times { calls: 1, .. }] = changes[..] else {
        unreachable!("{changes:?}")
    };
    assert_eq!(deliver(&mut tracker, response_time), []);
    metrics.count_call(CountedMethod::ShouldRateLimit, Duration::from_micros(7));
    let changes = deliver(&mut tracker, response_time);
    assert!(matches!(changes[..], [Change::Times { calls: 1, .. }]), "{changes:?}");
    assert_eq!(deliver(&mut tracker, "tollgate.rules"), [Change::Level(0.0)]);
    assert_eq!(deliver(&mut tracker, "tollgate.rules"), [Change::Level(0.0)]);
}
