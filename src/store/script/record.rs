//! The value of a counter's key.

use std::time::Duration;

use crate::{
    limit::{Hits, Limit, step::State},
    time::Timestamp,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: Option<State>,
    /// The start of a ban, or the epoch.
    pub(crate) banned_since: Timestamp,
    pub(crate) holds: Vec<Hold>,
}

/// Hits that an undecided call holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// The id of the call; never 0.
    pub(crate) id: u64,
    pub(crate) hits: u64,
    /// The hold takes no room any more from then on.
    pub(crate) expires_at: Timestamp,
}

/// A call that holds the hits of charges that depend on charges elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: u64,
    pub(crate) expires_at: Timestamp,
}

/// The time for which a record keeps an expired hold: its hits can still be counted.
pub(crate) const HOLD_MEMORY: Duration = Duration::from_secs(50);

impl Hold {
    fn is_active(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    fn is_kept(&self, now: Timestamp) -> bool {
        now < self.expires_at.plus(HOLD_MEMORY)
    }
}

impl Record {
    /// The sum of the hits that calls other than that of `holder` hold.
    pub(super) fn held_by_others(&self, holder: Option<Holder>, now: Timestamp) -> u64 {
        let own_id = holder.map(|holder| holder.id);
        let mut sum = 0_u64;
        for hold in &self.holds {
            if hold.is_active(now) && Some(hold.id) != own_id {
                sum = sum.saturating_add(hold.hits);
            }
        }
        sum.min(Hits::MAX)
    }

    pub(super) fn active_holds(&self, now: Timestamp) -> usize {
        self.holds.iter().filter(|hold| hold.is_active(now)).count()
    }

    pub(super) fn drop_old_holds(&mut self, now: Timestamp) {
        self.holds.retain(|hold| hold.is_kept(now));
    }

    /// Drops old holds and an ended ban, before the record is written.
    pub(super) fn drop_ended(&mut self, limit: &Limit, now: Timestamp) {
        self.drop_old_holds(now);
        if self.banned_since.plus(limit.penalty) <= now {
            self.banned_since = Timestamp::default();
        }
    }
}
