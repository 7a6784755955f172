//! Caches over-limit outcomes for as long as they must hold, so that these need no store
//! call.
//!
//! That is exact, because until then other callers can only use more of the limit. A
//! cached denial applies to charges with the same counter and limit:
//!
//! | denied by                            | applies to                     | expires when       |
//! |--------------------------------------|--------------------------------|--------------------|
//! | a penalty                            | the same number of hits        | the penalty ends   |
//! | a fixed window                       | hits it has no room for        | the window ends    |
//! | a fixed window over its limit, which counts denied hits | any hits    | the window ends    |
//! | another algorithm, not `concurrency` | a single hit                   | a hit fits         |
//!
//! Denials by `concurrency` are not cached, because another caller may release a permit at
//! any time. Neither are other numbers of hits: the room for them, and the moment at which
//! they fit, change meanwhile. A charge of 0 hits is answered from the cache if a fixed
//! window is over its limit, and otherwise sent to the store. Refunds are always sent.
//!
//! If the cache answers some charges of a call, the others are sent to the store, marked
//! as [already refused](Charge::refused) where that is so. But all charges of a call to
//! the same counter are sent together, because each may change the outcome of the next.
//!
//! A charge answered from the cache does not change the store. That matters for a fixed
//! window that counts denied hits: it counts fewer, and the difference shows in the
//! statistics only. After a refund within that window, or after its limit was raised, more
//! hits may pass than if all had been counted.
//!
//! The `remaining` of a cached outcome is that of the time of the denial. Other callers may
//! have used more since.
//!
//! A refund sent by this process removes the denial, and so does a charge that passes, or a
//! counter that is reset or set. Other changes take effect within [`MAX_TTL`]: those made by
//! other instances or carried out late, counters deleted by clients, instances with different
//! clocks or rules. For
//! as long, after a clock has stepped back, `retry_after` of a penalty may be too short by
//! that step.

use std::{collections::HashSet, future::Future, sync::Arc};

use foldhash::quality::RandomState;
use smallvec::SmallVec;

pub use self::denial::MAX_TTL;
use self::table::DenialTable;
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Limit, Outcome, RefusalEnd},
    store::{
        CallTime, ChangeError, Charge, CounterChange, Counters, Deadline, Results, Store,
        StoreError, StoreStats, enforced::Enforcement,
    },
    time::Timestamp,
};

mod denial;
mod table;

/// Wraps a store, and answers charges from cached denials where possible.
#[derive(Debug)]
pub struct DenyCache<S> {
    store: S,
    /// `None` if the cache is disabled.
    denials: Option<Arc<DenialTable>>,
}

/// For each charge of a call, its outcome if the cache has one.
type CachedOutcomes = SmallVec<[Option<Outcome>; 4]>;

impl<S> DenyCache<S> {
    /// A cache that takes about `bytes` of memory, but has room for at least 64 denials.
    /// 0 disables the cache.
    pub fn new(store: S, bytes: usize) -> Self {
        let denials = if bytes == 0 { None } else { Some(Arc::new(DenialTable::new(bytes))) };
        Self { store, denials }
    }

    /// Registers the cache's usage with `stats`, unless the cache is disabled.
    #[must_use]
    pub fn publish_usage(self, stats: &StoreStats) -> Self {
        if let Some(denials) = &self.denials {
            let denials = Arc::clone(denials);
            stats.deny_cache.register(move || denials.usage());
        }
        self
    }
}

/// Looks up the outcomes of `charges` in the cache.
fn look_up(denials: &DenialTable, charges: &[Charge], now: Timestamp) -> CachedOutcomes {
    let mut cached = CachedOutcomes::new();
    for charge in charges {
        cached.push(if charge.is_refund() { None } else { denials.look_up(charge, now) });
    }
    let found = cached.iter().flatten().count();
    if 0 < found && found < charges.len() {
        // If one charge to a counter is sent, all charges to it are sent.
        let mut sent: HashSet<&CounterKey, RandomState> = HashSet::default();
        for (charge, outcome) in charges.iter().zip(&cached) {
            if outcome.is_none() {
                sent.insert(&charge.counter.key);
            }
        }
        for (charge, outcome) in charges.iter().zip(&mut cached) {
            if sent.contains(&charge.counter.key) {
                *outcome = None;
            }
        }
    }
    cached
}

/// The charges without a cached outcome, for the store.
fn uncached_charges(charges: &[Charge], cached: &CachedOutcomes) -> SmallVec<[Charge; 4]> {
    let with_over = charges.iter().zip(cached).map(|(charge, outcome)| {
        let over = outcome.as_ref().map(|outcome| outcome.over);
        (charge, over)
    });
    let enforcement = Enforcement::new(with_over);
    let refused = enforcement.refuses();
    let mut rest = SmallVec::new();
    for (charge, outcome) in charges.iter().zip(cached) {
        if outcome.is_none() {
            rest.push(Charge {
                refused: charge.refused || refused && charge.depends_on_others(),
                enforced: enforcement.remaining(charge.enforced),
                ..charge.clone()
            });
        }
    }
    rest
}

/// Removes the denials that the refunds of a call may have lifted, at the end of the call,
/// also if the call is cancelled.
struct RefundGuard<'a> {
    denials: &'a DenialTable,
    charges: &'a [Charge],
}

impl Drop for RefundGuard<'_> {
    fn drop(&mut self) {
        for charge in self.charges {
            let cacheable = charge.limit.algorithm.info().refusal_end != RefusalEnd::AnyTime;
            if charge.is_refund() && cacheable {
                self.denials.lift(&charge.counter.key);
            }
        }
    }
}

impl<S: Store> DenyCache<S> {
    /// Sends the charges to the store, and caches the denials.
    async fn charge_store(
        &self,
        denials: &DenialTable,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> Results {
        let _refunds = RefundGuard { denials, charges };
        let turn = denials.next_turn();
        let results = self.store.charge(charges, now, deadline).await;
        denials.learn(charges, &results, turn, now);
        results
    }
}

impl<S: Store> Store for DenyCache<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let Some(denials) = &self.denials else {
            return self.store.charge(charges, now, deadline).await;
        };
        let cached = look_up(denials, charges, now);
        if cached.iter().all(Option::is_none) {
            return self.charge_store(denials, charges, now, deadline).await;
        }
        let rest = uncached_charges(charges, &cached);
        let from_store = if rest.is_empty() {
            Results::new()
        } else {
            self.charge_store(denials, &rest, now, deadline).await
        };
        let mut from_store = from_store.into_iter();
        let mut results = Results::new();
        for outcome in cached {
            match outcome {
                Some(outcome) => results.push(Ok(outcome)),
                None => results.extend(from_store.next()),
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

/// Removes the denial of a counter at the end of its change, also if that is cancelled.
struct ChangeGuard<'a> {
    denials: Option<&'a DenialTable>,
    counter: &'a CounterKey,
}

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        if let Some(denials) = self.denials {
            denials.lift(self.counter);
        }
    }
}

impl<S: Store + Counters> Counters for DenyCache<S> {
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
        let _lift = ChangeGuard { denials: self.denials.as_deref(), counter: &counter.key };
        self.store.change(counter, limit, change, time).await
    }
}

#[cfg(test)]
mod tests;
