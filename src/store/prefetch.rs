//! Quota leases: where a rule allows it, an instance prefetches hits of a counter and
//! spends them locally, so that a busy counter needs few store calls.
//!
//! Prefetched hits are counted in the store before they are spent, so the limit is never
//! exceeded. After a limit has been lowered, the store is called before more are spent.
//! Prefetched hits that an instance does not spend are lost when the window ends, unless
//! it refunds them on shutdown: at most
//! [`Limit::max_prefetch`](crate::limit::Limit::max_prefetch) hits per instance. A less
//! busy instance prefetches less, and no instance more than a tenth of the hits left.

use std::{future::Future, sync::Arc};

pub use self::leases::QuotaLeases;
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{
        Limit, Outcome,
        fixed_window::State,
        hits::Hits,
        step::{Snapshot, StepResult},
    },
    store::{
        CallTime, ChangeError, Charge, CounterChange, Counters, Deadline, Results, Store,
        StoreError, name::MAX_NAME_BYTES,
    },
    time::Timestamp,
};

mod lease;
mod leases;
mod refund;

/// Wraps a store, and prefetches hits of counters whose limits allow it.
#[derive(Debug)]
pub struct PrefetchStore<S> {
    store: S,
    leases: Arc<QuotaLeases>,
}

impl<S> PrefetchStore<S> {
    /// Wraps `store`, without any leases yet.
    pub fn new(store: S) -> Self {
        Self { store, leases: Arc::default() }
    }

    /// The leases, which have to be [refunded](QuotaLeases::refund_unused) on shutdown.
    pub fn leases(&self) -> Arc<QuotaLeases> {
        Arc::clone(&self.leases)
    }
}

/// The hits of `charge`, if hits of its counter may be prefetched.
fn hits_to_spend(charge: &Charge) -> Option<u64> {
    let Limit { max_prefetch, penalty, algorithm, .. } = &charge.limit;
    let hits = charge.hits.capped().requested();
    if *max_prefetch == 0 || hits == 0 {
        return None;
    }
    if !algorithm.counts_denied() || !penalty.is_zero() || charge.depends_on_others() {
        return None;
    }
    if MAX_NAME_BYTES < charge.counter.key.as_bytes().len() {
        return None;
    }
    Some(hits)
}

/// The outcome of `charge` if it raised the counter to `count`.
fn outcome(charge: &Charge, count: u64, now: Timestamp) -> Outcome {
    let result = StepResult {
        passes: count <= u64::from(charge.limit.requests),
        banned_until: Timestamp::default(),
        snapshot: Snapshot::Count(State { start: Timestamp::default(), count }),
    };
    charge.outcome(result, now)
}

impl<S: Store> PrefetchStore<S> {
    /// Makes a charge of `hits`, with prefetched hits if there are enough.
    async fn charge_one(
        &self,
        charge: &Charge,
        hits: u64,
        now: Timestamp,
        deadline: Deadline,
    ) -> Results {
        if let Some(count) = self.leases.spend(charge, hits, now) {
            return Results::from_iter([Ok(outcome(charge, count, now))]);
        }
        let mut prefetch = self.leases.start_prefetch(charge, now);
        let total = hits.saturating_add(prefetch.size);
        let charge_with_prefetch = Charge { hits: Hits::Add(total), ..charge.clone() };
        let results = self.store.charge(&[charge_with_prefetch], now, deadline).await;
        let Some(&Ok(Outcome { used, .. })) = results.first() else { return results };
        // The hits of the call are counted before the prefetched ones.
        let count = used.saturating_sub(prefetch.size);
        prefetch.finish(count.saturating_sub(hits), count);
        if prefetch.size == 0 {
            return results;
        }
        Results::from_iter([Ok(outcome(charge, count, now))])
    }
}

impl<S: Store> Store for PrefetchStore<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        if let [charge] = charges
            && let Some(hits) = hits_to_spend(charge)
        {
            return self.charge_one(charge, hits, now, deadline).await;
        }
        self.store.charge(charges, now, deadline).await
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        self.store.task_failed()
    }
}

/// Drops the lease of a counter at the end of its change, also if that is cancelled.
struct ChangeGuard<'a> {
    leases: &'a QuotaLeases,
    counter: &'a CounterKey,
}

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        self.leases.drop_lease(self.counter);
    }
}

impl<S: Store + Counters> Counters for PrefetchStore<S> {
    /// The prefetched hits of all instances count as used.
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.store.peek(counter, limit, now)
    }

    async fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> Result<(), ChangeError> {
        let _drop = ChangeGuard { leases: &self.leases, counter: &counter.key };
        self.store.change(counter, limit, change, time).await
    }
}

#[cfg(test)]
mod tests;
