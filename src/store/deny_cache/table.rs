//! The table of cached denials.

use std::{
    collections::HashSet,
    hash::BuildHasher,
    mem::size_of,
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::denial::CachedDenial;
use crate::{
    counter::CounterKey,
    limit::Outcome,
    store::{
        Charge, DenyCacheUsage, Results,
        name::{MAX_NAME_BYTES, short_name},
    },
    time::Timestamp,
};

/// Enough for two threads to need the same shard rarely.
const SHARDS: usize = 64;
/// The number of denials that are compared to choose one to evict, and the number checked
/// for expiry with each insertion.
const SAMPLED: usize = 8;
/// The most memory that a denial takes, in bytes: its entry, which exists twice while the
/// map grows, its place in the index, and the longest name.
pub(super) const MAX_DENIAL_BYTES: usize =
    2 * (size_of::<(usize, Box<[u8]>, CachedDenial)>() + 2 * size_of::<usize>()) + MAX_NAME_BYTES;

/// Cached denials by counter, in shards with a lock each.
#[derive(Debug)]
pub(super) struct DenialTable {
    pub(super) shards: Box<[Mutex<Shard>]>,
    /// The most denials in a shard.
    capacity: usize,
    /// Randomly seeded, so that clients cannot choose names that share a shard.
    hasher: RandomState,
    /// A counter that orders calls and refunds.
    turn: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) denials: IndexMap<Box<[u8]>, CachedDenial, RandomState>,
    /// The turn of the last refund.
    last_refund: u64,
    /// The position at which the next search for expired denials begins.
    cursor: usize,
    /// The usage without `entries`.
    usage: DenyCacheUsage,
}

impl Shard {
    fn insert(&mut self, name: &[u8], denial: CachedDenial, capacity: usize, now: Timestamp) {
        if let Some(old) = self.denials.get_mut(name) {
            *old = denial;
            self.usage.overwritten += 1;
            return;
        }
        self.remove_expired(now);
        if capacity <= self.denials.len() {
            self.evict_one();
        }
        self.denials.insert(name.into(), denial);
    }

    fn remove_expired(&mut self, now: Timestamp) {
        for _ in 0..SAMPLED {
            match self.denials.get_index(self.cursor) {
                Some((_, denial)) if !denial.is_valid(now) => {
                    self.denials.swap_remove_index(self.cursor);
                    self.usage.expired += 1;
                }
                Some(_) => self.cursor += 1,
                None => self.cursor = 0,
            }
        }
    }

    /// Evicts the denial that expires first among the next few.
    fn evict_one(&mut self) {
        let length = self.denials.len();
        let sample = (0..SAMPLED.min(length)).map(|offset| (self.cursor + offset) % length);
        if let Some(first) = sample.min_by_key(|&index| self.denials[index].expires_at) {
            self.denials.swap_remove_index(first);
            self.usage.evicted += 1;
        }
    }
}

impl DenialTable {
    /// An empty table that takes at most about `bytes`, with room for at least one denial
    /// in each shard.
    pub(super) fn new(bytes: usize) -> Self {
        let capacity = (bytes / MAX_DENIAL_BYTES / SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, capacity, hasher: RandomState::default(), turn: AtomicU64::new(0) }
    }

    fn shard(&self, name: &[u8]) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(name) >> 32) as usize % SHARDS]
    }

    /// The turn of a call or refund that begins now: higher than all before.
    pub(super) fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The outcome of `charge`, if it follows from a cached denial.
    pub(super) fn look_up(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        let name = short_name(&charge.counter.key);
        let mut shard = self.shard(&name).lock();
        let denial = shard.denials.get(&*name);
        let outcome = denial.and_then(|denial| denial.outcome_for(charge, now));
        match outcome {
            Some(_) => shard.usage.hits += 1,
            None => shard.usage.misses += 1,
        }
        outcome
    }

    /// Caches the denials among the results of a call that began at `turn`, and removes
    /// those that the results contradict.
    pub(super) fn learn(&self, charges: &[Charge], results: &Results, turn: u64, now: Timestamp) {
        let ambiguous = ambiguous_counters(charges, results);
        for (charge, result) in charges.iter().zip(results) {
            let Ok(outcome) = result else { continue };
            let denial = CachedDenial::new(charge, outcome, now);
            let name = short_name(&charge.counter.key);
            let mut shard = self.shard(&name).lock();
            match denial {
                // A refund since the start of the call may have lifted the denial.
                Some(denial)
                    if shard.last_refund < turn && !ambiguous.contains(&charge.counter.key) =>
                {
                    shard.insert(&name, denial, self.capacity, now);
                }
                // This denial is newer than the cached one, which would become valid again
                // if a clock stepped back.
                Some(_) => drop(shard.denials.swap_remove(&*name)),
                None if !outcome.over && charge.hits.requested() > 0 => {
                    shard.denials.swap_remove(&*name);
                }
                None => {}
            }
        }
    }

    /// Removes the denial of a counter, and keeps those of calls under way from being
    /// cached.
    pub(super) fn lift(&self, key: &CounterKey) {
        let name = short_name(key);
        let mut shard = self.shard(&name).lock();
        shard.last_refund = self.next_turn();
        shard.denials.swap_remove(&*name);
    }

    pub(super) fn usage(&self) -> DenyCacheUsage {
        let mut total = DenyCacheUsage::default();
        for shard in &self.shards {
            let shard = shard.lock();
            total.entries += shard.denials.len() as u64;
            total.hits += shard.usage.hits;
            total.misses += shard.usage.misses;
            total.expired += shard.usage.expired;
            total.evicted += shard.usage.evicted;
            total.overwritten += shard.usage.overwritten;
        }
        total
    }
}

/// The counters whose denials cannot be cached: those with several charges in a refused
/// call. The hits that caused the denial may belong to another charge, which was not
/// applied because the call was refused.
fn ambiguous_counters<'a>(
    charges: &'a [Charge],
    results: &Results,
) -> HashSet<&'a CounterKey, RandomState> {
    let mut repeated = HashSet::default();
    let over = results.iter().flatten().any(|outcome| outcome.over);
    if over && charges.iter().any(Charge::depends_on_others) {
        let mut seen: HashSet<_, RandomState> = HashSet::default();
        for charge in charges {
            if !seen.insert(&charge.counter.key) {
                repeated.insert(&charge.counter.key);
            }
        }
    }
    repeated
}
