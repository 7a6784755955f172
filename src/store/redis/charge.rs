//! Calls of every kind.

use redis::{Cmd, Value};

use super::{change, jitter::Jitter, kept, number};
use crate::{
    limit::{
        Algorithm, Limit, SKEW, Window,
        bucket::{self, Scale},
        leases, sliding_window,
        step::{Answer, Told},
    },
    store::{Charge, Consume, GRACE, Outcomes, StoreError},
    time::Timestamp,
};

pub(super) const SOURCE: &str = include_str!("lua/charge.lua");

/// One call: its charges, and its moment.
pub(super) type Call<'a> = (&'a [Charge], Timestamp);

/// The command that makes `calls`, and begins with `begin`.
pub(super) fn ask(begin: [&str; 2], calls: &[Call<'_>], jitter: Jitter) -> Cmd {
    let charges = || calls.iter().flat_map(|(charges, _)| charges.iter());
    let count = charges().count();
    let names = charges().map(|it| it.counter.key.as_bytes().len()).sum::<usize>();
    let room = begin[1].len() + 2 * names + 160 * (1 + count);
    let mut call = Cmd::with_capacity(8 + 2 * calls.len() + 16 * count, room);
    call.arg(&begin);
    let bans = charges().filter(|it| it.counter.ban.is_some()).count();
    call.arg(count + bans);
    for charge in charges() {
        call.arg(charge.counter.key.as_bytes());
        if let Some(ban) = &charge.counter.ban {
            call.arg(ban.as_bytes());
        }
    }
    call.arg(GRACE.as_millis()).arg(SKEW.as_micros()).arg(Window::LONGEST * 1_000);
    for &(charges, now) in calls {
        call.arg(now.as_micros()).arg(charges.len());
        for charge in charges {
            call.arg(algorithm(&charge.limit)).arg(flags(charge)).arg(change(charge));
            call.arg(penalty(charge)).arg(jitter.draw().unwrap_or_default());
            arguments(&mut call, charge, now);
        }
    }
    call
}

/// What the script calls the algorithm.
const fn algorithm(limit: &Limit) -> &'static str {
    match limit.algorithm {
        Algorithm::FixedWindow { .. } => "fixed_window",
        Algorithm::SlidingWindow => "sliding_window",
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => "bucket",
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => "leases",
    }
}

fn flags(charge: &Charge) -> String {
    let flags = [
        (charge.asks(), 'a'),
        (charge.consume == Consume::AllOrNothing, 'n'),
        (charge.consume == Consume::IfRefused, 'i'),
        (charge.enforced, 'e'),
        (charge.refused, 'r'),
    ];
    flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect()
}

/// In microseconds; 0 if no ban is kept.
fn penalty(charge: &Charge) -> u128 {
    charge.counter.ban.as_ref().map_or(0, |_| charge.limit.penalty.as_micros())
}

/// The arguments of the algorithm, and first how many they are.
fn arguments(call: &mut Cmd, charge: &Charge, now: Timestamp) {
    let Charge { limit, counter, .. } = charge;
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            call.arg(3).arg(limit.requests).arg(u8::from(count_denied)).arg(kept(charge, now));
        }
        Algorithm::SlidingWindow => {
            let length = counter.span.end.since(counter.span.start);
            call.arg(4).arg(limit.requests).arg(counter.span.start.as_micros());
            call.arg(length.as_micros()).arg((length + SKEW).as_micros());
        }
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let scale = Scale::of(limit);
            let Scale { tick, cost, drain, capacity } = scale;
            call.arg(7).arg(scale.ticks(now)).arg(scale.next(now)).arg(tick);
            call.arg(cost).arg(drain).arg(capacity).arg(scale.skew());
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            call.arg(2).arg(limit.requests).arg(leases::lease(limit).as_micros());
        }
    }
}

/// What an answer, which any server may have written, says of the charges: one
/// element for each.
pub(super) fn read(
    charges: &[Charge],
    answer: &[Value],
    now: Timestamp,
) -> Result<Outcomes, StoreError> {
    let outcome = |(charge, element): (&Charge, &Value)| {
        let (answer, made) = one(charge, element).ok_or_else(|| {
            let key = charge.counter.key.as_bytes().escape_ascii();
            StoreError::Failed(format!("the answer for `{key}` does not say what became of it"))
        })?;
        Ok(charge.outcome(answer, made, now))
    };
    charges.iter().zip(answer).map(outcome).collect()
}

/// The answer for one charge, and whether it was made.
fn one(charge: &Charge, element: &Value) -> Option<(Answer, bool)> {
    let Value::Array(numbers) = element else { return None };
    let numbers: Vec<u64> = numbers.iter().map(number).collect::<Option<_>>()?;
    let (&[passes, made, banned], state) = numbers.split_first_chunk()?;
    let moment = Timestamp::from_micros;
    let told = match (charge.limit.algorithm, state) {
        (Algorithm::FixedWindow { .. }, &[count]) => Told::Count(count),
        (Algorithm::SlidingWindow, &[start, before, current]) => {
            Told::Window(sliding_window::State { start: moment(start), before, current })
        }
        (Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. }, &[tick, level]) => {
            let scale = Scale::of(&charge.limit);
            let level = level.min(scale.capacity);
            Told::Bucket(bucket::State { tick, level, cost: scale.cost })
        }
        (Algorithm::SlidingLog | Algorithm::Concurrency { .. }, &[held, free, last]) => {
            Told::Leases(leases::Summary { held, free: moment(free), last: moment(last) })
        }
        _ => return None,
    };
    Some((Answer { passes: passes == 1, banned: moment(banned), told }, made == 1))
}
