//! Charges that are settled once it is known what becomes of their calls.

use redis::Cmd;

use super::{decide::arguments, jitter::Jitter, lua_script};
use crate::{
    limit::{Hits, Window, step},
    store::{Charge, EXPIRY_SLACK, script::Settlement},
    time::Timestamp,
};

/// The source of the script.
pub(super) fn source() -> String {
    lua_script::source(&[include_str!("lua/records.lua"), include_str!("lua/settle.lua")])
}

/// The command that settles `charges`, and begins with `begin`.
pub(super) fn ask(
    begin: [&str; 2],
    charges: &[(&Charge, Settlement, Timestamp)],
    jitter: Jitter,
) -> Cmd {
    let mut call = Cmd::new();
    call.arg(&begin).arg(charges.len());
    for (charge, ..) in charges {
        call.arg(charge.counter.key.as_bytes());
    }
    call.arg(EXPIRY_SLACK.as_millis()).arg(Window::MAX_SECONDS * 1_000);
    for &(charge, settlement, now) in charges {
        let (how, amount, told) = match settlement {
            Settlement::Count(id, hits) => ("c", id, [hits.signed(), 0, 0]),
            Settlement::More(hits) => ("m", 0, [hits.signed(), 0, 0]),
            Settlement::Release(id) => ("r", id, [0; 3]),
            Settlement::GiveBack(hits, told) => {
                ("b", hits, step::snapshot_numbers(told).map(u64::cast_signed))
            }
            Settlement::Set(hits) => ("s", hits.min(Hits::MAX), [0; 3]),
        };
        let shared = if charge.limit.algorithm.info().window_in_key { "w" } else { "" };
        call.arg(now.as_micros()).arg(format!("{how}{shared}"));
        call.arg(charge.limit.algorithm.info().lua).arg(charge.limit.penalty.as_micros());
        call.arg(jitter.draw().unwrap_or_default()).arg(amount);
        for number in told {
            call.arg(number);
        }
        arguments(&mut call, charge, now);
    }
    call
}
