//! Properties of all algorithms.

use std::time::Duration;

use proptest::prelude::*;
use tollgate::limit::{Algorithm, Hits, Limit};

use crate::{
    counter::Counter,
    random_calls::{
        Call, END, Record, any_limit, calls, counts_denied, limit_without_counted_denials, limits,
        run_calls,
    },
};

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// A client passes again exactly at the announced time and not before.
pub(crate) fn next_pass_is_exact(limit: &Limit, calls: &[Call]) {
    for call in run_calls(limit, calls) {
        if call.outcome.over {
            continue;
        }
        let wait = call.outcome.retry_after.expect("a request that passed may pass again");
        if let Hits::Refund(_) = call.hits {
            assert_eq!(wait, Duration::ZERO, "{call:?}");
            continue;
        }
        if !ends_before_expiry(call.now, wait) {
            continue;
        }
        let then = call.now + micros(wait);
        let pass = |at| !call.counter.would(call.hits, at).over;
        assert!(pass(then), "refused at the announced time: {call:?}");
        assert!(wait.is_zero() || !pass(then - 1), "passes before the announced time: {call:?}");
    }
}

/// Whether the wait ends before anything expires.
fn ends_before_expiry(now: u64, wait: Duration) -> bool {
    wait < Duration::from_micros(END) && now + micros(wait) < END
}

pub(crate) fn remaining_is_exact(limit: &Limit, calls: &[Call]) {
    for call in run_calls(limit, calls) {
        let remaining = call.outcome.remaining.into();
        let pass = |hits| call.counter.would_pass(hits, call.now);
        assert!(remaining == 0 || pass(remaining), "{remaining} do not pass after {call:?}");
        assert!(!pass(remaining + 1), "more than {remaining} pass after {call:?}");
        let all = call.outcome.remaining == limit.capacity();
        assert!(call.outcome.over || all == (call.outcome.used == 0), "{call:?}");
    }
}

pub(crate) fn retry_after_is_exact(limit: &Limit, calls: &[Call]) {
    for call in run_calls(limit, calls) {
        if !call.outcome.over {
            continue;
        }
        let never = u64::from(limit.capacity()) < call.hits.requested();
        let Some(wait) = call.outcome.retry_after else {
            assert!(never, "{call:?}");
            continue;
        };
        let pass = |at| !call.counter.would(call.hits, at).over;
        if counts_denied(limit) && never {
            continue;
        }
        assert!(!never && wait > Duration::ZERO, "{call:?}");
        if !ends_before_expiry(call.now, wait) {
            continue;
        }
        let then = call.now + micros(wait);
        assert!(pass(then), "refused at the announced time: {call:?}");
        assert!(!pass(then - 1), "passes before the announced time: {call:?}");
    }
}

pub(crate) fn reset_after_is_exact(limit: &Limit, calls: &[Call], hits: u64) {
    for call in run_calls(limit, calls) {
        if !ends_before_expiry(call.now, call.outcome.reset_after) {
            continue;
        }
        let then = call.now + micros(call.outcome.reset_after);
        let mut new = Counter::new(limit);
        let mut counter = call.counter.clone();
        for (hits, at) in [(hits, then), (1, then + 1), (limit.capacity().into(), then + 2)] {
            let (ours, theirs) =
                (counter.charge(Hits::Add(hits), at), new.charge(Hits::Add(hits), at));
            assert_eq!(ours, theirs, "not like an unused counter after {call:?}");
        }
        let peek = |at| call.counter.would(Hits::Add(0), at);
        // A fixed window ends even if it was never used.
        let fixed = matches!(limit.algorithm, Algorithm::FixedWindow { .. });
        if call.now < then && (0 < call.outcome.used || !fixed && peek(call.now).over) {
            let earlier = peek(then - 1);
            assert!(earlier.over || 0 < earlier.used, "unused before the reset, after {call:?}");
        }
    }
}

/// Repeats the calls without those that `skip` selects, and compares the others.
pub(crate) fn has_no_effect(limit: &Limit, calls: &[Call], skip: impl Fn(&Record) -> bool) {
    let mut counter = Counter::new(limit);
    for call in run_calls(limit, calls) {
        if skip(&call) {
            continue;
        }
        assert_eq!(counter.charge(call.hits, call.now), call.outcome, "{call:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn exactly_the_remaining_hits_pass(limit in any_limit(), calls in calls(true, 30)) {
        remaining_is_exact(&limit, &calls);
    }

    #[test]
    fn a_refused_call_passes_exactly_after_retry_after(limit in any_limit(), calls in calls(true, 30)) {
        retry_after_is_exact(&limit, &calls);
    }

    #[test]
    fn a_call_passes_again_exactly_at_the_announced_time(
        limit in any_limit(), calls in calls(true, 30),
    ) {
        next_pass_is_exact(&limit, &calls);
    }

    #[test]
    fn the_full_limit_is_available_exactly_after_reset_after(
        limit in any_limit(), calls in calls(true, 20), hits in 0..1_000_u64,
    ) {
        reset_after_is_exact(&limit, &calls, hits);
    }

    #[test]
    fn a_refused_call_costs_nothing(limit in limit_without_counted_denials(), calls in calls(true, 40)) {
        has_no_effect(&limit, &calls, |call| call.outcome.over);
    }

    #[test]
    fn a_look_changes_nothing(limit in any_limit(), calls in calls(true, 40)) {
        has_no_effect(&limit, &calls, |call| call.hits == Hits::Add(0));
        for call in run_calls(&limit, &calls) {
            let mut counter = call.counter.clone();
            let look = counter.charge(Hits::Add(0), call.now + 1);
            // A state without effect may have expired.
            if look.reset_after > Duration::ZERO {
                prop_assert_eq!(counter.states(), call.counter.states());
            }
        }
    }

    #[test]
    fn more_hits_than_the_capacity_never_pass_and_cost_nothing(
        limit in limit_without_counted_denials(), calls in calls(true, 20), more in 1..=u64::MAX,
    ) {
        for call in run_calls(&limit, &calls) {
            let mut counter = call.counter.clone();
            let hits = u64::from(limit.capacity()).saturating_add(more);
            let outcome = counter.charge(Hits::Add(hits), call.now);
            prop_assert!(outcome.over && !outcome.counted);
            prop_assert_eq!(outcome.retry_after, None);
            prop_assert_eq!(counter.states(), call.counter.states());
        }
    }

    #[test]
    fn a_refund_returns_no_more_than_was_charged(
        limit in any_limit(), calls in calls(true, 30), refund in any::<u32>(),
    ) {
        for call in run_calls(&limit, &calls) {
            let before = call.counter.would(Hits::Add(0), call.now);
            for refund in [0, 1, refund.into(), before.used, u64::MAX] {
                let after = call.counter.would(Hits::Refund(refund), call.now);
                prop_assert!(!after.over);
                prop_assert!(before.remaining <= after.remaining);
                let most = u64::from(before.remaining).saturating_add(refund);
                prop_assert!(u64::from(after.remaining) <= most);
                if before.used <= refund {
                    let weighed = limit.algorithm.name() == "sliding_window";
                    prop_assert!(after.used == 0 || weighed && refund < u64::MAX);
                }
            }
        }
    }

    #[test]
    fn a_limit_of_zero_refuses_everything(limit in any_limit(), calls in calls(true, 20)) {
        let limit = Limit { requests: 0, ..limit };
        for call in run_calls(&limit, &calls) {
            prop_assert!(call.outcome.over || call.hits.requested() == 0, "{call:?}");
        }
    }

    #[test]
    fn a_changed_limit_is_applied_soon(
        (limit, other) in prop::sample::select(vec![
            "fixed_window", "fixed_window_without_denied", "sliding_window", "sliding_log", "token_bucket", "concurrency",
        ]).prop_flat_map(|algorithm| (limits(algorithm), limits(algorithm))),
        before in calls(true, 20), after in calls(true, 20), more in 0..2_u64,
    ) {
        let mut other = Limit { window: limit.window.clone(), ..other };
        if let Algorithm::Concurrency { .. } = limit.algorithm {
            // Permits that are implausibly long are dropped.
            other.algorithm = limit.algorithm;
        }
        let Some(last) = run_calls(&limit, &before).pop() else { return Ok(()) };
        let mut counter = Counter { limit: other.clone(), ..last.counter };
        let look = counter.would(Hits::Add(0), last.now);
        prop_assert!(look.remaining <= other.capacity());
        // The properties hold from the first call on.
        let remaining = look.remaining.into();
        prop_assert!(remaining == 0 || counter.would_pass(remaining, last.now));
        prop_assert!(!counter.would_pass(remaining + 1, last.now));
        let mut now = last.now;
        for (pause, amount) in after {
            now = crate::random_calls::wait(&counter, None, now, pause);
            let hits = crate::random_calls::hits_of(&counter, amount, now);
            let outcome = counter.charge(hits, now);
            prop_assert!(outcome.over || hits.requested() <= other.capacity().into());
            if ends_before_expiry(now, outcome.reset_after) {
                let then = now + micros(outcome.reset_after) + more;
                let capacity = u64::from(other.capacity());
                prop_assert!(capacity == 0 || counter.would_pass(capacity, then));
            }
        }
    }
}
