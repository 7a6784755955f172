//! Each algorithm admits the hits that its definition admits.

use proptest::prelude::*;
use tollgate::limit::{Hits, Limit};

use crate::{
    definitions::ReferenceAlgorithm,
    random_calls::{Call, calls, limits, run_calls},
};

fn check_definition(limit: &Limit, calls: &[Call]) {
    let mut definition = ReferenceAlgorithm::new(limit);
    for call in run_calls(limit, calls) {
        let expected = definition.passes(call.hits, call.now);
        assert_eq!(!call.outcome.over, expected, "{:?} at {}: {limit:?}", call.hits, call.now);
    }
}

/// Hits that passed at the same time.
#[derive(Clone, Copy)]
pub(crate) struct PassedHits {
    pub(crate) at: u64,
    pub(crate) hits: u64,
}

/// The maximum of the hits that passed within less than `length`.
pub(crate) fn most_within(passed: &[PassedHits], length: u64) -> u64 {
    let mut most = 0;
    for first in passed {
        let mut sum = 0;
        for PassedHits { at, hits } in passed {
            if (first.at..first.at + length).contains(at) {
                sum += hits;
            }
        }
        most = most.max(sum);
    }
    most
}

pub(crate) fn passed(limit: &Limit, calls: &[Call]) -> Vec<PassedHits> {
    let mut passed = Vec::new();
    for call in run_calls(limit, calls) {
        if let Hits::Add(hits) = call.hits
            && !call.outcome.over
        {
            passed.push(PassedHits { at: call.now, hits });
        }
    }
    passed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_fixed_window_counts_denied_hits_by_default(
        limit in limits("fixed_window"), calls in calls(false, 40),
    ) {
        check_definition(&limit, &calls);
    }

    #[test]
    fn a_fixed_window_need_not_count_denied_hits(limit in limits("fixed_window_without_denied"), calls in calls(false, 40)) {
        check_definition(&limit, &calls);
    }

    #[test]
    fn a_sliding_window_weighs_exactly(
        limit in limits("sliding_window"), calls in calls(false, 40),
    ) {
        check_definition(&limit, &calls);
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
        check_definition(&limit, &calls);
        let most = most_within(&passed(&limit, &calls), limit.window.seconds() * 1_000_000);
        prop_assert!(most <= u64::from(limit.requests), "{most} for {limit:?}");
    }

    #[test]
    fn unreleased_permits_are_a_sliding_log(
        limit in limits("concurrency"), calls in calls(false, 40),
    ) {
        check_definition(&limit, &calls);
    }
}
