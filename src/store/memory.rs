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
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use self::shard::{Counter, Kept, Shard};
use crate::{
    limit::{
        Outcome,
        step::{self, Answer, Step, Told},
    },
    rules::counter_key::CounterKey,
    store::{Charge, GRACE, Outcomes, Store, StoreError, Usage, name},
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

    /// Makes a charge that depends on no other, to a counter without a penalty.
    fn charge_one(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let name = name(&charge.counter.key);
        let mut shard = self.shards[self.position(&name)].lock();
        shard.sweep(now);
        let kept = shard.counters.get_mut(&*name);
        let state = kept.as_deref().filter(|it| now < it.until).and_then(|it| it.kept.state());
        let Step { passes, after, state, .. } =
            step::step(&charge.limit, charge.counter.span, state, charge.hits, now);
        let answer = Answer { passes, banned: Timestamp::default(), told: after };
        let outcome = charge.outcome(answer, true, now);
        if let Some(state) = state {
            let counter = Counter {
                kept: Kept::State(state),
                until: until(charge, after, now),
                spent: outcome.remaining == 0,
            };
            if let Some(kept) = kept {
                kept.replace(counter);
            } else if shard.add(&name, counter, now) {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Makes all charges of one call while nobody else is served.
    fn charge_together(&self, charges: &[Charge], now: Timestamp) -> Outcomes {
        let mut held = self.hold(charges, now);
        let mut attempts: SmallVec<[Attempt; 4]> =
            charges.iter().map(|it| held.attempt(it, true, false)).collect();
        let together = charges.iter().any(Charge::depends);
        let refuses =
            |(it, attempt): (&Charge, &Attempt)| it.refused || it.enforced && attempt.over(it, now);
        let refused = charges.iter().zip(&attempts).any(refuses);
        if together && refused {
            // Once more, without the charges that are not made now.
            held.written.clear();
            for (charge, trial) in charges.iter().zip(&mut attempts) {
                let make = charge.made_if_refused(trial.passes);
                let last = held.attempt(charge, make, !trial.passes);
                if trial.over(charge, now) {
                    trial.made &= make;
                } else {
                    *trial = last;
                }
            }
        }
        held.write();
        charges.iter().zip(attempts).map(|(charge, it)| it.outcome(charge, now)).collect()
    }

    /// Locks the shards of these charges, in an order that all callers keep.
    fn hold<'a>(&'a self, charges: &'a [Charge], now: Timestamp) -> Held<'a> {
        let names = charges.iter().flat_map(|it| [Some(&it.counter.key), it.counter.ban.as_ref()]);
        let mut positions: SmallVec<[usize; 4]> =
            names.flatten().map(|it| self.position(&name(it))).collect();
        positions.sort_unstable();
        positions.dedup();
        let lock = |at: usize| {
            let mut shard = self.shards[at].lock();
            shard.sweep(now);
            (at, shard)
        };
        let shards = positions.into_iter().map(lock).collect();
        Held { memory: self, shards, written: SmallVec::new(), now }
    }

    /// The position of the shard of a name. The map uses other bits of the hash.
    fn position(&self, name: &[u8]) -> usize {
        (self.hasher.hash_one(name) >> 32) as usize % SHARDS
    }
}

/// When a counter of which this is told may be forgotten.
fn until(charge: &Charge, told: Told, now: Timestamp) -> Timestamp {
    step::forget(&charge.limit, charge.counter.span, told, now).plus(GRACE)
}

/// What a call holds while it is worked out.
struct Held<'a> {
    memory: &'a Memory,
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    /// What is to be written when it is known what becomes of the call.
    written: SmallVec<[(&'a CounterKey, Counter); 4]>,
    now: Timestamp,
}

/// One charge, worked out.
struct Attempt {
    passes: bool,
    banned: Timestamp,
    before: Told,
    after: Told,
    made: bool,
}

impl Attempt {
    fn over(&self, charge: &Charge, now: Timestamp) -> bool {
        !self.passes || charge.asks() && now < self.banned
    }

    fn outcome(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let &Self { passes, banned, before, after, made } = self;
        let told = if made { after } else { before };
        charge.outcome(Answer { passes, banned, told }, made, now)
    }
}

impl<'a> Held<'a> {
    /// Works out one charge, and makes it if `make`. It is refused in any case
    /// if `refuse`.
    fn attempt(&mut self, charge: &'a Charge, make: bool, refuse: bool) -> Attempt {
        let (counter, limit, now) = (&charge.counter, &charge.limit, self.now);
        let ban = counter.ban.as_ref().and_then(|it| self.get(it)).and_then(Kept::ban);
        let banned = ban.map_or(Timestamp::default(), |it| step::ban(limit, it, now));
        let state = self.get(&counter.key).and_then(Kept::state);
        let Step { passes, before, after, state } =
            step::step(limit, counter.span, state, charge.hits, now);
        let passes = passes && !refuse;
        let made = make && !(charge.asks() && now < banned);
        let attempt = Attempt { passes, banned, before, after, made };
        if made && let Some(state) = state {
            let spent = attempt.outcome(charge, now).remaining == 0;
            let until = until(charge, after, now);
            self.written.push((&counter.key, Counter { kept: Kept::State(state), until, spent }));
        }
        if let Some(ban) = &counter.ban
            && !passes
            && charge.hits.asked() > 0
            && banned <= now
        {
            let end = now.plus(limit.penalty);
            let kept = Kept::Ban(end);
            self.written.push((ban, Counter { kept, until: end.plus(GRACE), spent: true }));
        }
        attempt
    }

    /// What is kept under `key`, as this call sees it.
    fn get(&mut self, key: &CounterKey) -> Option<&Kept> {
        // The latest first. A call has few charges.
        if let Some(at) = self.written.iter().rposition(|(it, _)| *it == key) {
            return Some(&self.written[at].1.kept);
        }
        let (name, now) = (name(key), self.now);
        self.shard(&name).get(&name, now)
    }

    fn write(&mut self) {
        for (key, counter) in std::mem::take(&mut self.written) {
            let (name, now) = (name(key), self.now);
            if self.shard(&name).put(&name, counter, now) {
                self.memory.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn shard(&mut self, name: &[u8]) -> &mut Shard {
        let at = self.memory.position(name);
        let held = self.shards.iter().position(|(it, _)| *it == at);
        &mut self.shards[held.expect("every shard of the charges is held")].1
    }
}

impl Store for Memory {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let together = |it: &Charge| it.depends() || it.counter.ban.is_some();
        Ok(match charges.iter().any(together) {
            true => self.charge_together(charges, now),
            false => charges.iter().map(|it| self.charge_one(it, now)).collect(),
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
