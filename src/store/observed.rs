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
    fn begins(&self, charges: &[Charge]) -> Self::Call<'_>;

    /// It has come to these results.
    fn ended(&self, call: Self::Call<'_>, results: &Results);
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    type Call<'a> = (A::Call<'a>, B::Call<'a>);

    fn begins(&self, charges: &[Charge]) -> Self::Call<'_> {
        (self.0.begins(charges), self.1.begins(charges))
    }

    fn ended(&self, (a, b): Self::Call<'_>, results: &Results) {
        self.0.ended(a, results);
        self.1.ended(b, results);
    }
}

/// A store whose calls are watched.
#[derive(Debug)]
pub struct Observed<S, O> {
    /// The store that does the work.
    pub store: S,
    /// Who watches.
    pub observer: O,
}

impl<S: Store, O: Observer> Store for Observed<S, O> {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        let call = self.observer.begins(charges);
        let results = self.store.charge(charges, now, deadline).await;
        self.observer.ended(call, &results);
        results
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.ready()
    }

    fn died(&self) -> impl Future<Output = ()> + Send {
        self.store.died()
    }
}

impl<S: Counters, O: Observer> Counters for Observed<S, O> {
    fn look(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.store.look(counter, limit, now)
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
