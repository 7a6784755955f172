//! The script that settles charges of earlier calls: its source and its arguments.

use redis::Cmd;

use super::{decide::add_algorithm_arguments, jitter::Jitter, lua_script};
use crate::{
    limit::{Hits, Window, step},
    store::{Charge, EXPIRY_SLACK, script::Settlement},
    time::Timestamp,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct SettleCharge<'a> {
    pub(super) charge: &'a Charge,
    pub(super) settlement: Settlement,
    pub(super) now: Timestamp,
}

pub(super) fn source() -> String {
    lua_script::source(&[include_str!("lua/records.lua"), include_str!("lua/settle.lua")])
}

/// The command that runs `script` for `charges`, which are settled in order.
pub(super) fn command(script: [&str; 2], charges: &[SettleCharge<'_>], jitter: Jitter) -> Cmd {
    let mut command = Cmd::new();
    command.arg(&script).arg(charges.len());
    for SettleCharge { charge, .. } in charges {
        command.arg(charge.counter.key.as_bytes());
    }
    command.arg(EXPIRY_SLACK.as_millis()).arg(Window::MAX_SECONDS * 1_000);
    for &SettleCharge { charge, settlement, now } in charges {
        let info = charge.limit.algorithm.info();
        let Arguments { action, amount, numbers } = arguments(settlement);
        let shared = if info.window_in_key { "w" } else { "" };
        command.arg(now.as_micros()).arg(format!("{action}{shared}"));
        command.arg(info.lua).arg(charge.limit.penalty.as_micros());
        command.arg(jitter.draw().unwrap_or_default()).arg(amount);
        for number in numbers {
            command.arg(number);
        }
        add_algorithm_arguments(&mut command, charge, now);
    }
    command
}

/// The arguments of a settlement, as lua/settle.lua documents them.
struct Arguments {
    action: char,
    amount: u64,
    numbers: [i64; 3],
}

fn arguments(settlement: Settlement) -> Arguments {
    match settlement {
        Settlement::CountHold { id, hits } => {
            Arguments { action: 'c', amount: id, numbers: [hits.signed(), 0, 0] }
        }
        Settlement::CountMore(hits) => {
            Arguments { action: 'm', amount: 0, numbers: [hits.signed(), 0, 0] }
        }
        Settlement::ReleaseHold { id } => Arguments { action: 'r', amount: id, numbers: [0; 3] },
        Settlement::Refund { hits, snapshot } => {
            let numbers = step::snapshot_numbers(snapshot).map(u64::cast_signed);
            Arguments { action: 'b', amount: hits, numbers }
        }
        Settlement::Set(hits) => {
            Arguments { action: 's', amount: hits.min(Hits::MAX), numbers: [0; 3] }
        }
        Settlement::Erase => Arguments { action: 'e', amount: 0, numbers: [0; 3] },
    }
}
