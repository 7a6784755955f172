//! The replies to charges on the fast path.

use super::{
    call::{ChargeReply, ChargeResult, HeldHits},
    count::CounterBefore,
};
use crate::{
    limit::{
        fixed_window::{CountStep, State, step},
        step::{Snapshot, StepResult},
    },
    store::{Charge, StoreError},
    time::Timestamp,
};

/// The reply to `charge`; `before` is `None` if the value of its key is not a counter.
pub(super) fn charge_reply(
    charge: &Charge,
    before: Option<CounterBefore>,
) -> Result<Option<ChargeReply>, StoreError> {
    match before {
        Some(CounterBefore::Hits(before)) => {
            let CountStep { count, passes } =
                step(before, charge.hits, charge.limit.requests, true);
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
