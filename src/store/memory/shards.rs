//! All counters, divided into shards with a lock each.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::{
    bounds::Bounds,
    ledger::Ledger,
    pressure::Pressure,
    shard::{KeyedCounter, Shard},
    slot::{Counter, CounterState, Key},
};
use crate::{
    counter::CounterKey,
    limit::{Window, step},
    store::{Charge, script::Record},
    time::Timestamp,
};

/// Enough for two threads to need the same shard rarely.
const MAX_SHARDS: usize = 256;
/// The smallest shard, in bytes.
const MIN_SHARD_BYTES: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct Shards {
    pub(super) shards: Box<[Mutex<Shard>]>,
    pub(super) ledger: Mutex<Ledger>,
    /// Randomly seeded, so that clients cannot choose names with equal keys.
    hasher: RandomState,
}

/// The shard of a counter, and its key there.
#[derive(Clone, Copy)]
pub(super) struct CounterPlace {
    pub(super) key: Key,
    /// The index of its shard.
    pub(super) shard: usize,
}

impl Shards {
    pub(super) fn new(bounds: Bounds) -> Self {
        let keys = bounds.keys.unwrap_or(usize::MAX).saturating_mul(Bounds::COUNTER);
        let count = (bounds.bytes.min(keys) / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        let shards = (0..count).map(|_| Mutex::default()).collect();
        Self { shards, ledger: Mutex::new(Ledger::new(bounds)), hasher: RandomState::new() }
    }

    pub(super) fn locate(&self, name: &CounterKey) -> CounterPlace {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        let hash = hasher.finish();
        // The hash of a longer text is independent of the first.
        hasher.write_u8(0);
        let [a, b, c, d, shard @ ..] = hasher.finish().to_le_bytes();
        let shard = u32::from_le_bytes(shard) as usize % self.shards.len();
        CounterPlace { key: Key { hash, check: u32::from_le_bytes([a, b, c, d]) }, shard }
    }

    /// Locks a shard, and removes some expired counters.
    pub(super) fn lock(&self, shard: usize, now: Timestamp) -> MutexGuard<'_, Shard> {
        let mut guard = self.shards[shard].lock();
        guard.sweep(now, &self.ledger);
        guard
    }

    /// Locks the shards of all `charges`. All callers lock in the same order, so that they
    /// cannot deadlock.
    pub(super) fn lock_all<'a>(
        &'a self,
        charges: &'a [Charge],
        now: Timestamp,
    ) -> LockedShards<'a> {
        let mut indices: SmallVec<[usize; 4]> = SmallVec::new();
        for charge in charges {
            indices.push(self.locate(&charge.counter.key).shard);
        }
        indices.sort_unstable();
        indices.dedup();
        let mut guards = SmallVec::new();
        for index in indices {
            guards.push(LockedShard { index, shard: self.lock(index, now) });
        }
        let pressure = Pressure::default();
        LockedShards { shards: self, charges, max_ttls: None, guards, now, pressure }
    }
}

/// The longest time for which the counter of `charge` can be kept from now on.
pub(super) fn max_ttl(charge: &Charge) -> Duration {
    let Charge { limit, counter, .. } = charge;
    if limit.has_window_in_key() {
        // A limit with a longer window may share the name.
        return Duration::from_secs(Window::MAX_SECONDS);
    }
    step::max_ttl(limit, counter.span)
}

/// The shards of one call.
pub(super) struct LockedShards<'a> {
    shards: &'a Shards,
    charges: &'a [Charge],
    /// The longest time to live of each counter, computed on first use.
    max_ttls: Option<HashMap<&'a CounterKey, Duration>>,
    /// In ascending order of indices.
    guards: SmallVec<[LockedShard<'a>; 4]>,
    now: Timestamp,
    /// Of all writes so far.
    pressure: Pressure,
}

struct LockedShard<'a> {
    index: usize,
    shard: MutexGuard<'a, Shard>,
}

/// The time of a counter's expiry, and of its next room.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    pub(super) expires_at: Timestamp,
    /// The moment until which another hit is refused; in the past if a hit passes.
    pub(super) refuses_until: Timestamp,
}

impl LockedShards<'_> {
    /// The counter `name`, which must belong to one of the charges.
    pub(super) fn read(&mut self, name: &CounterKey) -> Record {
        let CounterPlace { key, shard } = self.shards.locate(name);
        let (now, charges, max_ttls) = (self.now, self.charges, &mut self.max_ttls);
        let max_ttl = || {
            let max_ttls = max_ttls.get_or_insert_with(|| max_ttls_of(charges));
            max_ttls.get(name).copied().unwrap_or_default()
        };
        match locked(&mut self.guards, shard).get(key, now, max_ttl) {
            Some(counter) => Record {
                state: counter.state.state(),
                banned_since: counter.state.banned_since(),
                holds: Vec::new(),
            },
            None => Record::default(),
        }
    }

    /// Writes the counter of `charge`, and returns false if there was no room.
    pub(super) fn write(&mut self, charge: &Charge, record: Record, expiry: Expiry) -> bool {
        let CounterPlace { key, shard } = self.shards.locate(&charge.counter.key);
        let counter = Counter {
            state: CounterState::new(record.state, record.banned_since),
            expires_at: expiry.expires_at,
            refuses_until: expiry.refuses_until,
        };
        let domain = charge.counter.key.domain();
        let (now, ledger) = (self.now, &self.shards.ledger);
        let keyed = KeyedCounter { key, domain, counter };
        let pressure = locked(&mut self.guards, shard).put(keyed, ledger, now);
        self.pressure.add(pressure);
        !pressure.uncounted
    }

    /// Unlocks the shards, and returns the pressure of all writes.
    pub(super) fn unlock(self) -> Pressure {
        self.pressure
    }

    /// Removes the counter `name`, if it exists.
    pub(super) fn remove(&mut self, name: &CounterKey) {
        let CounterPlace { key, shard } = self.shards.locate(name);
        locked(&mut self.guards, shard).remove(key, &self.shards.ledger);
    }
}

fn locked<'a>(guards: &'a mut [LockedShard<'_>], index: usize) -> &'a mut Shard {
    let position = guards.binary_search_by_key(&index, |guard| guard.index);
    &mut guards[position.expect("the shards of all charges are locked")].shard
}

/// The longest time to live of each counter, among all charges to it.
fn max_ttls_of(charges: &[Charge]) -> HashMap<&CounterKey, Duration> {
    let mut ttls = HashMap::new();
    for charge in charges {
        let ttl = ttls.entry(&charge.counter.key).or_insert(Duration::ZERO);
        *ttl = max_ttl(charge).max(*ttl);
    }
    ttls
}
