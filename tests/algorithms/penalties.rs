//! Limits with a penalty: a refusal is followed by a ban.

use std::time::Duration;

use proptest::prelude::*;
use tollgate::limit::{Hits, Limit};

use crate::{
    counter::Counter,
    properties,
    random_calls::{any_limit, calls, run_calls},
};

fn penalties() -> impl Strategy<Value = Limit> {
    let penalty = prop_oneof![Just(1_u64), Just(1_000_000), 1..100_000_000_u64, Just(600_000_000)];
    (any_limit(), penalty)
        .prop_map(|(limit, penalty)| Limit { penalty: Duration::from_micros(penalty), ..limit })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_passes_during_a_ban(limit in penalties(), calls in calls(true, 40)) {
        let penalty = limit.penalty.as_micros() as u64;
        // The decision of the algorithm without the hits that the ban refuses.
        let mut free = Counter::new(&Limit { penalty: Duration::ZERO, ..limit.clone() });
        let mut banned = 0;
        for call in run_calls(&limit, &calls) {
            let refund = matches!(call.hits, Hits::Refund(_));
            if call.now < banned && !refund {
                prop_assert!(call.outcome.over && !call.outcome.counted, "{call:?}");
                prop_assert_eq!(call.outcome.remaining, 0);
                continue;
            }
            let outcome = free.charge(call.hits, call.now);
            prop_assert_eq!(outcome.over, call.outcome.over, "{:?}", call);
            if outcome.over && call.hits.requested() > 0 {
                banned = call.now + penalty;
            }
        }
    }

    #[test]
    fn a_refusal_during_a_ban_does_not_prolong_it(limit in penalties(), calls in calls(true, 40)) {
        let mut until = 0;
        let mut counter = Counter::new(&limit);
        for call in run_calls(&limit, &calls) {
            let asked = matches!(call.hits, Hits::Add(_));
            if call.now < until && asked {
                prop_assert!(call.outcome.over);
                continue;
            }
            prop_assert_eq!(counter.charge(call.hits, call.now), call.outcome);
            if call.outcome.over && call.hits.requested() > 0 {
                until = call.now + limit.penalty.as_micros() as u64;
            }
        }
    }

    #[test]
    fn remaining_accounts_for_the_ban(limit in penalties(), calls in calls(false, 30)) {
        properties::remaining_is_exact(&limit, &calls);
    }

    #[test]
    fn retry_after_accounts_for_the_ban(limit in penalties(), calls in calls(false, 30)) {
        properties::retry_after_is_exact(&limit, &calls);
    }

    #[test]
    fn reset_after_accounts_for_the_ban(limit in penalties(), calls in calls(false, 20)) {
        properties::reset_after_is_exact(&limit, &calls, 3);
    }

    #[test]
    fn a_refund_does_not_end_a_ban(
        limit in penalties(), calls in calls(true, 30), refund in any::<u32>(),
    ) {
        for call in run_calls(&limit, &calls) {
            if !call.outcome.over {
                continue;
            }
            let ban = call.outcome.banned;
            let outcome = call.counter.would(Hits::Refund(refund.into()), call.now);
            let held = call.counter.would(Hits::Add(0), call.now).banned;
            prop_assert!(!outcome.over && outcome.banned == held, "{:?}", outcome);
            prop_assert!(held.is_zero() || held == ban);
            if !held.is_zero() {
                prop_assert_eq!(outcome.remaining, 0);
                prop_assert!(ban <= outcome.reset_after, "{:?}", outcome);
            }
        }
    }

    #[test]
    fn the_time_to_pass_again_accounts_for_the_ban(limit in penalties(), calls in calls(true, 30)) {
        properties::next_pass_is_exact(&limit, &calls);
    }

    #[test]
    fn a_look_never_starts_a_ban(limit in penalties(), calls in calls(true, 30)) {
        properties::has_no_effect(&limit, &calls, |call| call.hits == Hits::Add(0));
    }
}
