//! Hits that are given back because nobody was told in time that they were granted.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Hits (given back below 0), and how long after the charge before: earlier below 0.
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

/// Windows, leases and the draining of buckets begin and end within the game.
fn limit() -> impl Strategy<Value = Limit> {
    let seconds = prop_oneof![Just(Unit::Second), Just(Unit::Minute)];
    (0..limits().len(), 1..8_u32, seconds, any::<bool>()).prop_map(
        |(which, requests, unit, penalty)| {
            let Limit { algorithm, .. } = limits()[which].clone();
            let algorithm = match algorithm {
                Algorithm::Concurrency { .. } => Algorithm::Concurrency { lease: 2 * SECOND },
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
    let counter = KeyFormat::default().key(b"a", [].into_iter(), limit, now);
    Charge { counter, hits, ..charge("a", limit, 0, Consume::Independent) }
}

/// What anybody can tell of a counter at `now`.
fn seen(kept: &Kept, limit: &Limit, now: Timestamp) -> Vec<(Verdict, Outcome)> {
    let most = i64::from(limit.capacity()) + 1;
    (0..=most).map(|it| Kept(kept.0.clone()).one(&at(limit, it, now), now)).collect()
}

/// How many hits are granted at `now` at least.
fn room(kept: &Kept, limit: &Limit, now: Timestamp) -> usize {
    seen(kept, limit, now).iter().filter(|(_, it)| !it.over).count()
}

/// Plays `history`, and then grants `hits` if that is possible: the counter before and
/// after, the charge, what was told, and when.
fn granted(
    limit: &Limit,
    history: &[Move],
    hits: i64,
) -> Option<([Kept; 2], Charge, Settlement, Timestamp)> {
    let (mut kept, mut now) = (Kept::default(), NOON);
    for (hits, pause) in history {
        now = shifted(now, *pause);
        kept.one(&at(limit, *hits, now), now);
    }
    let before = Kept(kept.0.clone());
    let charge = at(limit, hits, now);
    let attempt = kept.run(None, std::slice::from_ref(&charge), now)[0];
    let passed = !attempt.outcome(&charge, now).over;
    let settlement = Settlement::Refund { hits: hits.unsigned_abs(), snapshot: attempt.after };
    passed.then_some(([before, kept], charge, settlement, now))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn what_is_given_back_was_never_granted(
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
            prop_assert_eq!(seen(&with, &limit, moment), seen(&without, &limit, moment));
        }
    }

    /// Those come while it is on its way.
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
            if !Kept(with.0.clone()).one(&other, now).1.over {
                with.one(&other, now);
                without.one(&other, now);
            }
        }
        with.settle(&charge, settlement, now);
        let bucket = matches!(with.of(&charge).state, Some(State::Bucket(_)));
        for moment in [now, shifted(now, then)] {
            // What a bucket has drained in their place stays drained.
            if bucket {
                let rooms = [&with, &without].map(|it| room(it, &limit, moment));
                prop_assert!(rooms[0] <= rooms[1], "{:?}", rooms);
            } else {
                prop_assert_eq!(seen(&with, &limit, moment), seen(&without, &limit, moment));
            }
        }
    }
}

/// Where it counts time in ticks of more than a microsecond.
#[test]
fn a_coarse_bucket_gives_back_no_more_than_was_granted() {
    let algorithm = Algorithm::TokenBucket { burst: 3_999_999_937 };
    let limit = Limit { algorithm, ..Limit::fixed(3_999_999_937, Window::new(Unit::Year)) };
    for micros in 0..3_000 {
        let (mut kept, now) = (Kept::default(), shifted(NOON, 7 * micros));
        let look = |kept: &mut Kept, now| kept.one(&at(&limit, 0, now), now).1.used;
        kept.one(&at(&limit, 1_000, NOON), NOON);
        let charge = at(&limit, 1_000_000, now);
        let without = look(&mut kept, shifted(now, 1_000));
        let told = kept.run(None, std::slice::from_ref(&charge), now)[0].after;
        assert!(kept.settle(&charge, Settlement::Refund { hits: 1_000_000, snapshot: told }, now));
        let with = look(&mut kept, shifted(now, 1_000));
        assert!((without..=without + 1).contains(&with), "{with} {without} {micros}");
    }
}

#[test]
fn nothing_is_given_back_to_a_counter_that_is_not_there() {
    for limit in limits() {
        let (_, free) = two(&limit, 1);
        let told = Kept::default().run(None, std::slice::from_ref(&free), NOON)[0].after;
        let mut kept = Kept::default();
        assert!(
            !kept.settle(&free, Settlement::Refund { hits: 1, snapshot: told }, NOON),
            "{limit}"
        );
        assert_eq!(kept.of(&free), Record::default());
    }
}

/// Though time has passed.
#[test]
fn where_there_is_nothing_to_give_back_nothing_changes() {
    for limit in limits() {
        let (mut kept, later) = (Kept::default(), NOON.plus(59 * SECOND));
        let charge = at(&limit, 1, NOON);
        let told = kept.run(None, std::slice::from_ref(&charge), NOON)[0].after;
        let before = kept.of(&charge);
        assert!(
            !kept.settle(&charge, Settlement::Refund { hits: 0, snapshot: told }, later),
            "{limit}"
        );
        assert_eq!(kept.of(&charge), before, "{limit}");
    }
}
