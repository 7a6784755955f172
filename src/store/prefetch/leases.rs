//! The leases of all counters.
//!
//! They are divided into shards, each with a lock that is held while one counter is looked
//! up. A call that goes to the store also checks one other lease of its shard, in turn, and
//! removes it if its window has ended.
//!
//! The size of a shard is bounded. One of every [`MISSES_PER_SWEEP`] new counters that find
//! it full removes leases without unspent hits that have not been busy lately. Unspent hits
//! are never dropped, because the limit would lose them. So a new counter may find no room;
//! then all its calls go to the store, which is exact.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::lease::QuotaLease;
use crate::{counter::CounterKey, store::Charge, time::Timestamp};

/// Enough for two threads to need the same shard rarely.
const SHARDS: usize = 256;
/// The most leases in a shard. A lease takes about 180 bytes and its name, which has at
/// most 256 bytes: at most 30 MB for all shards.
const CAPACITY: usize = 256;
/// One of this many calls that find their shard full sweeps it.
const MISSES_PER_SWEEP: u32 = 8;
/// The number of leases that such a sweep checks.
const CHECKED_PER_SWEEP: usize = 4;

/// The leases of one instance, by counter.
#[derive(Debug)]
pub struct QuotaLeases {
    shards: Box<[Mutex<Shard>]>,
    /// Randomly seeded, so that clients cannot choose names that share a shard.
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    leases: IndexMap<CounterKey, QuotaLease, RandomState>,
    capacity: usize,
    /// The `id` of the newest lease.
    last_id: u64,
    /// The position at which the next sweep begins.
    cursor: usize,
    /// Calls that found no room since the last sweep for it.
    misses: u32,
    /// No leases are granted any more.
    closed: bool,
}

/// A lease that was removed, with its counter.
pub(super) struct ReturnedLease {
    pub(super) key: CounterKey,
    pub(super) lease: QuotaLease,
}

impl Shard {
    fn new(capacity: usize, hasher: RandomState) -> Self {
        let leases = IndexMap::with_hasher(hasher);
        Self { leases, capacity, last_id: 0, cursor: 0, misses: 0, closed: false }
    }

    /// The lease with which `charge` may prefetch; `None` if it must not prefetch.
    fn lease_for(&mut self, charge: &Charge, now: Timestamp) -> Option<&mut QuotaLease> {
        if self.closed {
            return None;
        }
        let key = &charge.counter.key;
        let exists = self.leases.get(key).is_some_and(|lease| !lease.has_ended(now));
        self.sweep(1, |lease| lease.has_ended(now));
        if !exists {
            self.leases.swap_remove(key);
            if !self.has_room(now) {
                return None;
            }
            self.last_id += 1;
            self.leases.insert(key.clone(), QuotaLease::new(self.last_id, charge));
        }
        let lease = self.leases.get_mut(key)?;
        // With reference keys, windows of different lengths may share a name. The lease of
        // the other window stays until that ends.
        if lease.span != charge.counter.span || lease.in_flight {
            return None;
        }
        Some(lease)
    }

    /// Checks for room for another counter, and sweeps a full shard now and then.
    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.capacity <= self.leases.len() {
            self.misses += 1;
            if self.misses < MISSES_PER_SWEEP {
                return false;
            }
            self.misses = 0;
            self.sweep(CHECKED_PER_SWEEP, |lease| lease.is_idle(now));
        }
        self.leases.len() < self.capacity
    }

    /// Checks the next `count` leases, and removes those that are `removable`.
    fn sweep(&mut self, count: usize, removable: impl Fn(&QuotaLease) -> bool) {
        for _ in 0..count {
            match self.leases.get_index(self.cursor) {
                Some((_, lease)) if removable(lease) => {
                    self.leases.swap_remove_index(self.cursor);
                }
                Some(_) => self.cursor += 1,
                None => self.cursor = 0,
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
    /// An empty table with room for `capacity` leases in each shard.
    pub(super) fn new(capacity: usize) -> Self {
        let hasher = RandomState::default();
        let mut shards = Vec::with_capacity(SHARDS);
        for _ in 0..SHARDS {
            shards.push(Mutex::new(Shard::new(capacity, hasher.clone())));
        }
        Self { shards: shards.into_boxed_slice(), hasher }
    }

    fn shard(&self, key: &CounterKey) -> &Mutex<Shard> {
        // The shard's map uses the other bits of the hash.
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    /// Spends `hits` of the counter's lease, and returns the value of the counter after
    /// them. `None` if the lease does not suffice, so that the store has to be called.
    pub(super) fn spend(&self, charge: &Charge, hits: u64, now: Timestamp) -> Option<u64> {
        let key = &charge.counter.key;
        let mut shard = self.shard(key).lock();
        let lease = shard.leases.get_mut(key)?;
        if !lease.allows(charge, hits, now) {
            return None;
        }
        lease.unspent -= hits;
        Some(lease.used())
    }

    /// Starts a prefetch. Its size is 0 if another call is prefetching, or if the shard
    /// has no room for another counter.
    pub(super) fn start_prefetch<'a>(&'a self, charge: &'a Charge, now: Timestamp) -> Prefetch<'a> {
        let shard = self.shard(&charge.counter.key);
        let mut locked = shard.lock();
        let Some(lease) = locked.lease_for(charge, now) else {
            return Prefetch { shard, charge, lease_id: 0, size: 0 };
        };
        lease.size = lease.next_size(charge, now);
        lease.in_flight = true;
        lease.prefetched_at = now;
        Prefetch { shard, charge, lease_id: lease.id, size: lease.size }
    }

    /// Drops the lease of a counter that was reset or set: its hits are not counted any
    /// more. Other instances keep their leases until the window ends.
    pub(super) fn drop_lease(&self, key: &CounterKey) {
        self.shard(key).lock().leases.swap_remove(key);
    }

    /// Removes all leases, stops granting new ones, and returns those with unused hits
    /// whose window has not ended.
    pub(super) fn close(&self, now: Timestamp) -> Vec<ReturnedLease> {
        let mut returned = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.closed = true;
            for (key, lease) in std::mem::take(&mut shard.leases) {
                if !lease.has_ended(now) && 0 < lease.unused() {
                    returned.push(ReturnedLease { key, lease });
                }
            }
        }
        returned
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().leases.len()).sum()
    }
}

/// A prefetch that waits for the store. If it is dropped without a reply, its hits are
/// lost.
pub(super) struct Prefetch<'a> {
    shard: &'a Mutex<Shard>,
    charge: &'a Charge,
    /// 0 if nothing is prefetched, or after the end.
    lease_id: u64,
    /// The number of prefetched hits.
    pub(super) size: u64,
}

impl Prefetch<'_> {
    /// Adds the prefetched hits to the lease. The counter was at `before`, and at `after`
    /// with the hits of the call.
    pub(super) fn finish(&mut self, before: u64, after: u64) {
        let (requests, size) = (self.charge.limit.requests, self.size);
        self.end(|lease| {
            let within_limit = u64::from(requests).saturating_sub(after).min(size);
            // If the counter is lower than the unspent hits, the store has lost some.
            let unspent = lease.unspent.min(before);
            lease.over_limit = lease.over_limit.min(before - unspent) + size - within_limit;
            lease.unspent = unspent + within_limit;
            lease.count = after + within_limit;
            lease.limit.requests = requests;
        });
    }

    /// Updates the lease, if it still exists, and allows the next prefetch.
    fn end(&mut self, update: impl FnOnce(&mut QuotaLease)) {
        let id = std::mem::take(&mut self.lease_id);
        if id == 0 {
            return;
        }
        let mut shard = self.shard.lock();
        if let Some(lease) = shard.leases.get_mut(&self.charge.counter.key)
            && lease.id == id
        {
            update(lease);
            lease.in_flight = false;
        }
    }
}

impl Drop for Prefetch<'_> {
    fn drop(&mut self) {
        self.end(|_| {});
    }
}
