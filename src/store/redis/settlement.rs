//! Settlements of charges, and their choice for the holds of a reservation.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::call::{ChargeReply, HoldAction, Moment};
use crate::{
    counter::CounterKey,
    store::{Charge, script::Settlement},
};

/// A charge and its settlement.
#[derive(Debug)]
pub(super) struct ChargeSettlement {
    pub(super) charge: Charge,
    pub(super) settlement: Settlement,
}

pub(super) type Settlements = SmallVec<[ChargeSettlement; 1]>;

/// Settlements of charges at one location, until they succeed or are given up.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    pub(super) settlements: Settlements,
    /// The start of the call whose charges are settled.
    pub(super) start: Moment,
    pub(super) deadline: Instant,
    /// Sent once the charges are settled, and dropped if they cannot be.
    pub(super) settled: Option<oneshot::Sender<()>>,
    /// The permits of the reservation, kept until all of it is settled.
    pub(super) permits: Option<Arc<OwnedSemaphorePermit>>,
}

/// The counters that a settlement changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CounterTotals {
    pub(super) all: u64,
    /// Those that get hits back.
    pub(super) refunded: u64,
}

impl PendingSettlement {
    pub(super) fn counters(&self) -> CounterTotals {
        let mut totals = CounterTotals::default();
        for ChargeSettlement { settlement, .. } in &self.settlements {
            match settlement {
                // The counter is that of an earlier settlement.
                Settlement::CountMore(_) => continue,
                Settlement::ReleaseHold { .. } | Settlement::Refund { .. } => totals.refunded += 1,
                Settlement::CountHold { .. } | Settlement::Set(_) | Settlement::Erase => {}
            }
            totals.all += 1;
        }
        totals
    }

    /// Returns true if a settlement that was made before changes nothing: holds have ids.
    pub(super) fn is_idempotent(&self) -> bool {
        for ChargeSettlement { settlement, .. } in &self.settlements {
            match settlement {
                Settlement::CountHold { .. }
                | Settlement::CountMore(_)
                | Settlement::ReleaseHold { .. } => {}
                Settlement::Refund { .. } | Settlement::Set(_) | Settlement::Erase => return false,
            }
        }
        true
    }
}

/// Collects the settlements of the holds of one call.
pub(super) struct HoldSettlements<'a> {
    holder_id: u64,
    action: HoldAction,
    settlements: Settlements,
    counters: HashSet<&'a CounterKey, RandomState>,
}

impl<'a> HoldSettlements<'a> {
    pub(super) fn new(holder_id: u64, action: HoldAction) -> Self {
        let (settlements, counters) = (Settlements::new(), HashSet::default());
        Self { holder_id, action, settlements, counters }
    }

    /// Adds a charge. Without a reply it may hold hits if it depends on other charges.
    pub(super) fn add(&mut self, charge: &'a Charge, reply: Option<&ChargeReply>) {
        let granted = self.action == HoldAction::Count;
        let (may_hold, count) = match reply {
            Some(ChargeReply { held, .. }) if granted => (held.any(), held.count_if_granted),
            Some(ChargeReply { held, .. }) => (held.any(), held.count_if_refused),
            None => (charge.depends_on_others() && charge.hits.signed() != 0, granted),
        };
        if !may_hold {
            return;
        }
        let id = self.holder_id;
        let is_first = self.counters.insert(&charge.counter.key);
        let settlement = match (is_first, count) {
            (true, true) => Settlement::CountHold { id, hits: charge.hits },
            (true, false) => Settlement::ReleaseHold { id },
            (false, true) => Settlement::CountMore(charge.hits),
            (false, false) => return,
        };
        self.settlements.push(ChargeSettlement { charge: charge.clone(), settlement });
    }

    pub(super) fn into_settlements(self) -> Settlements {
        self.settlements
    }
}
