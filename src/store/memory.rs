//! Counters in the memory of this process.
//!
//! Counters are divided into shards by the hash of their name. Each shard has a lock that
//! is held for one charge. Only a call with penalties, or with charges that depend on each
//! other, locks all its shards at once.
//!
//! Names are not kept. A key of 96 random bits stands for each: among 10 million names, two
//! have the same key with a probability of 6 in 10^16, and clients cannot choose such
//! names, because the hash is randomly seeded.
//!
//! Memory is bounded in two ways. Counters that expired a [second](EXPIRY_SLACK) ago are
//! removed: every few charges, some counters of the shard are checked, so that no
//! background task is needed. And [`Bounds`] limit all counters together. At a bound, a new
//! counter evicts the least valuable one; but each domain keeps its share, and a counter
//! that is over its limit is not evicted for a new one of its own domain (see `shard`). If
//! nothing can be evicted, a charge is decided but not counted.

use std::sync::Arc;

pub use self::bounds::Bounds;
use self::{
    pressure::{Pressure, PressureWarnings},
    shard::KeyedCounter,
    shards::{CounterPlace, Expiry, Shards, max_ttl},
    slot::{Counter, CounterState},
};
use crate::{
    counter::CounterRef,
    limit::{
        Hits, Limit, Outcome,
        step::{self, State, Step, StepResult},
    },
    store::{
        CallTime, ChangeError, Charge, CounterChange, Counters, Deadline, EXPIRY_SLACK,
        MemoryUsage, Results, Store, StoreError, StoreStats, peek_charge,
        script::{self, Record},
        single_result,
    },
    time::Timestamp,
};

mod bounds;
mod ledger;
mod pressure;
mod shard;
mod shards;
mod slot;
mod table;

/// Counters in the memory of this process.
#[derive(Debug)]
pub struct Memory {
    shards: Shards,
    warnings: PressureWarnings,
}

impl Memory {
    /// An empty store with room for about `keys` counters, and the default bound in bytes.
    pub fn new(keys: usize) -> Self {
        Self::with_bounds(Bounds { keys: Some(keys), ..Bounds::default() })
    }

    /// An empty store.
    ///
    /// Besides its bounds it takes 128 KiB, and while one of up to 256 tables grows, the
    /// size of that table once more.
    pub fn with_bounds(bounds: Bounds) -> Self {
        Self { shards: Shards::new(bounds), warnings: PressureWarnings::new() }
    }

    /// The number of counters, including expired ones that are not removed yet.
    pub fn len(&self) -> usize {
        self.shards.ledger.lock().counters
    }

    /// True if there are no counters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number and size of the counters, and the evictions so far.
    pub fn usage(&self) -> MemoryUsage {
        let ledger = self.shards.ledger.lock();
        MemoryUsage {
            counters: ledger.counters,
            bytes: ledger.bytes,
            evicted: ledger.evicted,
            uncounted: ledger.uncounted,
        }
    }

    /// Registers the usage with `stats`.
    pub fn publish_usage(self: &Arc<Self>, stats: &StoreStats) {
        let memory = Arc::downgrade(self);
        stats.memory.register(move || match memory.upgrade() {
            Some(memory) => memory.usage(),
            None => MemoryUsage::default(),
        });
    }

    /// Applies a charge that depends on no other, to a counter without a penalty.
    fn apply(&self, charge: &Charge, now: Timestamp, pressure: &mut Pressure) -> Outcome {
        let (limit, span) = (&charge.limit, charge.counter.span);
        let CounterPlace { key, shard } = self.shards.locate(&charge.counter.key);
        let mut shard = self.shards.lock(shard, now);
        let state = match shard.get(key, now, || max_ttl(charge)) {
            Some(counter) => counter.state.state(),
            None => None,
        };
        let Step { passes, after, state, .. } = step::step(limit, span, state, charge.hits, now);
        let result = StepResult { passes, banned_until: Timestamp::default(), snapshot: after };
        let outcome = charge.outcome(result, now);
        if let Some(state) = state {
            let refuses_until = match (outcome.remaining, charge.hits) {
                (0, Hits::Add(1)) => retry_at(&outcome, now),
                (0, _) => refuses_until(charge, Some(state.clone()), Timestamp::default(), now),
                _ => Timestamp::default(),
            };
            let counter = Counter {
                state: CounterState::new(Some(state), Timestamp::default()),
                expires_at: now.plus(step::ttl(limit, span, after, now)).plus(EXPIRY_SLACK),
                refuses_until,
            };
            let domain = charge.counter.key.domain();
            let ledger = &self.shards.ledger;
            pressure.add(shard.put(KeyedCounter { key, domain, counter }, ledger, now));
        }
        outcome
    }

    /// Applies all charges of a call as one atomic operation.
    fn charge_together(&self, charges: &[Charge], now: Timestamp) -> Results {
        let mut shards = self.shards.lock_all(charges, now);
        let call = script::evaluate(charges, None, now, |key| shards.read(key));
        for script::Write { position, record, snapshot } in call.writes {
            let charge = &charges[position];
            let (limit, span) = (&charge.limit, charge.counter.span);
            let ban_end = step::ban_end(limit, record.banned_since, now);
            let state_end = match snapshot {
                Some(snapshot) => now.plus(step::ttl(limit, span, snapshot, now)),
                None => Timestamp::default(),
            };
            let outcome = call.evaluations[position].outcome(charge, now);
            let refuses_until = if outcome.remaining == 0 {
                refuses_until(charge, record.state.clone(), ban_end, now)
            } else {
                ban_end
            };
            let expires_at = state_end.max(ban_end).plus(EXPIRY_SLACK);
            shards.write(charge, record, Expiry { expires_at, refuses_until });
        }
        self.warnings.log(shards.unlock(), &self.shards.ledger);
        let mut results = Results::new();
        for (charge, evaluation) in charges.iter().zip(&call.evaluations) {
            results.push(Ok(evaluation.outcome(charge, now)));
        }
        results
    }

    /// True if `charge` would be over its limit now. Nothing is counted.
    pub fn would_refuse(&self, charge: &Charge, now: Timestamp) -> bool {
        let charges = std::slice::from_ref(charge);
        let mut shards = self.shards.lock_all(charges, now);
        let call = script::evaluate(charges, None, now, |key| shards.read(key));
        call.evaluations.iter().any(|evaluation| evaluation.outcome(charge, now).over)
    }
}

/// The moment until which a counter in `state`, with a ban until `ban_end`, refuses another
/// hit.
fn refuses_until(
    charge: &Charge,
    state: Option<State>,
    ban_end: Timestamp,
    now: Timestamp,
) -> Timestamp {
    let (limit, span, hit) = (&charge.limit, charge.counter.span, Hits::Add(1));
    let snapshot = step::step(limit, span, state, hit, now).before;
    let result = StepResult { passes: true, banned_until: ban_end, snapshot };
    retry_at(&step::outcome(limit, span, hit, result, now), now).max(ban_end)
}

/// The moment at which the charge passes. `now` if it never does: then the counter has no
/// effect and need not be kept.
fn retry_at(outcome: &Outcome, now: Timestamp) -> Timestamp {
    match outcome.retry_after {
        Some(wait) => now.plus(wait),
        None => now,
    }
}

impl Store for Memory {
    async fn charge(&self, charges: &[Charge], now: Timestamp, _: Deadline) -> Results {
        for charge in charges {
            if charge.depends_on_others() || !charge.limit.penalty.is_zero() {
                return self.charge_together(charges, now);
            }
        }
        let mut pressure = Pressure::default();
        let mut results = Results::new();
        for charge in charges {
            results.push(Ok(self.apply(charge, now, &mut pressure)));
        }
        self.warnings.log(pressure, &self.shards.ledger);
        results
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

    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        CallTime { now, .. }: CallTime,
    ) -> Result<(), ChangeError> {
        let charges = [peek_charge(counter, limit)];
        let (charge, mut record) = (&charges[0], Record::default());
        script::settle(&mut record, charge, change.settlement(), now, &mut false);
        let mut shards = self.shards.lock_all(&charges, now);
        if record.state.is_none() {
            shards.remove(&counter.key);
            return Ok(());
        }
        let expiry = Expiry {
            expires_at: now.plus(step::max_ttl(limit, counter.span)).plus(EXPIRY_SLACK),
            refuses_until: refuses_until(charge, record.state.clone(), Timestamp::default(), now),
        };
        let is_kept = shards.write(charge, record, expiry);
        self.warnings.log(shards.unlock(), &self.shards.ledger);
        if is_kept {
            return Ok(());
        }
        Err(ChangeError::Unchanged(StoreError::Failed(
            "memory for counters is full of counters over their limits; raise MEMORY_MAX_BYTES"
                .into(),
        )))
    }
}

#[cfg(test)]
mod tests;
