//! Each algorithm admits the hits that its definition admits.

use proptest::prelude::*;
use tollgate::limit::{Hits, Limit};

use crate::{
    definitions::Definition,
    games::{Call, calls, limits, play},
};

fn is_as_defined(limit: &Limit, calls: &[Call]) {
    let mut definition = Definition::new(limit);
    for call in play(limit, calls) {
        let expected = definition.passes(call.hits, call.now);
        assert_eq!(!call.outcome.over, expected, "{:?} at {}: {limit:?}", call.hits, call.now);
    }
}

/// The maximum of the hits that passed within less than `length`.
pub(crate) fn most_within(passed: &[(u64, u64)], length: u64) -> u64 {
    let within = |at: u64| move |it: &&(u64, u64)| at <= it.0 && it.0 < at + length;
    let sum = |at: u64| passed.iter().filter(within(at)).map(|it| it.1).sum();
    passed.iter().map(|it| sum(it.0)).max().unwrap_or(0)
}

pub(crate) fn passed(limit: &Limit, calls: &[Call]) -> Vec<(u64, u64)> {
    let played = play(limit, calls).into_iter().filter(|it| !it.outcome.over);
    let hits = |it: Hits| if let Hits::Add(hits) = it { hits } else { 0 };
    played.map(|it| (it.now, hits(it.hits))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_fixed_window_counts_denied_hits_by_default(
        limit in limits("fixed_window"), calls in calls(false, 40),
    ) {
        is_as_defined(&limit, &calls);
    }

    #[test]
    fn a_fixed_window_need_not_count_denied_hits(limit in limits("sparing"), calls in calls(false, 40)) {
        is_as_defined(&limit, &calls);
    }

    #[test]
    fn a_sliding_window_weighs_exactly(
        limit in limits("sliding_window"), calls in calls(false, 40),
    ) {
        is_as_defined(&limit, &calls);
    }

    #[test]
    fn a_sliding_window_admits_at_most_twice_its_limit(
        limit in limits("sliding_window"), calls in calls(false, 60),
    ) {
        let most = most_within(&passed(&limit, &calls), limit.window.seconds() * 1_000_000);
        prop_assert!(most <= 2 * u64::from(limit.requests), "{most} for {limit:?}");
    }

    #[test]
    fn a_sliding_log_is_exact(limit in limits("sliding_log"), calls in calls(false, 40)) {
        is_as_defined(&limit, &calls);
        let most = most_within(&passed(&limit, &calls), limit.window.seconds() * 1_000_000);
        prop_assert!(most <= u64::from(limit.requests), "{most} for {limit:?}");
    }

    #[test]
    fn unreleased_leases_are_a_sliding_log(
        limit in limits("concurrency"), calls in calls(false, 40),
    ) {
        is_as_defined(&limit, &calls);
    }
}
