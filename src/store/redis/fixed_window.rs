//! Calls that only count in fixed windows, as Envoy's reference service does: the
//! fast path. Any client may INCRBY these counters.

use super::{change, kept};
use crate::{
    limit::{
        fixed_window::step,
        step::{Answer, Told},
    },
    rules::counter_key::CounterKey,
    store::{Charge, Outcomes, StoreError},
    time::Timestamp,
};

pub(super) const SOURCE: &str = include_str!("lua/fixed_window.lua");

/// What the script is to know of a charge.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) key: CounterKey,
    /// Hits; below 0 if they are given back.
    pub(super) change: i64,
    /// How long the counter is kept, in milliseconds.
    pub(super) kept: u64,
}

impl Plain {
    pub(super) fn of(charge: &Charge, now: Timestamp) -> Self {
        let kept = kept(charge, now);
        Self { key: charge.counter.key.clone(), change: change(charge), kept }
    }
}

/// Whether the script can make `charge`.
pub(super) fn suffices(charge: &Charge) -> bool {
    charge.counts_denied() && charge.counter.ban.is_none() && !charge.depends()
}

/// What became of `charges`, if the counters were these before.
pub(super) fn read(
    charges: &[Charge],
    before: &[Option<u64>],
    now: Timestamp,
) -> Result<Outcomes, StoreError> {
    let outcome = |(charge, before): (&Charge, &Option<u64>)| {
        let before = before.ok_or_else(|| {
            let key = charge.counter.key.as_bytes().escape_ascii();
            StoreError::Failed(format!("`{key}` is not a counter; expected an integer there"))
        })?;
        let (after, passes) = step(before, charge.hits, charge.limit.requests, true);
        let banned = Timestamp::default();
        Ok(charge.outcome(Answer { passes, banned, told: Told::Count(after) }, true, now))
    };
    charges.iter().zip(before).map(outcome).collect()
}
