//! What a store has refused until a known moment is refused in this process
//! until then, without asking it.
//!
//! That is exact, because until that moment others can only use up more. A
//! refusal is known by its counter, its limit and its moment:
//!
//! | what refuses                    | which charges                   | until               |
//! |---------------------------------|---------------------------------|---------------------|
//! | a penalty                       | those of as many hits           | it ends             |
//! | a fixed window                  | those that it has no room for   | it ends             |
//! | one that counts what it refuses | all, once it is over its limit  | it ends             |
//! | any other, but `concurrency`    | those of one hit                | there is room again |
//!
//! `concurrency` is always asked, since anybody may give back a slot at any time.
//! So are charges of other numbers of hits: what remains for them, and when they
//! pass, changes meanwhile. Looks and refunds are always sent, too.
//!
//! A call is refused here only if every charge of it is, and else it is sent
//! as a whole. Then a charge that is refused here changes nothing in the store
//! that it would have changed there, except that a fixed window that counts what
//! it refuses counts less: such hits show in the statistics only. So if hits are
//! given back within that window, or its limit is raised, more may pass than if
//! all had been counted.
//!
//! What is told of a window that is not full is what remained when it was asked
//! about: others may have used more since.
//!
//! A refund that this process sends lifts what it has refused; so does whatever
//! passes. What lifts a refusal elsewhere is felt here within a
//! [second](LONGEST): a refund that another instance sends or that is carried out
//! late, a counter that somebody deletes, and clocks and rules of instances that
//! differ.

use std::{
    hash::BuildHasher,
    mem::size_of,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;

use crate::{
    limit::{
        Algorithm, Limit, Outcome,
        step::{Answer, Told},
    },
    store::{
        Charge, DenyCacheUsage, LONGEST_NAME, Outcomes, Pools, Store, StoreError, Usage, name,
    },
    time::Timestamp,
};

/// How long a refusal is believed. After that the store is asked again.
pub const LONGEST: Duration = Duration::from_secs(1);

/// Enough that two threads rarely want the same one.
const SHARDS: usize = 64;
/// How many refusals are compared when one has to go, and how many of the ended
/// ones go with each that comes.
const SAMPLED: usize = 8;
/// What a refusal takes at most, in bytes: its place, which is there twice after
/// the map has grown, its place in the index, and the longest name.
const EACH: usize =
    2 * (size_of::<(usize, Box<[u8]>, Refusal)>() + 2 * size_of::<usize>()) + LONGEST_NAME;

/// A store around a store: it answers what is known to be refused.
#[derive(Debug)]
pub struct DenyCache<S> {
    store: S,
    /// Empty if nothing is kept.
    shards: Box<[Mutex<Shard>]>,
    /// How many refusals each shard keeps.
    capacity: usize,
    /// Seeded at random, so that nobody can choose names that share a shard.
    hasher: RandomState,
    /// Goes on with every call and every refund, and so puts them in order.
    turn: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    refusals: IndexMap<Box<[u8]>, Refusal, RandomState>,
    /// The turn of the last refund.
    refunded: u64,
    /// Where the next look for ended ones begins.
    next: usize,
    /// Without the entries.
    counts: DenyCacheUsage,
}

/// What was refused, and until when it is.
#[derive(Debug)]
struct Refusal {
    limit: Limit,
    hits: u64,
    at: Timestamp,
    until: Timestamp,
    outcome: Outcome,
}

impl Refusal {
    /// What `charge` teaches, of which this became at `now`.
    fn of(charge: &Charge, outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let hits = charge.hits.asked();
        let limit = &charge.limit;
        if hits == 0 || !outcome.over {
            return None;
        }
        let lasts = match limit.algorithm {
            Algorithm::Concurrency { .. } => return None,
            _ if !limit.penalty.is_zero() => outcome.banned,
            Algorithm::FixedWindow { .. } => charge.counter.span.end.since(now),
            _ if hits == 1 && outcome.remaining == 0 => outcome.retry_after?,
            _ => return None,
        };
        let until = now.plus(lasts.min(LONGEST));
        Some(Self { limit: limit.clone(), hits, at: now, until, outcome: *outcome })
    }

    /// Whether it is of use at `now`. A clock that has stepped back proves
    /// nothing.
    fn holds(&self, now: Timestamp) -> bool {
        self.at <= now && now < self.until
    }

    /// What the store would say of `charge`, if this tells.
    fn answer(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        if !self.holds(now) || self.limit != charge.limit {
            return None;
        }
        let asked = charge.hits.asked();
        let window = matches!(self.limit.algorithm, Algorithm::FixedWindow { .. });
        let outcome = if window && self.limit.penalty.is_zero() {
            let used = self.outcome.used;
            // One that is not over its limit yet may have to count what it refuses.
            let needed = if charge.counts_denied() { 0 } else { asked };
            if used.saturating_add(needed) <= self.limit.requests.into() {
                return None;
            }
            let told = Told::Count(used);
            charge.outcome(Answer { passes: false, banned: now, told }, false, now)
        } else if asked == self.hits {
            let passed = now.since(self.at);
            let left = |it: Duration| it.saturating_sub(passed);
            Outcome {
                reset_after: left(self.outcome.reset_after),
                retry_after: self.outcome.retry_after.map(left),
                banned: left(self.outcome.banned),
                ..self.outcome
            }
        } else {
            return None;
        };
        Some(Outcome { counted: false, cached: true, ..outcome })
    }
}

impl Shard {
    fn put(&mut self, name: &[u8], refusal: Refusal, capacity: usize, now: Timestamp) {
        if let Some(old) = self.refusals.get_mut(name) {
            *old = refusal;
            self.counts.overwritten += 1;
            return;
        }
        self.drop_ended(now);
        if capacity <= self.refusals.len() {
            self.drop_one();
        }
        self.refusals.insert(name.into(), refusal);
    }

    fn drop_ended(&mut self, now: Timestamp) {
        for _ in 0..SAMPLED {
            match self.refusals.get_index(self.next) {
                Some((_, it)) if !it.holds(now) => {
                    self.refusals.swap_remove_index(self.next);
                    self.counts.expired += 1;
                }
                Some(_) => self.next += 1,
                None => self.next = 0,
            }
        }
    }

    /// Drops, of a few, the one that ends first.
    fn drop_one(&mut self) {
        let length = self.refusals.len();
        let sample = (0..SAMPLED.min(length)).map(|it| (self.next + it) % length);
        if let Some(first) = sample.min_by_key(|it| self.refusals[*it].until) {
            self.refusals.swap_remove_index(first);
            self.counts.evicted += 1;
        }
    }
}

impl<S> DenyCache<S> {
    /// A cache that takes about `bytes` of memory, at least 64 refusals; with 0
    /// bytes none, and `store` does everything.
    pub fn new(store: S, bytes: usize) -> Self {
        let shards = if bytes == 0 { 0 } else { SHARDS };
        let capacity = (bytes / EACH / SHARDS).max(1);
        let (hasher, turn) = (RandomState::default(), AtomicU64::new(0));
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { store, shards, capacity, hasher, turn }
    }

    /// What becomes of a call that is known to be refused in every part.
    fn refused(&self, charges: &[Charge], now: Timestamp) -> Option<Outcomes> {
        // All are looked up, so that each is counted, whatever the others say.
        let mut outcomes = Some(Outcomes::new());
        for charge in charges {
            // Looks, and what is given back, are no hits.
            let known = if charge.hits.asked() > 0 { self.look_up(charge, now) } else { None };
            outcomes = outcomes.zip(known).map(|(mut outcomes, outcome)| {
                outcomes.push(outcome);
                outcomes
            });
        }
        outcomes
    }

    fn look_up(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        let name = name(&charge.counter.key);
        let mut shard = self.shard(&name).lock();
        let outcome = shard.refusals.get(&*name).and_then(|it| it.answer(charge, now));
        match outcome {
            Some(_) => shard.counts.hits += 1,
            None => shard.counts.misses += 1,
        }
        outcome
    }

    /// Learns from a call that was begun at `turn`.
    fn learn(&self, charges: &[Charge], outcomes: &Outcomes, turn: u64, now: Timestamp) {
        // What refuses there may be another charge, that was then not made either.
        let unsure = charges.len() > 1 && charges.iter().any(|it| it.all_or_nothing);
        for (charge, outcome) in charges.iter().zip(outcomes) {
            let name = name(&charge.counter.key);
            let refusal = Refusal::of(charge, outcome, now).filter(|_| !unsure);
            let mut shard = self.shard(&name).lock();
            match refusal {
                // What was refused before a refund may pass after it.
                Some(refusal) if shard.refunded < turn => {
                    shard.put(&name, refusal, self.capacity, now);
                }
                None if !outcome.over && charge.hits.asked() > 0 => {
                    shard.refusals.swap_remove(&*name);
                }
                _ => {}
            }
        }
    }

    fn shard(&self, name: &[u8]) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(name) >> 32) as usize % SHARDS]
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The refunds of a call. At its end, also if nobody waits for the answer any
/// more, what they may have lifted is forgotten.
struct Refunds<'a, S> {
    cache: &'a DenyCache<S>,
    charges: &'a [Charge],
}

impl<S> Drop for Refunds<'_, S> {
    fn drop(&mut self) {
        for charge in self.charges.iter().filter(|it| !it.asks()) {
            if let Algorithm::Concurrency { .. } = charge.limit.algorithm {
                continue;
            }
            let name = name(&charge.counter.key);
            let mut shard = self.cache.shard(&name).lock();
            shard.refunded = self.cache.turn();
            shard.refusals.swap_remove(&*name);
        }
    }
}

impl<S: Store> Store for DenyCache<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        if self.shards.is_empty() {
            return self.store.charge(charges, now).await;
        }
        if let Some(outcomes) = self.refused(charges, now) {
            return Ok(outcomes);
        }
        let _refunds = Refunds { cache: self, charges };
        let turn = self.turn();
        let outcomes = self.store.charge(charges, now).await?;
        self.learn(charges, &outcomes, turn, now);
        Ok(outcomes)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn died(&self) {
        self.store.died().await;
    }

    fn usage(&self) -> Option<Usage> {
        self.store.usage()
    }

    fn pools(&self) -> Pools {
        self.store.pools()
    }

    fn deny_cache(&self) -> Option<DenyCacheUsage> {
        (!self.shards.is_empty()).then(|| {
            self.shards.iter().fold(DenyCacheUsage::default(), |sum, shard| {
                let shard = shard.lock();
                let DenyCacheUsage { hits, misses, expired, evicted, overwritten, .. } =
                    shard.counts;
                DenyCacheUsage {
                    entries: sum.entries + shard.refusals.len() as u64,
                    hits: sum.hits + hits,
                    misses: sum.misses + misses,
                    expired: sum.expired + expired,
                    evicted: sum.evicted + evicted,
                    overwritten: sum.overwritten + overwritten,
                }
            })
        })
    }
}

#[cfg(test)]
mod tests;
