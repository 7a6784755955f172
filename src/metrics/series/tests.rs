use std::{collections::BTreeMap, thread};

use super::*;
use crate::rules::spec::{DescriptorSpec, DomainSpec, RuleSpec};

const HIT: HitCounts = HitCounts {
    total: 1,
    within: 1,
    near: 0,
    over: 0,
    over_cached: 0,
    over_shadowed: 0,
    refunded: 0,
};

fn table() -> SeriesTable {
    let counter = |name: &str| IntCounter::new(name, name).unwrap();
    SeriesTable::new(counter("folded"), counter("lost"))
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

fn name(component: &str) -> StatName {
    StatName::new("shop", std::iter::once(component.to_owned()))
}

/// The total hits of each series that has any, by name.
fn hits(table: &SeriesTable) -> BTreeMap<String, u64> {
    let total = STATISTICS.iter().position(|statistic| statistic.name == "total_hits").unwrap();
    let mut hits = BTreeMap::new();
    for series in table.0.active() {
        if series.values()[total] > 0 {
            hits.insert(series.name().to_string(), series.values()[total]);
        }
    }
    hits
}

fn folded(table: &SeriesTable) -> u64 {
    table.0.folded.get()
}

#[track_caller]
fn check(table: &SeriesTable, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, hits)| ((*name).to_owned(), *hits)).collect();
    assert_eq!(hits(table), expected);
}

#[test]
fn rules_that_stay_keep_their_counts_and_new_rules_start_at_0() {
    let table = table();
    let (old, new) = (rules(&["a", "b"]), rules(&["c", "b"]));
    table.install(&old);
    for rule in old.rules() {
        table.add_to_rule(rule, HIT);
    }
    check(&table, &[("shop.a", 1), ("shop.b", 1)]);

    table.install(&new);
    check(&table, &[("shop.b", 1)]);
    // Some requests were decided by the old rules and are counted only now.
    for rule in old.rules().iter().chain(new.rules()) {
        table.add_to_rule(rule, HIT);
    }
    check(&table, &[("shop.b", 3), ("shop.c", 1)]);

    table.install(&old);
    check(&table, &[("shop.b", 3)]);
}

#[test]
fn rules_of_one_name_share_a_series() {
    let table = table();
    let rules = rules(&["a:b", "a|b", "a_b"]);
    table.install(&rules);
    for rule in rules.rules() {
        table.add_to_rule(rule, HIT);
    }
    check(&table, &[("shop.a_b", 3)]);
}

#[test]
fn no_hit_is_lost_while_rules_are_replaced() {
    const THREADS: usize = 4;
    const HITS: usize = 20_000;
    let table = table();
    let (old, new) = (rules(&["a", "b"]), rules(&["c", "b"]));
    table.install(&old);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for thread in 0..THREADS {
            let rule = if thread % 2 == 0 { &old.rules()[1] } else { &new.rules()[1] };
            let table = &table;
            threads.push(scope.spawn(move || {
                for hit in 0..HITS {
                    table.add_to_rule(rule, HIT);
                    table.add_to_name(name(&format!("of_request_{}", hit % 7)), HIT);
                }
            }));
        }
        while threads.iter().any(|thread| !thread.is_finished()) {
            table.install(&new);
            table.install(&old);
        }
    });
    let hits = hits(&table);
    assert_eq!(hits["shop.b"], (THREADS * HITS) as u64);
    let mut dynamic = 0;
    for (name, hits) in hits {
        if name.contains("request") {
            dynamic += hits;
        }
    }
    assert_eq!(dynamic, (THREADS * HITS) as u64);
}

#[test]
fn series_beyond_the_maximum_are_counted_as_other() {
    let table = table();
    for value in 0..2 * MAX_DYNAMIC_SERIES {
        table.add_to_name(name(&format!("user_{value}")), HIT);
    }
    // Known series are still counted separately.
    table.add_to_name(name("user_0"), HIT);
    let hits = hits(&table);
    assert_eq!(hits.len(), MAX_DYNAMIC_SERIES + 1);
    assert_eq!((hits["shop.user_0"], hits["shop.user_1"]), (2, 1));
    assert_eq!(hits["shop.|other|"], MAX_DYNAMIC_SERIES as u64);
    assert_eq!(folded(&table), MAX_DYNAMIC_SERIES as u64);
}

#[test]
fn a_name_beyond_the_maximum_length_is_counted_as_other() {
    let table = table();
    let longest = "x".repeat(MAX_NAME_BYTES - "shop".len());
    table.add_to_name(name(&longest), HIT);
    table.add_to_name(name(&(longest.clone() + "x")), HIT);
    check(&table, &[("shop.|other|", 1), (&format!("shop.{longest}"), 1)]);
    assert_eq!(folded(&table), 1);
}

/// Rules of the domain `shop` with these keys below `a` and `b`.
fn deep_rules(keys: &[&str]) -> RuleTree {
    let rule = Some(RuleSpec::default());
    let leaf = |key: &&str| DescriptorSpec {
        key: (*key).into(),
        rule: rule.clone(),
        ..DescriptorSpec::default()
    };
    let parent = |key: &str, descriptors| DescriptorSpec {
        key: key.into(),
        descriptors,
        ..DescriptorSpec::default()
    };
    let descriptors = vec![parent("a", vec![parent("b", keys.iter().map(leaf).collect())])];
    RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors, http: None }])
}

/// The total hits of the series for Prometheus with the labels of [`deep_rules`].
fn shown(table: &SeriesTable) -> Option<u64> {
    let page: String = table.prometheus(String::new()).collect();
    let series = r#"ratelimit_service_rate_limit_total_hits{domain="shop",key1="a",key2="b"} "#;
    let line = page.lines().find_map(|line| line.strip_prefix(series))?;
    Some(line.parse().unwrap())
}

#[test]
fn a_shown_counter_never_falls_when_rules_are_replaced() {
    let table = table();
    let (both, first, second) = (deep_rules(&["c", "d"]), deep_rules(&["c"]), deep_rules(&["d"]));
    table.install(&both);
    let hit = |rule: &Rule, total| table.add_to_rule(rule, HitCounts { total, ..HIT });
    hit(&both.rules()[0], 1_000);
    hit(&both.rules()[1], 500);
    assert_eq!(shown(&table), Some(1_500));
    table.install(&first);
    assert_eq!(shown(&table), Some(1_500));
    // A request that was decided by the removed rule.
    hit(&both.rules()[1], 7);
    assert_eq!(shown(&table), Some(1_507));
    for rules in [&second, &first, &both] {
        table.install(rules);
        assert_eq!(shown(&table), Some(1_507));
    }
    hit(&both.rules()[1], 1);
    assert_eq!(shown(&table), Some(1_508));
    table.install(&rules(&["x"]));
    assert_eq!(shown(&table), None, "no rule has these labels");
    table.install(&second);
    assert_eq!(shown(&table), Some(1_508));
}

#[test]
fn the_counts_of_removed_rules_take_bounded_memory() {
    let table = table();
    for round in 0..4 {
        let keys: Vec<_> = (0..6_000).map(|key| format!("{round}_{key}")).collect();
        let rules = rules(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        table.install(&rules);
        for rule in rules.rules() {
            table.add_to_rule(rule, HIT);
        }
    }
    table.install(&rules(&[]));
    assert_eq!(table.0.fixed.load().past_count(), past::MAX_UNUSED);
}

#[test]
fn no_rule_shares_the_series_of_names_that_are_too_many() {
    let table = table();
    let rules = rules(&["other", "_other_", "|other|"]);
    table.install(&rules);
    for rule in rules.rules() {
        table.add_to_rule(rule, HIT);
    }
    table.add_to_name(name(&"x".repeat(MAX_NAME_BYTES)), HIT);
    check(&table, &[("shop.other", 1), ("shop._other_", 2), ("shop.|other|", 1)]);
}

#[test]
fn a_value_cannot_forge_a_line() {
    let table = table();
    table.add_to_name(name("user_a\nratelimit.service.rate_limit.forged: 7\r"), HIT);
    for line in table.stat_lines().collect::<String>().lines() {
        let expected = "ratelimit.service.rate_limit.shop.user_a_ratelimit";
        assert!(line.starts_with(expected) && !line.contains('\r'), "{line:?}");
    }
}

#[test]
fn a_counter_stops_at_its_largest_value() {
    let (table, rules) = (table(), rules(&["a"]));
    table.install(&rules);
    let add = |total| table.add_to_rule(&rules.rules()[0], HitCounts { total, ..HIT });
    add(5_000_000_000);
    add(5_000_000_000);
    check(&table, &[("shop.a", 10_000_000_000)]);
    add(u64::MAX - 1);
    add(7);
    check(&table, &[("shop.a", u64::MAX)]);
}
