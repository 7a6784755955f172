//! Counters in this process.
//!
//! The counters are spread over shards by the hash of their name, and each
//! shard is guarded by a lock that is held for one charge: no longer than it
//! takes to look up a name and add a number.
//!
//! Memory is bounded twice. A counter whose window has ended, and a
//! [second](GRACE) more, is dropped: each charge looks at a few of its shard,
//! in turn, so no task has to run for it. And a shard that is full drops a
//! counter for each one that it adds: of a sample, one that has ended; else one
//! that has not used up its limit, so that a flood of new names does not wash
//! away what was refused; else the one that ends first. Dropping a live counter
//! means that it starts again from zero, and [`Memory::evicted`] counts that.
//!
//! What is refused survives a flood for certain while, of each sample, at least
//! one other counter is below its limit. A flood of names that each use up
//! their limit, such as one of one request, can wash away anything.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{
    limit::{Outcome, fixed_window},
    store::{Charge, GRACE, Outcomes, Store, StoreError, Usage},
    time::Timestamp,
};

/// Enough that two threads rarely want the same one.
const SHARDS: usize = 256;
/// How many counters each charge looks at, to drop those that have ended.
const SWEPT: usize = 2;
/// How many counters of a full shard are compared when one has to go.
const SAMPLED: usize = 16;
/// The longest name that is kept, in bytes. The SHA-256 of a longer one stands
/// for it, or few counters could take much memory.
const LONGEST: usize = 256;

/// Counters in this process.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded at random, so that nobody can choose names that share a shard.
    hasher: RandomState,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    counters: IndexMap<Box<[u8]>, Counter, RandomState>,
    capacity: usize,
    /// Where the sweep goes on.
    swept: usize,
    /// Where the next sample begins.
    sampled: usize,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    hits: u64,
    /// When it may be forgotten.
    until: Timestamp,
    /// Whether its limit is used up.
    spent: bool,
}

impl Memory {
    /// An empty store for `capacity` counters, rounded up to a multiple of 256.
    ///
    /// Each of 256 shards takes its part, so counters may be evicted a little
    /// before there are so many. A counter takes about 100 bytes and the length
    /// of its name, but never more than 256 bytes for that.
    pub fn new(capacity: usize) -> Self {
        let hasher = RandomState::default();
        let shard = || {
            Mutex::new(Shard {
                counters: IndexMap::with_hasher(hasher.clone()),
                capacity: capacity.div_ceil(SHARDS).max(1),
                swept: 0,
                sampled: 0,
            })
        };
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher, evicted: AtomicU64::new(0) }
    }

    /// How many counters are kept now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|it| it.lock().counters.len()).sum()
    }

    /// Whether no counter is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many counters were dropped before their window ended, because there
    /// was no room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn charge_one(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let digest;
        let mut key = charge.key.as_bytes();
        if LONGEST < key.len() {
            digest = Sha256::digest(key);
            key = &digest;
        }
        // The map uses other bits of the hash than the choice of the shard.
        let at = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        let mut shard = self.shards[at].lock();
        shard.sweep(now);
        let kept = shard.counters.get(key).filter(|it| now < it.until);
        let (before, until) = kept.map_or_else(Default::default, |it| (it.hits, it.until));
        let after = fixed_window::count(before, charge.hits);
        if after != before {
            // Rules with windows of different length may share a name.
            let until = until.max(charge.limit.window.end(now).plus(GRACE));
            let spent = u64::from(charge.limit.requests) <= after;
            if shard.put(key, Counter { hits: after, until, spent }, now) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        fixed_window::describe(charge.limit, charge.hits, after, now)
    }
}

impl Shard {
    /// Drops the ended ones of a few counters.
    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEPT {
            match self.counters.get_index(self.swept) {
                Some((_, counter)) if counter.until <= now => {
                    self.counters.swap_remove_index(self.swept);
                }
                Some(_) => self.swept += 1,
                None => self.swept = 0,
            }
        }
    }

    /// Keeps `counter`. Says whether a live one had to go for it.
    fn put(&mut self, key: &[u8], counter: Counter, now: Timestamp) -> bool {
        if let Some(kept) = self.counters.get_mut(key) {
            *kept = counter;
            return false;
        }
        let evicted = self.capacity <= self.counters.len() && self.evict(now);
        self.counters.insert(key.into(), counter);
        evicted
    }

    /// Drops the counter that is missed least. Says whether it was live.
    fn evict(&mut self, now: Timestamp) -> bool {
        let length = self.counters.len();
        let sample = (0..SAMPLED.min(length)).map(|it| (self.sampled + it) % length);
        let Some((at, live)) = sample
            .map(|at| (at, self.counters[at]))
            .min_by_key(|(_, it)| (now < it.until, it.spent, it.until))
            .map(|(at, it)| (at, now < it.until))
        else {
            return false;
        };
        self.counters.swap_remove_index(at);
        // The newest counter has moved to where the dropped one was: go on
        // behind it, or a flood would evict itself and nothing else.
        self.sampled = (at + 1) % length;
        live
    }
}

impl Store for Memory {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        Ok(charges.iter().map(|it| self.charge_one(it, now)).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage { counters: self.len(), evicted: self.evicted() })
    }
}

#[cfg(test)]
mod tests;
