//! Decisions of Envoy's reference service with a fixed window.

use std::time::Duration;

use tollgate::{
    limit::{
        Hits, Limit, Outcome, Unit, Window,
        fixed_window::{CountStep, State, step},
        step::{self, Snapshot, StepResult},
        tally,
    },
    time::Timestamp,
};

fn minutely(requests: u32) -> Limit {
    Limit::fixed(requests, Window::new(Unit::Minute))
}

/// The outcome of `hits` after which the counter has the value `after`.
fn outcome(limit: &Limit, hits: Hits, after: u64, micros: u64) -> Outcome {
    let now = Timestamp::from_micros(micros);
    let passed = matches!(hits, Hits::Refund(_)) || after <= limit.requests.into();
    counted(limit, hits, CountStep { count: after, passes: passed }, now)
}

fn counted(limit: &Limit, hits: Hits, counted: CountStep, now: Timestamp) -> Outcome {
    let CountStep { count, passes } = counted;
    let told = Snapshot::Count(State { start: Timestamp::default(), count });
    let answer = StepResult { passes, banned_until: Timestamp::default(), snapshot: told };
    step::outcome(limit, limit.window.span(now, 0), hits, answer, now)
}

#[test]
fn the_reference_vectors_hold() {
    // (limit, hits, counter after) -> (over, remaining, [near, over, within])
    let vectors = [
        ((15, 1, 11), (false, 4, [0, 0, 1])),
        ((15, 1, 13), (false, 2, [1, 0, 1])),
        ((15, 1, 16), (true, 0, [0, 1, 0])),
        ((20, 3, 5), (false, 15, [0, 0, 3])),
        ((8, 2, 7), (false, 1, [1, 0, 2])),
        ((20, 3, 19), (false, 1, [3, 0, 3])),
        ((20, 3, 22), (true, 0, [1, 2, 0])),
        ((20, 7, 22), (true, 0, [4, 2, 0])),
        ((10, 3, 30), (true, 0, [0, 3, 0])),
        ((10, 0, 11), (true, 0, [0, 0, 0])),
    ];
    for ((requests, hits, after), expected) in vectors {
        let stepped = step(after - hits, Hits::Add(hits), requests, true);
        assert_eq!(
            (stepped.count, stepped.passes),
            (after, !expected.0),
            "limit {requests}, hits {hits}"
        );
        let outcome = outcome(&minutely(requests), Hits::Add(hits), after, 1_000_000_000);
        let tally = tally(requests, hits, &outcome, 0.8);
        let actual = (outcome.over, outcome.remaining, [tally.near, tally.over, tally.within]);
        assert_eq!(actual, expected, "limit {requests}, hits {hits}, after {after}");
    }
}

#[test]
fn a_charge_that_is_not_counted_is_over_with_all_its_hits() {
    let limit = minutely(10);
    // Refused at 8 of 10. Nothing was counted because of `all_or_nothing`.
    let now = Timestamp::from_secs(0);
    let outcome = counted(&limit, Hits::Add(5), CountStep { count: 8, passes: false }, now);
    let tally = tally(10, 5, &outcome, 0.8);
    assert_eq!((tally.within, tally.near, tally.over), (0, 0, 5));
}

/// With `STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT` the reference service subtracts the
/// hits from a counter that does not include them, and the result may wrap.
#[test]
fn hits_that_pass_and_are_not_counted_are_near_as_in_the_reference() {
    // (limit, hits, counter) -> [near, over, within]
    for ((requests, hits, count), ratio, expected) in [
        ((15, 2, 13), 0.8, [1, 0, 2]),
        ((20, 2, 10), 0.8, [0, 0, 2]),
        ((10, 5, 0), 0.1, [0, 0, 5]),
        ((10, 5, 2), 0.1, [5, 0, 5]),
    ] {
        let outcome = outcome(&minutely(requests), Hits::Add(hits), count, 1_000_000_000);
        let tally = tally(requests, hits, &outcome, ratio);
        assert_eq!([tally.near, tally.over, tally.within], expected, "{hits} at {count}");
    }
}

#[test]
fn a_counter_stays_in_its_range() {
    assert_eq!(step(3, Hits::Refund(5), 10, true), CountStep { count: 0, passes: true });
    assert_eq!(
        step(Hits::MAX, Hits::Add(Hits::MAX), 10, true),
        CountStep { count: Hits::MAX, passes: false }
    );
    assert_eq!(step(7, Hits::Add(0), 10, true), CountStep { count: 7, passes: true });
    assert_eq!(step(7, Hits::Add(4), 10, false), CountStep { count: 7, passes: false });
}

#[test]
fn a_refund_is_never_over() {
    assert_eq!(step(5, Hits::Refund(1), 1, true), CountStep { count: 4, passes: true });
    assert!(!outcome(&minutely(1), Hits::Refund(1), 5, 0).over);
}

#[test]
fn a_window_resets_at_its_end_and_never_now() {
    let reset = |micros| outcome(&minutely(1), Hits::Add(1), 1, micros).reset_after;
    assert_eq!(reset(2_222_000_000), Duration::from_secs(58));
    assert_eq!(reset(2_279_999_999), Duration::from_micros(1));
    assert_eq!(reset(2_280_000_000), Duration::from_secs(60));
}
