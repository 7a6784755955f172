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
    borrow::Cow,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::{
    limit::{
        Hits, Outcome,
        step::{self, Answer, State, Step},
    },
    rules::counter_key::{CounterKey, Named},
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

#[derive(Clone, Debug)]
struct Counter {
    kept: Kept,
    /// When it may be forgotten.
    until: Timestamp,
    /// Whether its limit is used up.
    spent: bool,
}

/// What is kept under a name.
#[derive(Clone, Debug)]
enum Kept {
    /// How a counter stands.
    State(State),
    /// Until when everything is refused.
    Ban(Timestamp),
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

    /// Makes charges that do not depend on one another.
    fn charge_each(&self, charges: &[Charge], now: Timestamp) -> Outcomes {
        let charge = |it: &Charge| {
            let mut held = self.lock([it].into_iter());
            held.charge(it, true, now)
        };
        charges.iter().map(charge).collect()
    }

    /// Makes charges of which some are not made if others are refused.
    fn charge_together(&self, charges: &[Charge], now: Timestamp) -> Outcomes {
        let mut held = self.lock(charges.iter());
        held.trial = Some(Vec::new());
        let outcomes: Outcomes = charges.iter().map(|it| held.charge(it, true, now)).collect();
        held.trial = None;
        let refused =
            charges.iter().zip(&outcomes).any(|(it, outcome)| it.enforced && outcome.over);
        charges.iter().map(|it| held.charge(it, !(refused && it.all_or_nothing), now)).collect()
    }

    /// Takes the shards of these charges, in an order that all callers keep.
    fn lock<'a>(&self, charges: impl Iterator<Item = &'a Charge>) -> Held<'_> {
        let names = charges.flat_map(|it| [Some(&it.counter.key), it.counter.ban.as_ref()]);
        let mut shards: SmallVec<[usize; 4]> =
            names.flatten().map(|it| self.shard(&name(it))).collect();
        shards.sort_unstable();
        shards.dedup();
        let shards = shards.into_iter().map(|it| (it, self.shards[it].lock())).collect();
        Held { memory: self, shards, trial: None }
    }

    /// The shard of a name. The map uses other bits of the hash.
    fn shard(&self, name: &[u8]) -> usize {
        (self.hasher.hash_one(name) >> 32) as usize % SHARDS
    }
}

/// What a counter is kept under.
fn name(key: &CounterKey) -> Cow<'_, [u8]> {
    match key.as_bytes() {
        long if LONGEST < long.len() => Cow::Owned(Sha256::digest(long).to_vec()),
        short => Cow::Borrowed(short),
    }
}

/// The shards that some charges need.
struct Held<'a> {
    memory: &'a Memory,
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 2]>,
    /// What would have been written, if nothing is to be.
    trial: Option<Vec<(CounterKey, Kept)>>,
}

impl Held<'_> {
    /// Makes one charge, or only says what would become of it.
    fn charge(&mut self, charge: &Charge, make: bool, now: Timestamp) -> Outcome {
        let Charge { counter: Named { key, ban, span }, limit, hits, .. } = charge;
        let banned = match ban.as_ref().and_then(|it| self.get(it, now)) {
            Some(Kept::Ban(until)) => step::ban(limit, until, now),
            _ => Timestamp::default(),
        };
        let state = match self.get(key, now) {
            Some(Kept::State(state)) => Some(state),
            _ => None,
        };
        let asked = matches!(hits, Hits::Add(_));
        let Step { passes, before, after, state } = step::step(limit, *span, state, *hits, now);
        let make = make && !(asked && now < banned);
        let answer = Answer { passes, banned, told: if make { after } else { before } };
        let outcome = step::describe(limit, *span, *hits, answer, now);
        if make && let Some(state) = state {
            let until = step::forget(limit, *span, after, now).plus(GRACE);
            self.put(
                key,
                Counter { kept: Kept::State(state), until, spent: outcome.remaining == 0 },
                now,
            );
        }
        if let Some(ban) = ban
            && !passes
            && hits.asked() > 0
            && banned <= now
        {
            let until = now.plus(limit.penalty);
            let kept = Kept::Ban(until);
            self.put(ban, Counter { kept, until: until.plus(GRACE), spent: true }, now);
        }
        outcome
    }

    fn get(&mut self, key: &CounterKey, now: Timestamp) -> Option<Kept> {
        if let Some(trial) = &self.trial
            && let Some((_, kept)) = trial.iter().rev().find(|(it, _)| it == key)
        {
            return Some(kept.clone());
        }
        let name = name(key);
        let shard = self.shard(&name);
        shard.sweep(now);
        shard.counters.get(&*name).filter(|it| now < it.until).map(|it| it.kept.clone())
    }

    fn put(&mut self, key: &CounterKey, mut counter: Counter, now: Timestamp) {
        if let Some(trial) = &mut self.trial {
            return trial.push((key.clone(), counter.kept));
        }
        let name = name(key);
        let shard = self.shard(&name);
        if let Some(kept) = shard.counters.get(&*name) {
            // Rules with windows of different length may share a name.
            counter.until = counter.until.max(kept.until);
        }
        if shard.put(&name, counter, now) {
            self.memory.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&mut self, name: &[u8]) -> &mut Shard {
        let at = self.memory.shard(name);
        let held = self.shards.iter().position(|(it, _)| *it == at);
        &mut self.shards[held.expect("every shard of the charges is held")].1
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
            .map(|at| (at, &self.counters[at]))
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
        Ok(match charges.iter().any(|it| it.all_or_nothing) {
            true => self.charge_together(charges, now),
            false => self.charge_each(charges, now),
        })
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
