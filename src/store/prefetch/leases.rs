//! What has been taken ahead, by counter, and who spends it.
//!
//! Counters are spread over shards, each behind a lock of its own that is held for a
//! look at one counter and, by a call that asks the store, at another in turn: that is
//! how those are forgotten whose windows have ended.
//!
//! A shard is bounded. One that is full forgets counters of which it holds nothing
//! and that have not been busy lately, for one of [`WAITING`] calls about counters
//! that it does not know. It never forgets hits that can still be spent: these would be
//! lost to the limit. So a new counter may find no room, and then each of its calls
//! asks, which is exact.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::lease::QuotaLease;
use crate::{counter::CounterKey, store::Charge, time::Timestamp};

/// Enough that two threads rarely want the same one.
const SHARDS: usize = 256;
/// How many counters a shard knows. One takes about 180 bytes and its name, of at
/// most 256 bytes: 30 MB for all shards at the very most.
const CAPACITY: usize = 256;
/// Of how many calls that find a shard full one makes room.
const WAITING: u32 = 8;
/// How many counters it looks at for that.
const TRIED: usize = 4;

/// The leases of one instance, by counter.
#[derive(Debug)]
pub struct QuotaLeases {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded at random, so that nobody can choose names that share a shard.
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    leases: IndexMap<CounterKey, QuotaLease, RandomState>,
    capacity: usize,
    /// How many leases there have been.
    born: u64,
    /// Where the next sweep begins.
    swept: usize,
    /// How many calls have found no room since one has made some.
    waiting: u32,
    /// Nothing is taken ahead any more.
    ended: bool,
}

impl Shard {
    fn new(capacity: usize, hasher: RandomState) -> Self {
        let leases = IndexMap::with_hasher(hasher);
        Self { leases, capacity, born: 0, swept: 0, waiting: 0, ended: false }
    }

    /// The lease for `charge`; none if nothing may be taken ahead.
    fn lease(&mut self, charge: &Charge, now: Timestamp) -> Option<&mut QuotaLease> {
        if self.ended {
            return None;
        }
        let key = &charge.counter.key;
        let known = self.leases.get(key).is_some_and(|it| !it.ended(now));
        self.sweep(1, |it| it.ended(now));
        if !known {
            self.leases.swap_remove(key);
            if !self.has_room(now) {
                return None;
            }
            self.born += 1;
            self.leases.insert(key.clone(), QuotaLease::new(self.born, charge));
        }
        // In the reference service's format windows of different lengths may share a
        // name: what was taken in the other one is kept until its end.
        self.leases.get_mut(key).filter(|it| it.span == charge.counter.span && !it.taking)
    }

    /// Whether there is room for another counter, now that its turn may have come.
    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.capacity <= self.leases.len() {
            self.waiting += 1;
            if self.waiting < WAITING {
                return false;
            }
            self.waiting = 0;
            self.sweep(TRIED, |it| it.is_idle(now));
        }
        self.leases.len() < self.capacity
    }

    /// Forgets those of the next `count` leases that are of no use.
    fn sweep(&mut self, count: usize, useless: impl Fn(&QuotaLease) -> bool) {
        for _ in 0..count {
            match self.leases.get_index(self.swept) {
                Some((_, it)) if useless(it) => {
                    self.leases.swap_remove_index(self.swept);
                }
                Some(_) => self.swept += 1,
                None => self.swept = 0,
            }
        }
    }
}

impl Default for QuotaLeases {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl QuotaLeases {
    /// No leases, and room for those of `capacity` counters in each shard.
    pub(super) fn new(capacity: usize) -> Self {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(capacity, hasher.clone())));
        Self { shards: shards.collect(), hasher }
    }

    /// The shard of a counter. Its map uses other bits of the hash.
    fn shard(&self, key: &CounterKey) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    /// Spends `hits` of what was taken ahead: the counter as it is told of them.
    /// None if they have to be asked for.
    pub(super) fn spend(&self, charge: &Charge, hits: u64, now: Timestamp) -> Option<u64> {
        let key = &charge.counter.key;
        let mut shard = self.shard(key).lock();
        let lease = shard.leases.get_mut(key)?;
        if !lease.allows(charge, hits, now) {
            return None;
        }
        lease.left -= hits;
        Some(lease.used())
    }

    /// How much to take ahead now; nothing if others do so already, or if there is no
    /// room for another counter.
    pub(super) fn begin<'a>(&'a self, charge: &'a Charge, now: Timestamp) -> Prefetch<'a> {
        let shard = self.shard(&charge.counter.key);
        let mut held = shard.lock();
        let Some(lease) = held.lease(charge, now) else {
            return Prefetch { shard, charge, id: 0, size: 0 };
        };
        lease.size = lease.next_size(charge, now);
        lease.taking = true;
        lease.taken = now;
        Prefetch { shard, charge, id: lease.id, size: lease.size }
    }

    /// Ends what was taken ahead of a counter that somebody has set to another
    /// value: it is not counted any more. Another instance may spend what it has
    /// taken until the window ends.
    pub(super) fn forget(&self, key: &CounterKey) {
        self.shard(key).lock().leases.swap_remove(key);
    }

    /// Ends all leases, for ever: those whose windows have not ended.
    pub(super) fn end(&self, now: Timestamp) -> Vec<(CounterKey, QuotaLease)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.ended = true;
            let leases = std::mem::take(&mut shard.leases).into_iter();
            all.extend(leases.filter(|(_, it)| !it.ended(now) && 0 < it.unused()));
        }
        all
    }

    /// How many counters are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|it| it.lock().leases.len()).sum()
    }
}

/// Somebody who asks, and takes hits ahead. If the answer never comes, they are
/// lost.
pub(super) struct Prefetch<'a> {
    shard: &'a Mutex<Shard>,
    charge: &'a Charge,
    /// 0 if others take, or if this has ended.
    id: u64,
    /// How much is taken.
    pub(super) size: u64,
}

impl Prefetch<'_> {
    /// The counter stood at `before`, and at `own` after the hits of the call.
    pub(super) fn taken(&mut self, before: u64, own: u64) {
        let (requests, size) = (self.charge.limit.requests, self.size);
        self.end(|lease| {
            let good = u64::from(requests).saturating_sub(own).min(size);
            // Of what was taken, a counter that has lost hits counts no more than that.
            let left = lease.left.min(before);
            lease.beyond = lease.beyond.min(before - left) + size - good;
            lease.left = left + good;
            lease.count = own + good;
            lease.limit.requests = requests;
        });
    }

    /// Changes the lease, if it is still the one for which this takes, and lets others
    /// take.
    fn end(&mut self, change: impl FnOnce(&mut QuotaLease)) {
        let id = std::mem::take(&mut self.id);
        if id == 0 {
            return;
        }
        let mut shard = self.shard.lock();
        let lease = shard.leases.get_mut(&self.charge.counter.key);
        if let Some(lease) = lease.filter(|it| it.id == id) {
            change(lease);
            lease.taking = false;
        }
    }
}

impl Drop for Prefetch<'_> {
    fn drop(&mut self) {
        self.end(|_| {});
    }
}
