//! What has been taken ahead: how much, when more is taken, and who spends it.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::{
    limit::{Limit, Span},
    rules::counter_key::CounterKey,
    store::Charge,
    time::Timestamp,
};

/// What was taken ahead and lasts longer was more than needed.
const BUSY: Duration = Duration::from_millis(100);
/// At most one of so many of the hits that are left is taken ahead.
///
/// So what one instance holds is never more than a tenth of what the limit had
/// left when it was taken, and n instances that take one after the other leave
/// (9/10)ⁿ of that to those who ask. It shrinks with what is left: the last nine
/// hits of a limit are never taken ahead. A lone busy instance still asks only
/// about once for each tenth that it uses up.
const PART: u64 = 10;
/// Of how many counters hits are taken ahead at most; the others are exact.
const MOST: usize = 10_000;

/// The leases of one instance, by counter.
#[derive(Debug, Default)]
pub struct Leases {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    leases: HashMap<CounterKey, Lease, RandomState>,
    /// How many leases there have been.
    born: u64,
    /// Nothing is taken ahead any more.
    ended: bool,
}

/// What is known of one counter.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// Tells it from others of the same counter, before it and after.
    id: u64,
    /// The window.
    pub(super) span: Span,
    /// The limit of the last call that has asked.
    pub(super) limit: Limit,
    /// How much has been taken and not been spent.
    left: u64,
    /// The counter when that was taken, without what was taken beyond the limit.
    count: u64,
    /// How much was taken beyond the limit, and so cannot be spent.
    beyond: u64,
    /// How much was taken last.
    size: u64,
    /// When.
    taken: Timestamp,
    /// Somebody takes more just now.
    taking: bool,
}

impl Lease {
    fn new(id: u64, charge: &Charge) -> Self {
        Self {
            id,
            span: charge.counter.span,
            limit: charge.limit.clone(),
            left: 0,
            count: 0,
            beyond: 0,
            size: 0,
            taken: Timestamp::default(),
            taking: false,
        }
    }

    /// Whether the limit of `charge` allows `hits` of what was taken ahead.
    ///
    /// They were counted within the limit that held then. A lower one holds from
    /// now on: it has to be asked about first, since others may have used it up,
    /// and then has to have room for what was counted up to these hits.
    fn allows(&self, charge: &Charge, hits: u64, now: Timestamp) -> bool {
        let requests = charge.limit.requests;
        self.span == charge.counter.span
            && now < self.span.end
            && self.limit.requests <= requests
            && hits <= self.left
            && self.used().saturating_add(hits) <= u64::from(requests)
    }

    /// The counter, without what has not been spent.
    fn used(&self) -> u64 {
        self.count.saturating_sub(self.left)
    }

    /// How much to take with a call that asks now.
    fn next_size(&self, charge: &Charge, now: Timestamp) -> u64 {
        let most = u64::from(charge.limit.ahead);
        // What it knows of the counter is as old as that.
        let pause = now.since(self.taken).as_micros() / BUSY.as_micros();
        let wanted = match u32::try_from(pause) {
            Ok(0) => (2 * self.size).clamp(1, most.max(1)),
            Ok(pause) => self.size.checked_shr(pause).unwrap_or(0),
            Err(_) => 0,
        };
        let room = u64::from(charge.limit.requests).saturating_sub(self.count);
        wanted.min(room / PART).min(most.saturating_sub(self.left))
    }

    /// How much its counter counts that nobody has used.
    pub(super) fn unused(&self) -> u64 {
        self.left + self.beyond
    }
}

impl Kept {
    /// The lease for `charge`; none if nothing may be taken ahead.
    fn lease(&mut self, charge: &Charge, now: Timestamp) -> Option<&mut Lease> {
        let key = &charge.counter.key;
        let known = self.leases.get(key).is_some_and(|it| now < it.span.end);
        if self.ended || !known && !self.has_room(key, now) {
            return None;
        }
        if !known {
            self.born += 1;
            self.leases.insert(key.clone(), Lease::new(self.born, charge));
        }
        // In the reference service's format windows of different lengths may share a
        // name: what was taken in the other one is kept until its end.
        self.leases.get_mut(key).filter(|it| it.span == charge.counter.span && !it.taking)
    }

    fn has_room(&mut self, key: &CounterKey, now: Timestamp) -> bool {
        if MOST <= self.leases.len() && !self.leases.contains_key(key) {
            self.leases.retain(|_, it| now < it.span.end);
        }
        self.leases.len() < MOST || self.leases.contains_key(key)
    }
}

impl Leases {
    /// Spends `hits` of what was taken ahead: the counter as it is told of them.
    /// None if they have to be asked for.
    pub(super) fn spend(&self, charge: &Charge, hits: u64, now: Timestamp) -> Option<u64> {
        let mut kept = self.kept.lock();
        let lease = kept.leases.get_mut(&charge.counter.key)?;
        if !lease.allows(charge, hits, now) {
            return None;
        }
        lease.left -= hits;
        Some(lease.used())
    }

    /// How much to take ahead now; nothing if others do so already.
    pub(super) fn begin<'a>(&'a self, charge: &'a Charge, now: Timestamp) -> Taking<'a> {
        let mut kept = self.kept.lock();
        let Some(lease) = kept.lease(charge, now) else {
            return Taking { leases: self, charge, id: 0, size: 0 };
        };
        lease.size = lease.next_size(charge, now);
        lease.taking = true;
        lease.taken = now;
        Taking { leases: self, charge, id: lease.id, size: lease.size }
    }

    /// Ends what was taken ahead of a counter that somebody has set to another
    /// value: it is not counted any more. Another instance may spend what it has
    /// taken until the window ends.
    pub(super) fn forget(&self, key: &CounterKey) {
        self.kept.lock().leases.remove(key);
    }

    /// Ends all leases, for ever: those whose windows have not ended.
    pub(super) fn end(&self, now: Timestamp) -> Vec<(CounterKey, Lease)> {
        let mut kept = self.kept.lock();
        kept.ended = true;
        let leases = std::mem::take(&mut kept.leases).into_iter();
        leases.filter(|(_, it)| now < it.span.end && 0 < it.unused()).collect()
    }
}

/// Somebody who asks, and takes hits ahead. If the answer never comes, they are
/// lost.
pub(super) struct Taking<'a> {
    leases: &'a Leases,
    charge: &'a Charge,
    /// 0 if others take.
    id: u64,
    /// How much is taken.
    pub(super) size: u64,
}

impl Taking<'_> {
    /// The counter stood at `before`, and at `own` after the hits of the call.
    pub(super) fn taken(&self, before: u64, own: u64) {
        self.update(|lease| {
            let requests = self.charge.limit.requests;
            let good = u64::from(requests).saturating_sub(own).min(self.size);
            // Of what was taken, a counter that has lost hits counts no more than that.
            let left = lease.left.min(before);
            lease.beyond = lease.beyond.min(before - left) + self.size - good;
            lease.left = left + good;
            lease.count = own + good;
            lease.limit.requests = requests;
        });
    }

    /// Changes the lease, if it is still the one for which this takes.
    fn update(&self, change: impl FnOnce(&mut Lease)) {
        if self.id == 0 {
            return;
        }
        let mut kept = self.leases.kept.lock();
        let lease = kept.leases.get_mut(&self.charge.counter.key);
        if let Some(lease) = lease.filter(|it| it.id == self.id) {
            change(lease);
        }
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.update(|lease| lease.taking = false);
    }
}
