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
//! pass, changes meanwhile. Looks are refused by windows that are over their
//! limit, and else sent; refunds are always sent.
//!
//! Each charge of a call is refused here if that is known, and the others are
//! sent, with word that their call [is refused](Charge::refused) if it is. But all
//! charges of a call to one counter are sent together, as each may change what
//! becomes of the next. A charge that is refused here changes nothing in the store
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
//! [second](MAX_TTL): a refund that another instance sends or that is carried out
//! late, a counter that somebody deletes, and clocks and rules of instances that
//! differ. For as long, where a clock has stepped back, the wait for the end of a penalty
//! is told too short, by that step.

use std::{
    borrow::Cow,
    collections::HashSet,
    future::Future,
    hash::BuildHasher,
    mem::size_of,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::denial::CachedDenial;
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Denial, Limit, Outcome},
    store::{
        Charge, Counters, Deadline, DenyCacheUsage, LONGEST_NAME, Results, Store, StoreError,
        StoreStats, enforced::Enforcement, name,
    },
    time::Timestamp,
};

mod denial;

/// How long a refusal is believed. After that the store is asked again.
pub const MAX_TTL: Duration = Duration::from_secs(1);

/// Enough that two threads rarely want the same one.
const SHARDS: usize = 64;
/// How many refusals are compared when one has to go, and how many of the ended
/// ones go with each that comes.
const SAMPLED: usize = 8;
/// What a refusal takes at most, in bytes: its place, which is there twice after
/// the map has grown, its place in the index, and the longest name.
const EACH: usize =
    2 * (size_of::<(usize, Box<[u8]>, CachedDenial)>() + 2 * size_of::<usize>()) + LONGEST_NAME;

/// A store around a store: it answers what is known to be refused.
#[derive(Debug)]
pub struct DenyCache<S> {
    store: S,
    refusals: Arc<DenialTable>,
}

/// The refusals that are known.
#[derive(Debug)]
struct DenialTable {
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
    refusals: IndexMap<Box<[u8]>, CachedDenial, RandomState>,
    /// The turn of the last refund.
    refunded: u64,
    /// Where the next look for ended ones begins.
    next: usize,
    /// Without the entries.
    counts: DenyCacheUsage,
}

/// What becomes of each charge of a call, if it is known.
type Known = SmallVec<[Option<Outcome>; 4]>;

/// Some counters of a call.
type Keys<'a> = HashSet<&'a CounterKey, RandomState>;

/// Those that are charged more than once.
fn repeated(charges: &[Charge]) -> Keys<'_> {
    let mut once = Keys::default();
    charges.iter().map(|it| &it.counter.key).filter(|it| !once.insert(it)).collect()
}

/// Under which name a refusal is kept.
fn place(charge: &Charge) -> Cow<'_, [u8]> {
    name(&charge.counter.key)
}

impl Shard {
    fn put(&mut self, name: &[u8], refusal: CachedDenial, capacity: usize, now: Timestamp) {
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
        Self { store, refusals: Arc::new(DenialTable::new(bytes)) }
    }

    /// Has `readings` tell what it comes to, unless it keeps nothing.
    #[must_use]
    pub fn publish_usage(self, readings: &StoreStats) -> Self {
        if !self.refusals.shards.is_empty() {
            let refusals = Arc::clone(&self.refusals);
            StoreStats::register(&readings.deny_cache, move || refusals.usage());
        }
        self
    }
}

impl DenialTable {
    fn new(bytes: usize) -> Self {
        let shards = if bytes == 0 { 0 } else { SHARDS };
        let capacity = (bytes / EACH / SHARDS).max(1);
        let (hasher, turn) = (RandomState::default(), AtomicU64::new(0));
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { shards, capacity, hasher, turn }
    }

    /// What is known of each of `charges`.
    fn known(&self, charges: &[Charge], now: Timestamp) -> Known {
        let look_up = |it: &Charge| if !it.is_refund() { self.look_up(it, now) } else { None };
        let mut known: Known = charges.iter().map(look_up).collect();
        if known.iter().any(Option::is_some) && known.iter().any(Option::is_none) {
            let sent = charges.iter().zip(&known).filter(|(_, known)| known.is_none());
            let sent: Keys<'_> = sent.map(|(charge, _)| &charge.counter.key).collect();
            for (charge, known) in charges.iter().zip(&mut known) {
                if sent.contains(&charge.counter.key) {
                    *known = None;
                }
            }
        }
        known
    }

    fn look_up(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        let name = place(charge);
        let mut shard = self.shard(&name).lock();
        let outcome = shard.refusals.get(&*name).and_then(|it| it.answer(charge, now));
        match outcome {
            Some(_) => shard.counts.hits += 1,
            None => shard.counts.misses += 1,
        }
        outcome
    }

    /// Learns from a call that was begun at `turn`.
    fn learn(&self, charges: &[Charge], results: &Results, turn: u64, now: Timestamp) {
        let over = results.iter().any(|it| it.as_ref().is_ok_and(|it| it.over));
        let together = charges.iter().any(Charge::depends_on_others) && over;
        let twice = if together { repeated(charges) } else { Keys::default() };
        for (charge, result) in charges.iter().zip(results) {
            let Ok(outcome) = result else { continue };
            let name = place(charge);
            // What refuses it may be another charge, that was then not made either.
            let sure = !twice.contains(&charge.counter.key);
            let refusal = CachedDenial::of(charge, outcome, now);
            let mut shard = self.shard(&name).lock();
            match refusal {
                // What was refused before a refund may pass after it.
                Some(refusal) if sure && shard.refunded < turn => {
                    shard.put(&name, refusal, self.capacity, now);
                }
                // It is newer than what was known, which a clock that steps back would
                // bring to life again.
                Some(_) => drop(shard.refusals.swap_remove(&*name)),
                None if !outcome.over && charge.hits.requested() > 0 => {
                    shard.refusals.swap_remove(&*name);
                }
                _ => {}
            }
        }
    }

    fn shard(&self, name: &[u8]) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(name) >> 32) as usize % SHARDS]
    }

    /// Forgets what was refused before now.
    fn forget(&self, key: &CounterKey) {
        if self.shards.is_empty() {
            return;
        }
        let name = name(key);
        let mut shard = self.shard(&name).lock();
        shard.refunded = self.turn();
        shard.refusals.swap_remove(&*name);
    }

    fn usage(&self) -> DenyCacheUsage {
        self.shards.iter().fold(DenyCacheUsage::default(), |sum, shard| {
            let shard = shard.lock();
            let DenyCacheUsage { hits, misses, expired, evicted, overwritten, .. } = shard.counts;
            DenyCacheUsage {
                entries: sum.entries + shard.refusals.len() as u64,
                hits: sum.hits + hits,
                misses: sum.misses + misses,
                expired: sum.expired + expired,
                evicted: sum.evicted + evicted,
                overwritten: sum.overwritten + overwritten,
            }
        })
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The refunds of a call. At its end, also if nobody waits for the answer any
/// more, what they may have lifted is forgotten.
struct Refunds<'a> {
    cache: &'a DenialTable,
    charges: &'a [Charge],
}

impl Drop for Refunds<'_> {
    fn drop(&mut self) {
        for charge in self.charges.iter().filter(|it| it.is_refund()) {
            if charge.limit.algorithm.info().denial != Denial::Never {
                self.cache.forget(&charge.counter.key);
            }
        }
    }
}

impl<S: Store> DenyCache<S> {
    /// Asks the store, and learns from that.
    async fn ask(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let _refunds = Refunds { cache: &self.refusals, charges };
        let turn = self.refusals.turn();
        let results = self.store.charge(charges, now, deadline).await;
        self.refusals.learn(charges, &results, turn, now);
        results
    }
}

/// Those of `charges` of which nothing is known, for the store.
fn rest(charges: &[Charge], known: &[Option<Outcome>]) -> SmallVec<[Charge; 4]> {
    let both = || charges.iter().zip(known);
    let all = Enforcement::of(both().map(|(it, known)| (it, known.as_ref().map(|it| it.over))));
    let refused = all.refuses();
    let unknown = both().filter(|(_, known)| known.is_none());
    let told = |charge: &Charge| {
        let refused = charge.refused || refused && charge.depends_on_others();
        Charge { refused, enforced: all.left(charge.enforced), ..charge.clone() }
    };
    unknown.map(|(charge, _)| told(charge)).collect()
}

impl<S: Store> Store for DenyCache<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        if self.refusals.shards.is_empty() {
            return self.store.charge(charges, now, deadline).await;
        }
        let known = self.refusals.known(charges, now);
        if known.iter().all(Option::is_none) {
            return self.ask(charges, now, deadline).await;
        }
        let rest = rest(charges, &known);
        let mut asked = match rest.is_empty() {
            true => Results::new(),
            false => self.ask(&rest, now, deadline).await,
        }
        .into_iter();
        let mut results = Results::new();
        for known in known {
            match known {
                Some(outcome) => results.push(Ok(outcome)),
                None => results.extend(asked.next()),
            }
        }
        results
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        self.store.task_failed()
    }
}

impl<S: Store + Counters> Counters for DenyCache<S> {
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        self.store.peek(counter, limit, now).await
    }

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        let found = self.store.reset(counter).await;
        self.refusals.forget(counter);
        found
    }

    async fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let set = self.store.set(counter, limit, used, now).await;
        self.refusals.forget(&counter.key);
        set
    }
}

#[cfg(test)]
mod tests;
