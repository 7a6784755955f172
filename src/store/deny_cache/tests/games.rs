//! The same history with the cache and without it.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{limit::tally, store::EXPIRY_SLACK};

const COUNTERS: usize = 12;

/// The limit of a counter after so many changes. It never returns to an earlier
/// one. That of a window that counts what it refuses stays as it is.
fn limit(counter: usize, changes: u32) -> Limit {
    let algorithm = match counter % 6 {
        0 => Algorithm::FixedWindow { count_denied: true },
        1 => Algorithm::FixedWindow { count_denied: false },
        2 => Algorithm::SlidingWindow,
        3 => Algorithm::SlidingLog,
        4 => Algorithm::TokenBucket { burst: 3 + changes },
        _ => Algorithm::Concurrency { lease: Duration::from_secs(2) },
    };
    let changes = if is_counting(counter) { 0 } else { changes };
    let penalty = if counter < 6 { Duration::ZERO } else { 700 * MILLI };
    Limit { algorithm, penalty, ..Limit::fixed(2 + changes, window(2)) }
}

fn is_counting(counter: usize) -> bool {
    counter.is_multiple_of(6)
}

#[derive(Clone, Debug)]
enum Move {
    Wait(Duration),
    Back(Duration),
    Change,
    /// By the instance with the cache, or by the other one.
    Call(bool, Vec<Part>),
}

/// A counter, hits (given back below 0), what a refused call consumes, enforced.
type Part = (usize, i64, Consume, Enforced);

fn part() -> impl Strategy<Value = Part> {
    let hits = prop_oneof![8 => Just(1_i64), 3 => 2..5_i64, 1 => Just(0), 1 => -3..0_i64];
    // Few counters at a time, or none would be refused twice.
    let counter = prop_oneof![0..COUNTERS, 0..COUNTERS / 4];
    let consume = prop_oneof![
        4 => Just(Consume::Independent),
        1 => Just(Consume::AllOrNothing),
        1 => Just(Consume::IfRefused),
    ];
    let one = prop_oneof![4 => Just(Enforced::Yes), 1 => Just(Enforced::No)];
    let enforced = prop_oneof![2 => one, 1 => (0..2_usize).prop_map(Enforced::Quota)];
    (counter, hits, consume, enforced)
}

fn game() -> impl Strategy<Value = Vec<Move>> {
    let times = prop_oneof![
        Just(Duration::from_micros(1)),
        (0..400_u64).prop_map(Duration::from_millis),
        (0..3_000_000_u64).prop_map(Duration::from_micros),
    ];
    let call = (prop::bool::weighted(0.7), vec(part(), 1..4));
    let single = (prop::bool::weighted(0.7), part().prop_map(|it| vec![it]));
    let step = prop_oneof![
        3 => times.clone().prop_map(Move::Wait),
        1 => times.prop_map(Move::Back),
        1 => Just(Move::Change),
        8 => call.prop_map(|(here, parts)| Move::Call(here, parts)),
        12 => single.prop_map(|(here, parts)| Move::Call(here, parts)),
    ];
    vec(step, 1..150)
}

/// Plays `moves` twice and returns how many charges the cache has answered in all,
/// and how many in calls of which it sent the rest. If `alone`, nobody else uses
/// the store and the clock may step back.
///
/// Hits are given back by the instance with the cache only, and never to a
/// window that counts what it refuses.
fn play(moves: &[Move], alone: bool) -> Result<[usize; 2], TestCaseError> {
    let (with, without) = (Shared::new(), Shared::new());
    let cache = DenyCache::new(with.clone(), 1 << 20);
    let (mut now, mut changes, mut answered) = (NOON, 0, [0, 0]);
    let (mut latest, mut stepped) = (now, false);
    for it in moves {
        latest = latest.max(now);
        match it {
            Move::Wait(time) => now = now.plus(*time),
            Move::Back(time) if alone => {
                now = back(latest, *time);
                stepped = true;
            }
            Move::Back(_) => {}
            Move::Change => changes += 1,
            Move::Call(here, parts) => {
                let charge = |&(counter, hits, consume, enforced): &Part| {
                    let hits = if is_counting(counter) { hits.abs() } else { hits };
                    let amount = hits.unsigned_abs();
                    let hits = if hits < 0 { Hits::Refund(amount) } else { Hits::Add(amount) };
                    let limit = limit(counter, changes);
                    let charge = charge(&counter.to_string(), &limit, hits, now);
                    Charge { consume, enforced, ..charge }
                };
                let charges: Vec<_> = parts.iter().map(charge).collect();
                let here = *here || alone || charges.iter().any(|it| it.is_refund());
                let outcomes =
                    if here { make(&cache, &charges, now) } else { make(&with, &charges, now) };
                let expected = make(&without, &charges, now);
                let known = outcomes.iter().filter(|it| it.cached).count();
                answered[0] += known;
                answered[1] += if known < charges.len() { known } else { 0 };
                for ((charge, outcome), expected) in charges.iter().zip(&outcomes).zip(&expected) {
                    let step = if stepped { EXPIRY_SLACK / 2 } else { Duration::ZERO };
                    compare(charge, (outcome, expected), alone, step)?;
                }
            }
        }
    }
    Ok(answered)
}

/// Further back than that, and each store may have forgotten other counters.
fn back(latest: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_micros(latest.as_micros() - micros(time.min(EXPIRY_SLACK / 2)))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// Once the clock has stepped back, what is known of a penalty may end earlier than it
/// does, by no more than this `step`.
fn compare(
    charge: &Charge,
    (outcome, expected): (&Outcome, &Outcome),
    alone: bool,
    step: Duration,
) -> Result<(), TestCaseError> {
    let told = |it: &Outcome| (it.over, it.retry_after.is_some());
    prop_assert_eq!(told(outcome), told(expected), "{:?}", charge);
    let early = outcome.cached && !charge.limit.penalty.is_zero();
    let early = if early { step } else { Duration::ZERO };
    let waits = |it: &Outcome| [it.reset_after, it.retry_after.unwrap_or_default(), it.banned];
    for (found, expected) in waits(outcome).into_iter().zip(waits(expected)) {
        let right = found <= expected && expected <= found + early;
        prop_assert!(right, "{:?}, expected {:?}: {:?}", found, expected, charge);
    }
    let hits = charge.hits.requested();
    let tally = |it: &Outcome| tally(charge.limit.capacity(), hits, it, 0.8);
    prop_assert_eq!(tally(outcome), tally(expected), "{:?}", charge);
    // What others have used since is not known here. It decides nothing.
    if alone || !outcome.cached {
        prop_assert_eq!(outcome.remaining, expected.remaining, "{:?}", charge);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nobody_can_tell_that_there_is_a_cache(moves in game()) {
        play(&moves, true)?;
    }

    #[test]
    fn nobody_is_refused_or_let_pass_because_another_instance_has_a_cache(moves in game()) {
        play(&moves, false)?;
    }
}

#[test]
fn the_games_are_about_the_cache() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let mut answered = || {
        let moves = game().new_tree(&mut runner).unwrap().current();
        play(&moves, false).unwrap()
    };
    let [total, partly] = (0..100)
        .map(|_| answered())
        .fold([0, 0], |[total, partly], more| [total + more[0], partly + more[1]]);
    assert!(total > 300 && partly > 100, "{total}, {partly}");
}
