//! Settlements of earlier charges: the twin of `redis/lua/settle.lua`.

use super::record::Record;
use crate::{
    limit::{
        Hits,
        hits::{Amount, LimitCheck},
        step::{self, Grant, Snapshot},
    },
    store::Charge,
    time::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Settlement {
    /// Removes the hold of the call with this id, and counts or refunds `hits` in its place.
    CountHold { id: u64, hits: Hits },
    /// Counts or refunds more hits if the last settlement of the counter found its hold: a call
    /// holds the sum of several charges to a counter.
    CountMore(Hits),
    /// Removes the hold of the call with this id.
    ReleaseHold { id: u64 },
    /// Gives hits back that were granted with this snapshot.
    Refund { hits: u64, snapshot: Snapshot },
    /// Replaces the record by one with this many hits.
    Set(u64),
    /// Deletes the record.
    Erase,
}

/// Settles one charge in `record`, and returns true if that changed it. `found_hold` is the
/// memory from one settlement of the counter to the next, for [`Settlement::CountMore`].
pub(crate) fn settle(
    record: &mut Record,
    charge: &Charge,
    settlement: Settlement,
    now: Timestamp,
    found_hold: &mut bool,
) -> bool {
    match settlement {
        Settlement::CountHold { id, hits } => {
            *found_hold = remove_hold(record, id);
            if !*found_hold {
                return false;
            }
            count(record, charge, hits, now);
        }
        Settlement::ReleaseHold { id } => {
            *found_hold = remove_hold(record, id);
            if !*found_hold {
                return false;
            }
        }
        Settlement::CountMore(hits) => {
            if !*found_hold {
                return false;
            }
            count(record, charge, hits, now);
        }
        Settlement::Refund { hits, snapshot } => {
            let Some(state) = &record.state else { return false };
            let grant = Grant { hits, snapshot };
            let state = step::undo(&charge.limit, charge.counter.span, state, grant, now);
            let Some(state) = state else { return false };
            record.state = Some(state);
            record.drop_ended(&charge.limit, now);
        }
        Settlement::Set(hits) => {
            *record = Record::default();
            count(record, charge, Hits::Add(hits), now);
        }
        Settlement::Erase => *record = Record::default(),
    }
    record.drop_old_holds(now);
    true
}

/// Returns true if there was such a hold.
fn remove_hold(record: &mut Record, id: u64) -> bool {
    let before = record.holds.len();
    record.holds.retain(|hold| hold.id != id);
    record.holds.len() < before
}

/// Counts hits without a check of the limit.
fn count(record: &mut Record, charge: &Charge, hits: Hits, now: Timestamp) {
    let amount = Amount { hits, check: LimitCheck::Skip };
    let state = record.state.clone();
    let step = step::step_with(&charge.limit, charge.counter.span, state, amount, now);
    if let Some(state) = step.state {
        record.state = Some(state);
        record.drop_ended(&charge.limit, now);
    }
}
