//! The script that makes charges of any algorithm: its source, its arguments and its reply.

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::{
    call::{ChargeReplies, ChargeReply, ChargeResult, HeldHits},
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

#[derive(Clone, Copy, Debug)]
pub(super) struct DecideCall<'a> {
    pub(super) charges: &'a [Charge],
    pub(super) now: Timestamp,
    /// The holder of the hits of charges that depend on charges elsewhere.
    pub(super) holder: Option<Holder>,
}

pub(super) fn source() -> String {
    lua_script::source(&[
        include_str!("lua/single_charge.lua"),
        include_str!("lua/records.lua"),
        include_str!("lua/decide.lua"),
    ])
}

/// The command that runs `script` for `calls`, which are decided in order.
pub(super) fn command(script: [&str; 2], calls: &[DecideCall<'_>], jitter: Jitter) -> Cmd {
    let (mut charges, mut key_bytes, mut hold_micros) = (0, 0, 0);
    for call in calls {
        charges += call.charges.len();
        for charge in call.charges {
            key_bytes += charge.counter.key.as_bytes().len();
        }
        if let Some(holder) = call.holder {
            hold_micros = holder.expires_at.since(call.now).as_micros().max(hold_micros);
        }
    }
    let size = script[1].len() + key_bytes + 160 * (1 + charges);
    let mut command = Cmd::with_capacity(8 + 3 * calls.len() + 16 * charges, size);
    command.arg(&script).arg(charges);
    for call in calls {
        for charge in call.charges {
            command.arg(charge.counter.key.as_bytes());
        }
    }
    command.arg(EXPIRY_SLACK.as_millis()).arg(Window::MAX_SECONDS * 1_000).arg(hold_micros);
    for &DecideCall { charges, now, holder } in calls {
        let id = holder.map_or(0, |holder| holder.id);
        command.arg(now.as_micros()).arg(charges.len()).arg(id);
        for charge in charges {
            command.arg(jitter.draw().unwrap_or_default());
            command.arg(charge.limit.algorithm.info().lua).arg(flags(charge));
            command.arg(charge.hits.signed()).arg(charge.limit.penalty.as_micros());
            add_algorithm_arguments(&mut command, charge, now);
        }
    }
    command
}

/// Adds the number of the algorithm's arguments, and the arguments.
pub(super) fn add_algorithm_arguments(command: &mut Cmd, charge: &Charge, now: Timestamp) {
    let arguments = step::arguments(&charge.limit, charge.counter.span, now);
    command.arg(arguments.len());
    for argument in arguments {
        command.arg(argument);
    }
}

/// The flags of a charge, as lua/decide.lua documents them.
fn flags(charge: &Charge) -> u64 {
    let flags = [
        (1, !charge.is_refund()),
        (2, charge.consume == Consume::AllOrNothing),
        (4, charge.consume == Consume::IfRefused),
        (8, charge.enforced == Enforced::Yes),
        (16, charge.refused),
        (32, charge.counts_denied()),
        (64, charge.limit.algorithm.info().window_in_key),
    ];
    let mut sum = 0;
    for (flag, is_set) in flags {
        if is_set {
            sum += flag;
        }
    }
    match charge.enforced {
        Enforced::Quota(quota) => sum + 128 * (1 + quota as u64),
        Enforced::No | Enforced::Yes => sum,
    }
}

/// Parses one element for each of `charges`. `holds` is set if the call has a holder. Any
/// server may have written the reply, so it is checked.
pub(super) fn parse_reply(
    charges: &[Charge],
    elements: &[Value],
    holds: bool,
) -> Result<ChargeReplies, StoreError> {
    let mut replies = ChargeReplies::new();
    for (charge, element) in charges.iter().zip(elements) {
        match parse_element(charge, element, holds) {
            Some(Element::Decided(reply)) => replies.push(Some(reply)),
            Some(Element::Undecided) => replies.push(None),
            None => {
                let key = charge.counter.key.as_bytes().escape_ascii();
                return Err(StoreError::Failed(format!("the reply for `{key}` is malformed")));
            }
        }
    }
    Ok(replies)
}

enum Element {
    Decided(ChargeReply),
    /// The outcome depends on hits that other calls hold.
    Undecided,
}

/// Parses the reply to one charge, or returns `None` if it is malformed.
fn parse_element(charge: &Charge, element: &Value, holds: bool) -> Option<Element> {
    let Value::Array(elements) = element else { return None };
    let mut numbers = SmallVec::<[u64; 10]>::new();
    for element in elements {
        numbers.push(number(element)?);
    }
    let (&[verdict, applied, banned_until], states) = numbers.split_first_chunk()?;
    if verdict > 2 {
        return None;
    }
    let banned_until = Timestamp::from_micros(banned_until);
    let parser = StepParser { charge, banned_until };
    let passes = verdict == 1;
    let applied = applied == 1;
    let reply = if holds {
        let (state, rest) = states.split_at_checked(states.len() / 2)?;
        let (flags, state_if_refused) = rest.split_first()?;
        let has = |flag: u64| flags & flag != 0;
        ChargeReply {
            if_granted: parser.result(passes, applied, state)?,
            if_refused: parser.result(has(8), has(1), state_if_refused)?,
            held: HeldHits { count_if_granted: has(2), count_if_refused: has(4) },
        }
    } else {
        let result = parser.result(passes, applied, states)?;
        ChargeReply { if_granted: result, if_refused: result, held: HeldHits::default() }
    };
    if verdict == 2 { Some(Element::Undecided) } else { Some(Element::Decided(reply)) }
}

struct StepParser<'a> {
    charge: &'a Charge,
    banned_until: Timestamp,
}

impl StepParser<'_> {
    fn result(&self, passes: bool, applied: bool, state: &[u64]) -> Option<ChargeResult> {
        let snapshot = step::parse_snapshot(&self.charge.limit, state)?;
        let step = StepResult { passes, banned_until: self.banned_until, snapshot };
        Some(ChargeResult { step, applied })
    }
}
