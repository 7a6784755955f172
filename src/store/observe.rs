//! A store that is watched: how long its calls take, and what comes of them.

use std::future::Future;

use super::{Charge, Counters, Deadline, Results, Store, StoreError};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Limit, Outcome},
    time::Timestamp,
};

/// Watches calls to a store.
pub trait Observer: Send + Sync + 'static {
    /// A call under way. Dropped without [its end](Self::ended), the caller has gone.
    type Call<'a>: Send
    where
        Self: 'a;

    /// A call of these charges begins.
    fn started(&self, charges: &[Charge]) -> Self::Call<'_>;

    /// It has come to these results.
    fn finished(&self, call: Self::Call<'_>, results: &Results);
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    type Call<'a> = (A::Call<'a>, B::Call<'a>);

    fn started(&self, charges: &[Charge]) -> Self::Call<'_> {
        (self.0.started(charges), self.1.started(charges))
    }

    fn finished(&self, (a, b): Self::Call<'_>, results: &Results) {
        self.0.finished(a, results);
        self.1.finished(b, results);
    }
}

/// A store whose calls are watched.
#[derive(Debug)]
pub struct ObservedStore<S, O> {
    /// The store that does the work.
    pub store: S,
    /// Who watches.
    pub observer: O,
}

impl<S: Store, O: Observer> Store for ObservedStore<S, O> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let call = self.observer.started(charges);
        let results = self.store.charge(charges, now, deadline).await;
        self.observer.finished(call, &results);
        results
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        self.store.task_failed()
    }
}

impl<S: Counters, O: Observer> Counters for ObservedStore<S, O> {
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.store.peek(counter, limit, now)
    }

    fn reset(&self, counter: &CounterKey) -> impl Future<Output = Result<bool, StoreError>> + Send {
        self.store.reset(counter)
    }

    fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.set(counter, limit, used, now)
    }
}
