//! Counters in this process.
//!
//! The counters are spread over shards by the hash of their name, and each
//! shard is guarded by a lock that is held for one charge: no longer than it
//! takes to look up a name and work out a step. Only a call with penalties, or
//! with charges that depend on each other, holds all its shards at once,
//! and they are locked in one order, so that no two calls wait for each other.
//!
//! Names are not kept, but 96 random bits in the place of each: of 10 million names, two
//! are the same with a probability of 6 in 10^16, and nobody can choose them, as the
//! hash has a random key.
//!
//! Memory is bounded twice. A counter that means nothing any more, since a
//! [second](EXPIRY_SLACK), is dropped: every few charges one looks at some of its shard,
//! in turn, so no task has to run for it. And there are [`Bounds`], for all counters
//! together. At these, what is new takes the place of what is missed least, but each
//! domain keeps its share, and what refuses somebody is not forgotten for what is new in
//! its own domain (`shard` tells all of it). What then finds no room is decided, but not kept.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use self::{
    ledger::Ledger,
    shard::{Entry, Shard},
    slot::{Counter, Kept, Key},
};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{
        Hits, Limit, Outcome, Window,
        step::{self, State, Step, StepResult},
    },
    store::{
        Charge, Counters, Deadline, EXPIRY_SLACK, MemoryUsage, Results, Store, StoreError,
        StoreStats, peek_charge,
        script::{self, Record, Settlement},
        single_result,
    },
    time::Timestamp,
};

mod ledger;
mod shard;
mod slot;
mod table;

/// Enough that two threads rarely want the same one.
const MOST_SHARDS: usize = 256;
/// The least that is worth a shard of its own, in bytes.
const LEAST_SHARD: usize = 1 << 18;

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In bytes: each counter counts as 100, and `sliding_log` and `concurrency` also for
    /// what is allocated for their lists, 80 bytes and 16 for each call that is remembered.
    pub bytes: usize,
    /// In counters, if that is bounded, too.
    pub keys: Option<usize>,
}

impl Bounds {
    /// The bytes that each counter counts as.
    pub const COUNTER: usize = slot::COUNTER;
}

impl fmt::Display for Bounds {
    /// The settings that set the bounds, with their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MEMORY_MAX_BYTES ({})", self.bytes)?;
        match self.keys {
            Some(keys) => write!(f, " and MEMORY_MAX_KEYS ({keys})"),
            None => Ok(()),
        }
    }
}

impl Default for Bounds {
    /// 128 MiB.
    fn default() -> Self {
        Self { bytes: 1 << 27, keys: None }
    }
}

/// Counters in this process.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    ledger: Mutex<Ledger>,
    /// Its key is random, so that nobody can choose names that are taken for each other.
    hasher: RandomState,
}

/// The longest that the counter of `charge` is kept from now on.
fn longest(charge: &Charge) -> Duration {
    let Charge { limit, counter, .. } = charge;
    match limit.has_window_in_key() {
        // A limit with a longer window may share the name.
        true => Duration::from_secs(Window::MAX_SECONDS),
        false => step::max_ttl(limit, counter.span),
    }
}

/// From when on another hit passes where the `state` is all that matters, and a ban that
/// ends then.
fn refuses(charge: &Charge, state: Option<State>, ban: Timestamp, now: Timestamp) -> Timestamp {
    let (limit, span, hit) = (&charge.limit, charge.counter.span, Hits::Add(1));
    let told = step::step(limit, span, state, hit, now).before;
    let answer = StepResult { passes: true, banned_until: ban, snapshot: told };
    after(step::outcome(limit, span, hit, answer, now).retry_after, now).max(ban)
}

/// When the time has come that it says. What never passes is refused whatever is kept.
fn after(wait: Option<Duration>, now: Timestamp) -> Timestamp {
    wait.map_or(now, |it| now.plus(it))
}

impl Memory {
    /// An empty store for about so many counters, and within the usual bound in bytes.
    pub fn new(keys: usize) -> Self {
        Self::bounded(Bounds { keys: Some(keys), ..Bounds::default() })
    }

    /// An empty store.
    ///
    /// It takes no more than its bounds say, but for 128 KiB, and while a table grows for
    /// that table once more, of which there are up to 256.
    pub fn bounded(bounds: Bounds) -> Self {
        let keys = bounds.keys.unwrap_or(usize::MAX).saturating_mul(Bounds::COUNTER);
        let shards = (bounds.bytes.min(keys) / LEAST_SHARD).clamp(1, MOST_SHARDS);
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { shards, ledger: Mutex::new(Ledger::new(bounds)), hasher: RandomState::new() }
    }

    /// How many counters are kept now.
    pub fn len(&self) -> usize {
        self.ledger.lock().counters
    }

    /// Whether no counter is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much is kept, and what was not.
    pub fn usage(&self) -> MemoryUsage {
        let ledger = self.ledger.lock();
        let &Ledger { counters, bytes, evicted, uncounted, .. } = &*ledger;
        MemoryUsage { counters, bytes, evicted, uncounted }
    }

    /// Has `readings` tell how much is kept here.
    pub fn publish_usage(self: &Arc<Self>, readings: &StoreStats) {
        let memory = Arc::downgrade(self);
        readings.memory.register(move || memory.upgrade().map(|it| it.usage()).unwrap_or_default());
    }

    /// Makes a charge that depends on no other, to a counter without a penalty.
    fn charge_one(&self, charge: &Charge, now: Timestamp) -> Outcome {
        let (limit, span) = (&charge.limit, charge.counter.span);
        let (key, shard) = self.place(&charge.counter.key);
        let mut shard = self.shards[shard].lock();
        shard.sweep(now, &self.ledger);
        let state = shard.live(key, now, || longest(charge)).and_then(|it| it.kept.state());
        let Step { passes, after: told, state, .. } =
            step::step(limit, span, state, charge.hits, now);
        let answer = StepResult { passes, banned_until: Timestamp::default(), snapshot: told };
        let outcome = charge.outcome(answer, now);
        if let Some(state) = state {
            let refuses = match (outcome.remaining, charge.hits) {
                (0, Hits::Add(1)) => after(outcome.retry_after, now),
                (0, _) => refuses(charge, Some(state.clone()), Timestamp::default(), now),
                _ => Timestamp::default(),
            };
            let until = now.plus(step::ttl(limit, span, told, now)).plus(EXPIRY_SLACK);
            let kept = Kept::new(Some(state), Timestamp::default());
            let domain = charge.counter.key.domain();
            let counter = Counter { kept, until, refuses };
            shard.put(Entry { key, domain, counter }, &self.ledger, now);
        }
        outcome
    }

    /// Makes all charges of one call while nobody else is served.
    fn charge_together(&self, charges: &[Charge], now: Timestamp) -> Results {
        let mut held = self.hold(charges, now);
        let made = script::evaluate(charges, None, now, |key| held.read(key));
        let attempts = made.evaluations;
        for script::Write { position, record, snapshot } in made.writes {
            let charge = &charges[position];
            let until = |told| now.plus(step::ttl(&charge.limit, charge.counter.span, told, now));
            let ban = step::ban_end(&charge.limit, record.banned_since, now);
            let until = snapshot.map(until).unwrap_or_default().max(ban);
            let refuses = match attempts[position].outcome(charge, now).remaining {
                0 => refuses(charge, record.state.clone(), ban, now),
                _ => ban,
            };
            held.write(charge, record, until.plus(EXPIRY_SLACK), refuses);
        }
        charges.iter().zip(attempts).map(|(charge, it)| Ok(it.outcome(charge, now))).collect()
    }

    /// Whether `charge` would be over its limit now. Counts nothing.
    pub fn would_refuse(&self, charge: &Charge, now: Timestamp) -> bool {
        let mut held = self.hold(std::slice::from_ref(charge), now);
        let made = script::evaluate(std::slice::from_ref(charge), None, now, |key| held.read(key));
        made.evaluations.iter().any(|it| it.outcome(charge, now).over)
    }

    /// Locks the shards of these charges, in an order that all callers keep.
    fn hold<'a>(&'a self, charges: &'a [Charge], now: Timestamp) -> Held<'a> {
        let mut positions: SmallVec<[usize; 4]> =
            charges.iter().map(|it| self.place(&it.counter.key).1).collect();
        positions.sort_unstable();
        positions.dedup();
        let lock = |at: usize| {
            let mut shard = self.shards[at].lock();
            shard.sweep(now, &self.ledger);
            (at, shard)
        };
        let shards = positions.into_iter().map(lock).collect();
        Held { memory: self, charges, longest: None, shards, now }
    }

    /// What stands for a name, and the position of its shard.
    fn place(&self, name: &CounterKey) -> (Key, usize) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        let hash = hasher.finish();
        // The hash of a longer text: as independent as that of any other.
        hasher.write_u8(0);
        let [a, b, c, d, shard @ ..] = hasher.finish().to_le_bytes();
        let shard = u32::from_le_bytes(shard) as usize % self.shards.len();
        (Key { hash, check: u32::from_le_bytes([a, b, c, d]) }, shard)
    }
}

/// What a call holds while it is worked out.
struct Held<'a> {
    memory: &'a Memory,
    charges: &'a [Charge],
    /// The longest that each counter is kept, once somebody asks.
    longest: Option<HashMap<&'a CounterKey, Duration>>,
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    now: Timestamp,
}

impl Held<'_> {
    /// What is kept under `key`, one of the charges'.
    fn read(&mut self, key: &CounterKey) -> Record {
        let ((place, at), now, charges) = (self.memory.place(key), self.now, self.charges);
        let all = &mut self.longest;
        let longest = || {
            let all = all.get_or_insert_with(|| {
                let mut all = HashMap::new();
                for charge in charges {
                    let of = all.entry(&charge.counter.key).or_insert(Duration::ZERO);
                    *of = longest(charge).max(*of);
                }
                all
            });
            all.get(key).copied().unwrap_or_default()
        };
        let shards = &mut self.shards;
        match shard(shards, at).live(place, now, longest) {
            None => Record::default(),
            Some(Counter { kept, .. }) => {
                Record { state: kept.state(), banned_since: kept.banned(), holds: Vec::new() }
            }
        }
    }

    /// Says whether there was room.
    fn write(
        &mut self,
        charge: &Charge,
        record: Record,
        until: Timestamp,
        refuses: Timestamp,
    ) -> bool {
        let ((key, at), now) = (self.memory.place(&charge.counter.key), self.now);
        let Record { state, banned_since: banned, .. } = record;
        let counter = Counter { kept: Kept::new(state, banned), until, refuses };
        let domain = charge.counter.key.domain();
        let entry = Entry { key, domain, counter };
        shard(&mut self.shards, at).put(entry, &self.memory.ledger, now)
    }
}

/// The shard at `position`, which is held.
fn shard<'a>(held: &'a mut [(usize, MutexGuard<'_, Shard>)], position: usize) -> &'a mut Shard {
    let at = held.binary_search_by_key(&position, |it| it.0);
    &mut held[at.expect("every shard of the charges is held")].1
}

impl Store for Memory {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        let together = |it: &Charge| it.depends_on_others() || !it.limit.penalty.is_zero();
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
    async fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        single_result(self.charge(&[peek_charge(counter, limit)], now, None).await)
    }

    async fn reset(&self, counter: &CounterKey) -> Result<bool, StoreError> {
        let (key, shard) = self.place(counter);
        Ok(self.shards[shard].lock().remove(key, &self.ledger))
    }

    async fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let charges = [peek_charge(counter, limit)];
        let (charge, mut record) = (&charges[0], Record::default());
        let set = Settlement::Set(used.min(Hits::MAX));
        script::settle(&mut record, charge, set, now, &mut false);
        let until = now.plus(step::max_ttl(limit, counter.span)).plus(EXPIRY_SLACK);
        let mut held = self.hold(&charges, now);
        let (key, at) = self.place(&counter.key);
        shard(&mut held.shards, at).remove(key, &self.ledger);
        let refuses = refuses(charge, record.state.clone(), Timestamp::default(), now);
        match held.write(charge, record, until, refuses) {
            true => Ok(()),
            false => Err(StoreError::Failed(
                "memory for counters is full of those that refuse; raise MEMORY_MAX_BYTES".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
