//! Counters in this process.
//!
//! The counters are spread over shards by the hash of their name, and each
//! shard is guarded by a lock that is held for one charge: no longer than it
//! takes to look up a name and work out a step. Only a call with penalties, or
//! with charges that depend on each other, holds all its shards at once,
//! and they are locked in one order, so that no two calls wait for each other.
//!
//! Memory is bounded twice. A counter that means nothing any more, since a
//! [second](GRACE), is dropped: each charge looks at a few of its shard,
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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use self::shard::{Counter, Shard};
use crate::{
    limit::{
        Hits, Limit, Outcome, Window,
        step::{self, Answer, Step},
    },
    rules::counter_key::{CounterKey, Named},
    store::{
        Charge, Counters, Deadline, GRACE, Readings, Results, Store, StoreError, Usage, look, name,
        only,
        script::{self, Record, Settlement},
    },
    time::Timestamp,
};

mod shard;

/// Enough that two threads rarely want the same one.
const SHARDS: usize = 256;

/// Counters in this process.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded at random, so that nobody can choose names that share a shard.
    hasher: RandomState,
    evicted: AtomicU64,
}

/// The longest that the counter of `charge` is kept from now on.
fn longest(charge: &Charge) -> Duration {
    let Charge { limit, counter, .. } = charge;
    match limit.names_window() {
        // A limit with a longer window may share the name.
        true => Duration::from_secs(Window::LONGEST),
        false => step::longest(limit, counter.span),
    }
}

impl Memory {
    /// An empty store for `capacity` counters, rounded up to a multiple of 256.
    ///
    /// Each of 256 shards takes its part, so counters may be evicted a little
    /// before there are so many. A counter takes about 200 bytes and the length
    /// of its name, but never more than 256 bytes for that. `sliding_log` and
    /// `concurrency` take 16 bytes more for each hit that they remember.
    pub fn new(capacity: usize) -> Self {
        let hasher = RandomState::default();
        let capacity = capacity.div_ceil(SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(capacity, hasher.clone())));
        Self { shards: shards.collect(), hasher, evicted: AtomicU64::new(0) }
    }

    /// How many counters are kept now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|it| it.lock().len()).sum()
    }

    /// Whether no counter is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many counters were dropped before they had ended, because there was
    /// no room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Has `readings` tell how much is kept here.
    pub fn tell(self: &Arc<Self>, readings: &Readings) {
        let memory = Arc::downgrade(self);
        Readings::tell(&readings.memory, move || {
            let usage = |it: Arc<Self>| Usage { counters: it.len(), evicted: it.evicted() };
            memory.upgrade().map_or(Usage { counters: 0, evicted: 0 }, usage)
        });
    }

    /// Makes a charge that depends on no other, to a counter without a penalty.
    fn charge_one(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let (limit, span) = (&charge.limit, charge.counter.span);
        let name = name(&charge.counter.key);
        let mut shard = self.shards[self.position(&name)].lock();
        shard.sweep(now);
        let longest = || longest(charge);
        let kept = shard.live(&name, now, longest);
        let state = kept.as_deref().and_then(|it| it.state.clone());
        let Step { passes, after, state, .. } = step::step(limit, span, state, charge.hits, now);
        let answer = Answer { passes, banned: Timestamp::default(), told: after };
        let outcome = charge.outcome(answer, true, now);
        if let Some(state) = state {
            let counter = Counter {
                state: Some(state),
                banned: Timestamp::default(),
                until: now.plus(step::life(limit, span, after, now)).plus(GRACE),
                spent: outcome.remaining == 0,
            };
            if let Some(kept) = kept {
                kept.replace(counter);
            } else if shard.put(&name, counter, now) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Makes all charges of one call while nobody else is served.
    fn charge_together(&self, charges: &[Charge], now: Timestamp) -> Results {
        let mut held = self.hold(charges, now);
        let made = script::make(charges, None, now, |key| held.read(key));
        let attempts = made.attempts;
        for script::Written { at, record, told } in made.written {
            let charge = &charges[at];
            let until = |told| now.plus(step::life(&charge.limit, charge.counter.span, told, now));
            let ban = step::ban(&charge.limit, record.banned, now);
            let spent = now < ban || attempts[at].outcome(charge, now).remaining == 0;
            let until = told.map(until).unwrap_or_default().max(ban);
            held.write(charge, record, until.plus(GRACE), spent);
        }
        charges.iter().zip(attempts).map(|(charge, it)| Ok(it.outcome(charge, now))).collect()
    }

    /// Whether `charge` would be over its limit now. Counts nothing.
    pub fn would_refuse(&self, charge: &Charge, now: Timestamp) -> bool {
        let mut held = self.hold(std::slice::from_ref(charge), now);
        let made = script::make(std::slice::from_ref(charge), None, now, |key| held.read(key));
        made.attempts.iter().any(|it| it.outcome(charge, now).over)
    }

    /// Locks the shards of these charges, in an order that all callers keep.
    fn hold<'a>(&'a self, charges: &'a [Charge], now: Timestamp) -> Held<'a> {
        let mut positions: SmallVec<[usize; 4]> =
            charges.iter().map(|it| self.position(&name(&it.counter.key))).collect();
        positions.sort_unstable();
        positions.dedup();
        let lock = |at: usize| {
            let mut shard = self.shards[at].lock();
            shard.sweep(now);
            (at, shard)
        };
        let shards = positions.into_iter().map(lock).collect();
        Held { memory: self, charges, shards, now }
    }

    /// The position of the shard of a name. The map uses other bits of the hash.
    fn position(&self, name: &[u8]) -> usize {
        (self.hasher.hash_one(name) >> 32) as usize % SHARDS
    }
}

/// What a call holds while it is worked out.
struct Held<'a> {
    memory: &'a Memory,
    charges: &'a [Charge],
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    now: Timestamp,
}

impl Held<'_> {
    /// What is kept under `key`, one of the charges'.
    fn read(&mut self, key: &CounterKey) -> Record {
        let (name, now, charges) = (name(key), self.now, self.charges);
        let longest = || {
            let of = charges.iter().filter(|it| it.counter.key == *key);
            of.map(longest).max().unwrap_or_default()
        };
        match self.shard(&name).live(&name, now, longest) {
            None => Record::default(),
            Some(kept) => {
                Record { state: kept.state.clone(), banned: kept.banned, holds: Vec::new() }
            }
        }
    }

    fn write(&mut self, charge: &Charge, record: Record, until: Timestamp, spent: bool) {
        let (name, now) = (name(&charge.counter.key), self.now);
        let Record { state, banned, .. } = record;
        if self.shard(&name).put(&name, Counter { state, banned, until, spent }, now) {
            self.memory.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&mut self, name: &[u8]) -> &mut Shard {
        let at = self.memory.position(name);
        let held = self.shards.iter().position(|(it, _)| *it == at);
        &mut self.shards[held.expect("every shard of the charges is held")].1
    }
}

impl Store for Memory {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        let together = |it: &Charge| it.depends() || !it.limit.penalty.is_zero();
        match charges.iter().any(together) {
            true => self.charge_together(charges, now),
            false => charges.iter().map(|it| Ok(self.charge_one(it, now))).collect(),
        }
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Counters for Memory {
    async fn look(
        &self,
        counter: &Named,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        only(self.charge(&[look(counter, limit)], now, None).await)
    }

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        let name = name(counter);
        Ok(self.shards[self.position(&name)].lock().remove(&name))
    }

    async fn set(
        &self,
        counter: &Named,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let charges = [look(counter, limit)];
        let (charge, mut record) = (&charges[0], Record::default());
        let set = Settlement::Set(used.min(Hits::MAX));
        script::settle(&mut record, charge, set, now, &mut false);
        let until = now.plus(step::longest(limit, counter.span)).plus(GRACE);
        let mut held = self.hold(&charges, now);
        held.shard(&name(&counter.key)).remove(&name(&counter.key));
        held.write(charge, record, until, false);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
