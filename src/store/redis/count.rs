//! Calls that only count in fixed windows, as Envoy's reference service does: the
//! fast path. Any client may INCRBY these counters.

use super::call::{ChargeReplies, ChargeReply};
use crate::{
    counter::CounterKey,
    limit::{
        fixed_window::{State, step},
        step::{Snapshot, StepResult},
    },
    store::{Charge, EXPIRY_SLACK, StoreError},
    time::Timestamp,
};

pub(super) const SOURCE: &str = include_str!("lua/count.lua");

/// What the script is to know of a charge.
#[derive(Clone, Debug)]
pub(super) struct FixedWindowHits {
    pub(super) key: CounterKey,
    /// Hits; below 0 if they are given back.
    pub(super) change: i64,
    /// How long the counter is kept, in milliseconds.
    pub(super) kept: u64,
}

impl FixedWindowHits {
    pub(super) fn of(charge: &Charge, now: Timestamp) -> Self {
        let kept = kept(charge, now);
        Self { key: charge.counter.key.clone(), change: charge.hits.signed(), kept }
    }
}

/// What the script has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The counter before.
    Count(u64),
    /// Others hold hits there. Nothing was counted.
    Held,
}

/// Whether the script can make `charge`.
pub(super) fn suffices(charge: &Charge) -> bool {
    charge.counts_denied() && charge.limit.penalty.is_zero() && !charge.depends_on_others()
}

/// What became of `charges`, if this was found for each.
pub(super) fn read(
    charges: &[Charge],
    found: &[Option<Found>],
) -> Result<ChargeReplies, StoreError> {
    let mut answers = ChargeReplies::new();
    for (charge, found) in charges.iter().zip(found) {
        let answer = match found {
            Some(Found::Count(before)) => {
                let (count, passes) = step(*before, charge.hits, charge.limit.requests, true);
                let told = Snapshot::Count(State { start: Timestamp::default(), count });
                let answer =
                    StepResult { passes, banned_until: Timestamp::default(), snapshot: told };
                Some(ChargeReply {
                    answer,
                    made: true,
                    refused: (answer, true),
                    waits: (false, false),
                })
            }
            Some(Found::Held) => None,
            None => {
                let key = charge.counter.key.as_bytes().escape_ascii();
                let why = format!("`{key}` is not a counter; expected an integer there");
                return Err(StoreError::Failed(why));
            }
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// The time in milliseconds for which the counter of a fixed window is kept from `now` on.
fn kept(charge: &Charge, now: Timestamp) -> u64 {
    let micros = (charge.counter.span.end.since(now) + EXPIRY_SLACK).as_micros();
    u64::try_from(micros.div_ceil(1_000)).unwrap_or(u64::MAX)
}
