//! Charges that are settled once it is known what becomes of their calls.

use redis::Cmd;

use super::{charge::arguments, jitter::Jitter, script};
use crate::{
    limit::{Hits, Window, step},
    store::{Charge, GRACE, script::Settlement},
    time::Timestamp,
};

/// The source of the script.
pub(super) fn source() -> String {
    script(include_str!("lua/settle.lua"))
}

/// What is left of one call: its charges, how each is settled, and when.
pub(super) type Settled<'a> = (&'a [Charge], &'a [Settlement], Timestamp);

/// The command that settles what is left of `calls`, and begins with `begin`.
pub(super) fn ask(begin: [&str; 2], calls: &[Settled<'_>], jitter: Jitter) -> Cmd {
    let charges = || calls.iter().flat_map(|(charges, ..)| charges.iter());
    let mut call = Cmd::new();
    call.arg(&begin).arg(charges().count());
    for charge in charges() {
        call.arg(charge.counter.key.as_bytes());
    }
    call.arg(GRACE.as_millis()).arg(Window::LONGEST * 1_000);
    for &(charges, settlements, now) in calls {
        let mut first = "n";
        for (charge, settlement) in charges.iter().zip(settlements) {
            one(&mut call, (charge, *settlement), now, (first, jitter));
            first = "";
        }
    }
    call
}

/// The arguments for one charge; `first` says whether it is the first of its call.
fn one(
    call: &mut Cmd,
    (charge, settlement): (&Charge, Settlement),
    now: Timestamp,
    (first, jitter): (&str, Jitter),
) {
    let (how, amount, told) = match settlement {
        Settlement::Count(id, hits) => ("c", id, [hits.change(), 0, 0]),
        Settlement::Release(id) => ("r", id, [0; 3]),
        Settlement::GiveBack(hits, told) => ("b", hits, step::numbers(told).map(u64::cast_signed)),
        Settlement::Set(hits) => ("s", hits.min(Hits::MAX), [0; 3]),
    };
    let shared = if charge.limit.algorithm.facts().named_window { "w" } else { "" };
    call.arg(now.as_micros()).arg(format!("{how}{shared}{first}"));
    call.arg(charge.limit.algorithm.facts().lua).arg(charge.limit.penalty.as_micros());
    call.arg(jitter.draw().unwrap_or_default()).arg(amount);
    for number in told {
        call.arg(number);
    }
    arguments(call, charge, now);
}
