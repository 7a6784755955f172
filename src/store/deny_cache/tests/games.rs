//! Random histories, played with the cache and without it.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{limit::tally, store::EXPIRY_SLACK};

const COUNTERS: usize = 12;

/// The limit of a counter after a number of changes. A change never restores an earlier
/// limit. The limit of a window that counts denied hits does not change.
fn limit(counter: usize, changes: u32) -> Limit {
    let algorithm = match counter % 6 {
        0 => Algorithm::FixedWindow { count_denied: true },
        1 => Algorithm::FixedWindow { count_denied: false },
        2 => Algorithm::SlidingWindow,
        3 => Algorithm::SlidingLog,
        4 => Algorithm::TokenBucket { burst: 3 + changes },
        _ => Algorithm::Concurrency { lifetime: Duration::from_secs(2) },
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
    /// True: by the instance with the cache. False: by another instance.
    Call(bool, Vec<GameCharge>),
}

#[derive(Clone, Debug)]
struct GameCharge {
    counter: usize,
    /// Below 0 for a refund.
    hits: i64,
    consume: Consume,
    enforced: Enforced,
}

fn game_charge() -> impl Strategy<Value = GameCharge> {
    let hits = prop_oneof![8 => Just(1_i64), 3 => 2..5_i64, 1 => Just(0), 1 => -3..0_i64];
    // Prefer few counters, so that some are denied repeatedly.
    let counter = prop_oneof![0..COUNTERS, 0..COUNTERS / 4];
    let consume = prop_oneof![
        4 => Just(Consume::Independent),
        1 => Just(Consume::AllOrNothing),
        1 => Just(Consume::IfRefused),
    ];
    let one = prop_oneof![4 => Just(Enforced::Yes), 1 => Just(Enforced::No)];
    let enforced = prop_oneof![2 => one, 1 => (0..2_usize).prop_map(Enforced::Quota)];
    (counter, hits, consume, enforced).prop_map(|(counter, hits, consume, enforced)| GameCharge {
        counter,
        hits,
        consume,
        enforced,
    })
}

fn game() -> impl Strategy<Value = Vec<Move>> {
    let times = prop_oneof![
        Just(Duration::from_micros(1)),
        (0..400_u64).prop_map(Duration::from_millis),
        (0..3_000_000_u64).prop_map(Duration::from_micros),
    ];
    let call = (prop::bool::weighted(0.7), vec(game_charge(), 1..4));
    let single = (prop::bool::weighted(0.7), game_charge().prop_map(|charge| vec![charge]));
    let step = prop_oneof![
        3 => times.clone().prop_map(Move::Wait),
        1 => times.prop_map(Move::Back),
        1 => Just(Move::Change),
        8 => call.prop_map(|(here, parts)| Move::Call(here, parts)),
        12 => single.prop_map(|(here, parts)| Move::Call(here, parts)),
    ];
    vec(step, 1..150)
}

/// Plays `moves` twice. Returns the number of charges answered from the cache, and how many
/// of them belong to calls whose other charges were sent. If `alone`, there is no other
/// instance, and the clock may step back.
///
/// Only the instance with the cache sends refunds, and never to a window that counts denied
/// hits.
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
                let charge = |&GameCharge { counter, hits, consume, enforced }: &GameCharge| {
                    let hits = if is_counting(counter) { hits.abs() } else { hits };
                    let amount = hits.unsigned_abs();
                    let hits = if hits < 0 { Hits::Refund(amount) } else { Hits::Add(amount) };
                    let limit = limit(counter, changes);
                    let charge = charge(&counter.to_string(), &limit, hits, now);
                    Charge { consume, enforced, ..charge }
                };
                let charges: Vec<_> = parts.iter().map(charge).collect();
                let here = *here || alone || charges.iter().any(|it| it.is_refund());
                let found = if here {
                    outcomes(&cache, &charges, now)
                } else {
                    outcomes(&with, &charges, now)
                };
                let expected = outcomes(&without, &charges, now);
                let known = found.iter().filter(|outcome| outcome.cached).count();
                answered[0] += known;
                answered[1] += if known < charges.len() { known } else { 0 };
                for ((charge, outcome), expected) in charges.iter().zip(&found).zip(&expected) {
                    let step = if stepped { EXPIRY_SLACK / 2 } else { Duration::ZERO };
                    compare(charge, (outcome, expected), alone, step)?;
                }
            }
        }
    }
    Ok(answered)
}

/// Steps back by less than [`EXPIRY_SLACK`]: after a larger step, the stores may have
/// removed different counters.
fn back(latest: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_micros(latest.as_micros() - micros(time.min(EXPIRY_SLACK / 2)))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// Compares the outcome with the one without the cache. After a clock has stepped back, a
/// cached penalty may end too early, by at most this `step`.
fn compare(
    charge: &Charge,
    (outcome, expected): (&Outcome, &Outcome),
    alone: bool,
    step: Duration,
) -> Result<(), TestCaseError> {
    let decision = |outcome: &Outcome| (outcome.over, outcome.retry_after.is_some());
    prop_assert_eq!(decision(outcome), decision(expected), "{:?}", charge);
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
    // A cached `remaining` lacks the hits that other instances have used since.
    if alone || !outcome.cached {
        prop_assert_eq!(outcome.remaining, expected.remaining, "{:?}", charge);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn outcomes_are_the_same_with_and_without_the_cache(moves in game()) {
        play(&moves, true)?;
    }

    #[test]
    fn decisions_are_the_same_while_another_instance_has_no_cache(moves in game()) {
        play(&moves, false)?;
    }
}

#[test]
fn the_games_use_the_cache() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let mut answered = || {
        let moves = game().new_tree(&mut runner).unwrap().current();
        play(&moves, false).unwrap()
    };
    let (mut total, mut partly) = (0, 0);
    for _ in 0..100 {
        let answered = answered();
        total += answered[0];
        partly += answered[1];
    }
    assert!(total > 300 && partly > 100, "{total}, {partly}");
}
