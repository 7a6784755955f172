use std::{collections::BTreeMap, thread};

use super::*;
use crate::rules::spec::{DescriptorSpec, DomainSpec, RuleSpec};

const HIT: Bump = Bump { total: 1, within: 1, near: 0, over: 0, cached: 0, shadow: 0, refunded: 0 };

fn table() -> SeriesTable {
    SeriesTable::new(IntCounter::new("folded", "Folded.").unwrap())
}

/// Rules of `shop` with these keys.
fn rules(keys: &[&str]) -> RuleTree {
    let descriptor = |&key: &&str| DescriptorSpec {
        key: key.into(),
        rule: Some(RuleSpec::default()),
        ..DescriptorSpec::default()
    };
    let descriptors = keys.iter().map(descriptor).collect();
    RuleTree::compile(vec![DomainSpec { domain: "shop".into(), descriptors }])
}

fn name(component: &str) -> StatName {
    StatName::new("shop", std::iter::once(component.to_owned()))
}

/// What has been counted, by name, of those that have counted something.
fn hits(table: &SeriesTable) -> BTreeMap<String, u64> {
    let mut hits = BTreeMap::new();
    table.0.for_each(|name, series| {
        hits.insert(name.to_string(), total(series));
    });
    hits.retain(|_, it| *it > 0);
    hits
}

fn total(series: &Series) -> u64 {
    let total = STATISTICS.iter().position(|it| it.0 == "total_hits").unwrap();
    series.values()[total]
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
fn rules_that_stay_keep_what_they_counted_and_others_start_anew() {
    let table = table();
    let (old, new) = (rules(&["a", "b"]), rules(&["c", "b"]));
    table.install(&old);
    old.rules().iter().for_each(|it| table.bump_rule(it, HIT));
    check(&table, &[("shop.a", 1), ("shop.b", 1)]);

    table.install(&new);
    check(&table, &[("shop.b", 1)]);
    // Some requests were decided by the old rules and are counted only now.
    for rule in old.rules().iter().chain(new.rules()) {
        table.bump_rule(rule, HIT);
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
    rules.rules().iter().for_each(|it| table.bump_rule(it, HIT));
    check(&table, &[("shop.a_b", 3)]);
}

#[test]
fn nothing_is_lost_while_rules_are_replaced() {
    const THREADS: usize = 4;
    const HITS: usize = 20_000;
    let table = table();
    let (old, new) = (rules(&["a", "b"]), rules(&["c", "b"]));
    table.install(&old);
    thread::scope(|scope| {
        let counting: Vec<_> = (0..THREADS)
            .map(|at| {
                let rule = if at % 2 == 0 { &old.rules()[1] } else { &new.rules()[1] };
                let table = &table;
                scope.spawn(move || {
                    for hit in 0..HITS {
                        table.bump_rule(rule, HIT);
                        table.bump_dynamic(name(&format!("of_request_{}", hit % 7)), HIT);
                    }
                })
            })
            .collect();
        while counting.iter().any(|it| !it.is_finished()) {
            table.install(&new);
            table.install(&old);
        }
    });
    let hits = hits(&table);
    assert_eq!(hits["shop.b"], (THREADS * HITS) as u64);
    let dynamic: u64 = hits.iter().filter(|(it, _)| it.contains("request")).map(|it| it.1).sum();
    assert_eq!(dynamic, (THREADS * HITS) as u64);
}

#[test]
fn series_beyond_the_most_are_counted_together() {
    let table = table();
    for value in 0..2 * MOST_DYNAMIC {
        table.bump_dynamic(name(&format!("user_{value}")), HIT);
    }
    // Those that are known go on by themselves.
    table.bump_dynamic(name("user_0"), HIT);
    let hits = hits(&table);
    assert_eq!(hits.len(), MOST_DYNAMIC + 1);
    assert_eq!((hits["shop.user_0"], hits["shop.user_1"]), (2, 1));
    assert_eq!(hits["shop.other"], MOST_DYNAMIC as u64);
    assert_eq!(folded(&table), MOST_DYNAMIC as u64);
}

#[test]
fn a_long_name_makes_no_series() {
    let table = table();
    let longest = "x".repeat(LONGEST - "shop".len());
    table.bump_dynamic(name(&longest), HIT);
    table.bump_dynamic(name(&(longest.clone() + "x")), HIT);
    check(&table, &[("shop.other", 1), (&format!("shop.{longest}"), 1)]);
    assert_eq!(folded(&table), 1);
}

#[test]
fn a_value_cannot_forge_a_line() {
    let table = table();
    table.bump_dynamic(name("user_a\nratelimit.service.rate_limit.forged: 7\r"), HIT);
    for line in table.dotted().collect::<String>().lines() {
        let expected = "ratelimit.service.rate_limit.shop.user_a_ratelimit";
        assert!(line.starts_with(expected) && !line.contains('\r'), "{line:?}");
    }
}

#[test]
fn hits_of_any_number_count_and_no_counter_begins_anew() {
    let (table, rules) = (table(), rules(&["a"]));
    table.install(&rules);
    let bump = |total| table.bump_rule(&rules.rules()[0], Bump { total, ..HIT });
    bump(5_000_000_000);
    bump(5_000_000_000);
    check(&table, &[("shop.a", 10_000_000_000)]);
    bump(u64::MAX - 1);
    bump(7);
    check(&table, &[("shop.a", u64::MAX)]);
}
