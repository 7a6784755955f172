//! Calls of every kind, as the script has them that decides.

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{
    call::{ChargeReplies, ChargeReply},
    jitter::Jitter,
    lua_script,
    replies::number,
};
use crate::{
    limit::{
        Window,
        step::{self, StepResult},
    },
    store::{Charge, Consume, EXPIRY_SLACK, Enforced, StoreError, script::Holder},
    time::Timestamp,
};

/// One call: its charges, its moment, and who holds what depends on charges elsewhere.
pub(super) type Call<'a> = (&'a [Charge], Timestamp, Option<Holder>);

/// The source of the script.
pub(super) fn source() -> String {
    let [lone, records, charge] = [
        include_str!("lua/lone.lua"),
        include_str!("lua/records.lua"),
        include_str!("lua/charge.lua"),
    ];
    lua_script::source(&[lone, records, charge])
}

/// The command that makes `calls`, and begins with `begin`.
pub(super) fn ask(begin: [&str; 2], calls: &[Call<'_>], jitter: Jitter) -> Cmd {
    let charges = || calls.iter().flat_map(|(charges, ..)| charges.iter());
    let count = charges().count();
    let names = charges().map(|it| it.counter.key.as_bytes().len()).sum::<usize>();
    let room = begin[1].len() + names + 160 * (1 + count);
    let mut call = Cmd::with_capacity(8 + 3 * calls.len() + 16 * count, room);
    call.arg(&begin).arg(count);
    for charge in charges() {
        call.arg(charge.counter.key.as_bytes());
    }
    call.arg(EXPIRY_SLACK.as_millis()).arg(Window::MAX_SECONDS * 1_000);
    let hold_for =
        calls.iter().filter_map(|(_, now, holder)| Some(holder.as_ref()?.until.since(*now)));
    call.arg(hold_for.max().unwrap_or_default().as_micros());
    for &(charges, now, holder) in calls {
        call.arg(now.as_micros()).arg(charges.len()).arg(holder.map_or(0, |it| it.id));
        for charge in charges {
            call.arg(jitter.draw().unwrap_or_default());
            call.arg(charge.limit.algorithm.info().lua).arg(flags(charge));
            call.arg(charge.hits.signed()).arg(charge.limit.penalty.as_micros());
            arguments(&mut call, charge, now);
        }
    }
    call
}

/// The arguments of the algorithm, and first how many they are.
pub(super) fn arguments(call: &mut Cmd, charge: &Charge, now: Timestamp) {
    let arguments = step::arguments(&charge.limit, charge.counter.span, now);
    call.arg(arguments.len());
    for argument in arguments {
        call.arg(argument);
    }
}

fn flags(charge: &Charge) -> u64 {
    let flags = [
        !charge.is_refund(),
        charge.consume == Consume::AllOrNothing,
        charge.consume == Consume::IfRefused,
        charge.enforced == Enforced::Yes,
        charge.refused,
        charge.counts_denied(),
        charge.limit.algorithm.info().window_in_key,
    ];
    let quota = match charge.enforced {
        Enforced::Quota(number) => 1 + number as u64,
        Enforced::No | Enforced::Yes => 0,
    };
    let flags = flags.iter().rev().fold(0, |sum, set| 2 * sum + u64::from(*set));
    flags + 128 * quota
}

/// What an answer, which any server may have written, says of the charges: one
/// element for each.
pub(super) fn read(
    charges: &[Charge],
    answer: &[Value],
    holds: bool,
) -> Result<ChargeReplies, StoreError> {
    let mut answers = ChargeReplies::new();
    for (charge, element) in charges.iter().zip(answer) {
        let answer = one(charge, element, holds).ok_or_else(|| {
            let key = charge.counter.key.as_bytes().escape_ascii();
            StoreError::Failed(format!("the answer for `{key}` makes no sense"))
        })?;
        answers.push(answer);
    }
    Ok(answers)
}

/// The answer for one charge of a call that may hold hits. Within that, none if it
/// depends on what others hold.
fn one(charge: &Charge, element: &Value, holds: bool) -> Option<Option<ChargeReply>> {
    let Value::Array(elements) = element else { return None };
    let mut numbers = SmallVec::<[u64; 10]>::new();
    for element in elements {
        numbers.push(number(element)?);
    }
    let (&[verdict, made, banned], states) = numbers.split_first_chunk()?;
    let (state, flags, refused) = match holds {
        false => (states, made, states),
        true => {
            let (state, rest) = states.split_at_checked(states.len() / 2)?;
            let (flags, refused) = rest.split_first()?;
            (state, *flags, refused)
        }
    };
    let banned = Timestamp::from_micros(banned);
    let answer = |passes, state| {
        Some(StepResult {
            passes,
            banned_until: banned,
            snapshot: step::parse_snapshot(&charge.limit, state)?,
        })
    };
    let passes = verdict == 1;
    let passes_refused = if holds { flags & 8 != 0 } else { passes };
    let answered = ChargeReply {
        answer: answer(passes, state)?,
        made: made == 1,
        refused: (answer(passes_refused, refused)?, flags & 1 != 0),
        waits: (flags & 2 != 0, flags & 4 != 0),
    };
    match verdict {
        0 | 1 => Some(Some(answered)),
        2 => Some(None),
        _ => None,
    }
}
