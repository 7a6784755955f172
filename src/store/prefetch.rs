//! Hits taken ahead: a rule may say that an instance takes a part of its limit at
//! once, and spends it without asking, so that a busy counter costs few calls.
//!
//! What is spent has been counted, within the limit, so never more passes than
//! the limit says; a limit that is lowered is asked about first. What an instance
//! has taken and does not spend is lost at the end of the window, unless it is
//! given back when the process ends: at most [`Limit::ahead`](crate::limit::Limit)
//! hits for each instance. Less is taken by an instance that is less busy, and at
//! most a tenth of what is left.

use std::{future::Future, sync::Arc};

pub use self::leases::QuotaLeases;
use super::{Charge, Counters, Deadline, LONGEST_NAME, Results, Store, StoreError};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{
        Hits, Limit, Outcome,
        fixed_window::State,
        step::{Snapshot, StepResult},
    },
    time::Timestamp,
};

mod refund;
mod lease;
mod leases;

/// A store around a store: it takes hits ahead where a limit says so.
#[derive(Debug)]
pub struct PrefetchStore<S> {
    store: S,
    leases: Arc<QuotaLeases>,
}

impl<S> PrefetchStore<S> {
    /// A store around `store`.
    pub fn new(store: S) -> Self {
        Self { store, leases: Arc::default() }
    }

    /// What it has taken ahead, to give it back at the end.
    pub fn leases(&self) -> Arc<QuotaLeases> {
        Arc::clone(&self.leases)
    }
}

/// The hits of a call for which some may be taken ahead.
fn asked(charges: &[Charge]) -> Option<(&Charge, u64)> {
    let [charge] = charges else { return None };
    let Limit { max_prefetch, penalty, algorithm, .. } = &charge.limit;
    let counts = algorithm.counts_denied();
    let hits = charge.hits.capped().requested();
    // Longer names would take too much memory.
    let short = charge.counter.key.as_bytes().len() <= LONGEST_NAME;
    let alone = penalty.is_zero() && !charge.depends_on_others();
    (0 < *max_prefetch && 0 < hits && counts && alone && short).then_some((charge, hits))
}

impl<S: Store> Store for PrefetchStore<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let Some((charge, hits)) = asked(charges) else {
            return self.store.charge(charges, now, deadline).await;
        };
        let outcome = |count| {
            let told = Snapshot::Count(State { start: Timestamp::default(), count });
            let passes = count <= u64::from(charge.limit.requests);
            charge.outcome(
                StepResult { passes, banned_until: Timestamp::default(), snapshot: told },
                true,
                now,
            )
        };
        if let Some(count) = self.leases.spend(charge, hits, now) {
            return [Ok(outcome(count))].into_iter().collect();
        }
        let mut taking = self.leases.begin(charge, now);
        let more = Charge { hits: Hits::Add(hits.saturating_add(taking.size)), ..charge.clone() };
        let results = self.store.charge(&[more], now, deadline).await;
        let Some(&Ok(Outcome { used: count, .. })) = results.first() else { return results };
        // The hits of the call come first.
        let own = count.saturating_sub(taking.size);
        taking.taken(own.saturating_sub(hits), own);
        if taking.size == 0 {
            return results;
        }
        [Ok(outcome(own))].into_iter().collect()
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        self.store.task_failed()
    }
}

impl<S: Store + Counters> Counters for PrefetchStore<S> {
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
        self.leases.forget(counter);
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
        self.leases.forget(&counter.key);
        set
    }
}

#[cfg(test)]
mod tests;
