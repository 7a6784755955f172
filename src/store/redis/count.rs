//! The fast path: hits that are only counted in fixed windows, in the key and value format of
//! Envoy's reference service. Any client may INCRBY these counters.

use super::call::{ChargeReply, ChargeResult, HeldHits};
use crate::{
    counter::CounterKey,
    limit::{
        fixed_window::{State, step},
        step::{Snapshot, StepResult},
    },
    store::{Charge, EXPIRY_SLACK, StoreError},
    time::Timestamp,
};

/// The script for counters that the commands INCRBY and SET cannot handle.
pub(super) const SOURCE: &str = include_str!("lua/count.lua");

/// The change of one counter.
#[derive(Clone, Debug)]
pub(super) struct FixedWindowHits {
    pub(super) key: CounterKey,
    /// Below 0 for a refund.
    pub(super) hits: i64,
    /// The time until the key expires.
    pub(super) ttl_millis: u64,
}

impl FixedWindowHits {
    pub(super) fn new(charge: &Charge, now: Timestamp) -> Self {
        let ttl = (charge.counter.span.end.since(now) + EXPIRY_SLACK).as_micros();
        let ttl_millis = u64::try_from(ttl.div_ceil(1_000)).unwrap_or(u64::MAX);
        Self { key: charge.counter.key.clone(), hits: charge.hits.signed(), ttl_millis }
    }
}

/// The state of a counter when its charge arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterBefore {
    Hits(u64),
    /// Other calls hold hits of the counter. The charge was not counted.
    Held,
}

/// Returns true if the fast path can make `charge`.
pub(super) fn is_count_only(charge: &Charge) -> bool {
    charge.counts_denied() && charge.limit.penalty.is_zero() && !charge.depends_on_others()
}

/// The reply to `charge`; `before` is `None` if the value of its key is not a counter.
pub(super) fn charge_reply(
    charge: &Charge,
    before: Option<CounterBefore>,
) -> Result<Option<ChargeReply>, StoreError> {
    match before {
        Some(CounterBefore::Hits(before)) => {
            let (count, passes) = step(before, charge.hits, charge.limit.requests, true);
            let never = Timestamp::default();
            let snapshot = Snapshot::Count(State { start: never, count });
            let step = StepResult { passes, banned_until: never, snapshot };
            let result = ChargeResult { step, applied: true };
            let held = HeldHits::default();
            Ok(Some(ChargeReply { if_granted: result, if_refused: result, held }))
        }
        Some(CounterBefore::Held) => Ok(None),
        None => {
            let key = charge.counter.key.as_bytes().escape_ascii();
            let reason = format!("`{key}` is not a counter; expected an integer there");
            Err(StoreError::Failed(reason))
        }
    }
}
