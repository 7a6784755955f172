//! Tests of refunds for callers that did not get their grant in time.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Hits, below 0 for a refund, and the time in microseconds since the charge before.
type Move = (i64, i64);

fn moves(back: bool) -> impl Strategy<Value = Vec<Move>> {
    let pauses = prop_oneof![
        3 => Just(0_i64),
        3 => 0..2_000_000_i64,
        1 => 0..70_000_000_i64,
        u32::from(back) => -900_000..0_i64,
    ];
    vec((-2..4_i64, pauses), 0..12)
}

/// Windows, permits and bucket drains begin and end within the history.
fn limit() -> impl Strategy<Value = Limit> {
    let seconds = prop_oneof![Just(Unit::Second), Just(Unit::Minute)];
    (0..limits().len(), 1..8_u32, seconds, any::<bool>()).prop_map(
        |(which, requests, unit, penalty)| {
            let Limit { algorithm, .. } = limits()[which].clone();
            let algorithm = match algorithm {
                Algorithm::Concurrency { .. } => Algorithm::Concurrency { lifetime: 2 * SECOND },
                other => other,
            };
            let penalty = if penalty { Duration::from_millis(300) } else { Duration::ZERO };
            Limit { algorithm, penalty, ..Limit::fixed(requests, Window::new(unit)) }
        },
    )
}

fn shifted(now: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_add_signed(micros))
}

/// A charge to one counter at `now`.
fn at(limit: &Limit, hits: i64, now: Timestamp) -> Charge {
    let amount = hits.unsigned_abs();
    let hits = if hits < 0 { Hits::Refund(amount) } else { Hits::Add(amount) };
    let counter = KeyFormat::default().counter(b"a", [].into_iter(), limit, now);
    Charge { counter, hits, ..charge("a", limit, 0, Consume::Independent) }
}

/// The outcomes of all possible charges to a counter at `now`.
fn observe(counters: &Counters, limit: &Limit, now: Timestamp) -> Vec<(ChargeVerdict, Outcome)> {
    let most = i64::from(limit.capacity()) + 1;
    (0..=most).map(|hits| Counters(counters.0.clone()).charge(&at(limit, hits, now), now)).collect()
}

/// The number of charges that are granted at `now`.
fn room(counters: &Counters, limit: &Limit, now: Timestamp) -> usize {
    observe(counters, limit, now).iter().filter(|(_, it)| !it.over).count()
}

/// Makes the charges of `history`, and then one of `hits`. Returns the counter before and
/// after, the charge, its refund and its time, if the hits were granted.
fn granted(
    limit: &Limit,
    history: &[Move],
    hits: i64,
) -> Option<([Counters; 2], Charge, Settlement, Timestamp)> {
    let (mut counters, mut now) = (Counters::default(), NOON);
    for (hits, pause) in history {
        now = shifted(now, *pause);
        counters.charge(&at(limit, *hits, now), now);
    }
    let before = Counters(counters.0.clone());
    let charge = at(limit, hits, now);
    let attempt = counters.run(None, std::slice::from_ref(&charge), now)[0];
    let passed = !attempt.outcome(&charge, now).over;
    let settlement = Settlement::Refund { hits: hits.unsigned_abs(), snapshot: attempt.after };
    passed.then_some(([before, counters], charge, settlement, now))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_refund_undoes_its_grant(
        limit in limit(),
        history in moves(true),
        hits in 1..4_i64,
        late in prop_oneof![Just(0), 0..3_000_000_i64, 0..130_000_000_i64],
        then in 0..70_000_000_i64,
    ) {
        let Some((counters, charge, settlement, now)) = granted(&limit, &history, hits) else {
            return Ok(());
        };
        let ([without, mut with], late) = (counters, shifted(now, late));
        with.settle(&charge, settlement, late);
        for moment in [late, shifted(late, then)] {
            prop_assert_eq!(observe(&with, &limit, moment), observe(&without, &limit, moment));
        }
    }

    /// Other charges come between the grant and its refund.
    #[test]
    fn what_is_given_back_is_not_the_hits_of_others(
        limit in limit(),
        history in moves(true),
        hits in 1..4_i64,
        others in moves(false),
        then in 0..70_000_000_i64,
    ) {
        let Some((counters, charge, settlement, mut now)) = granted(&limit, &history, hits) else {
            return Ok(());
        };
        let [mut without, mut with] = counters;
        for (hits, pause) in others {
            now = shifted(now, pause);
            let other = at(&limit, hits.abs(), now);
            if !Counters(with.0.clone()).charge(&other, now).1.over {
                with.charge(&other, now);
                without.charge(&other, now);
            }
        }
        with.settle(&charge, settlement, now);
        let bucket = matches!(with.record(&charge).state, Some(State::Bucket(_)));
        for moment in [now, shifted(now, then)] {
            // A bucket does not refund hits that have drained.
            if bucket {
                let rooms = [&with, &without].map(|counters| room(counters, &limit, moment));
                prop_assert!(rooms[0] <= rooms[1], "{:?}", rooms);
            } else {
                prop_assert_eq!(observe(&with, &limit, moment), observe(&without, &limit, moment));
            }
        }
    }
}

/// Its ticks are longer than a microsecond.
#[test]
fn a_coarse_bucket_refunds_no_more_than_was_granted() {
    let algorithm = Algorithm::TokenBucket { burst: 3_999_999_937 };
    let limit = Limit { algorithm, ..Limit::fixed(3_999_999_937, Window::new(Unit::Year)) };
    for micros in 0..3_000 {
        let (mut counters, now) = (Counters::default(), shifted(NOON, 7 * micros));
        let look = |counters: &mut Counters, now| counters.charge(&at(&limit, 0, now), now).1.used;
        counters.charge(&at(&limit, 1_000, NOON), NOON);
        let charge = at(&limit, 1_000_000, now);
        let without = look(&mut counters, shifted(now, 1_000));
        let snapshot = counters.run(None, std::slice::from_ref(&charge), now)[0].after;
        assert!(counters.settle(&charge, Settlement::Refund { hits: 1_000_000, snapshot }, now));
        let with = look(&mut counters, shifted(now, 1_000));
        assert!((without..=without + 1).contains(&with), "{with} {without} {micros}");
    }
}

#[test]
fn a_missing_counter_gets_no_refund() {
    for limit in limits() {
        let (_, free) = dependent_and_free(&limit, 1);
        let snapshot = Counters::default().run(None, std::slice::from_ref(&free), NOON)[0].after;
        let mut counters = Counters::default();
        assert!(!counters.settle(&free, Settlement::Refund { hits: 1, snapshot }, NOON), "{limit}");
        assert_eq!(counters.record(&free), Record::default());
    }
}

/// The passage of time alone is no refund.
#[test]
fn a_refund_of_no_hits_changes_nothing() {
    for limit in limits() {
        let (mut counters, later) = (Counters::default(), NOON.plus(59 * SECOND));
        let charge = at(&limit, 1, NOON);
        let snapshot = counters.run(None, std::slice::from_ref(&charge), NOON)[0].after;
        let before = counters.record(&charge);
        assert!(
            !counters.settle(&charge, Settlement::Refund { hits: 0, snapshot }, later),
            "{limit}"
        );
        assert_eq!(counters.record(&charge), before, "{limit}");
    }
}
