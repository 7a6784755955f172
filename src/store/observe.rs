//! Wraps a store, and reports its calls to an observer, for statistics and traces.

use std::future::Future;

use super::{
    CallTime, ChangeError, Charge, CounterChange, Counters, Deadline, Results, Store, StoreError,
};
use crate::{
    counter::CounterRef,
    limit::{Limit, Outcome},
    time::Timestamp,
};

/// Observes calls to a store.
pub trait Observer: Send + Sync + 'static {
    /// A call in progress. If it is dropped without [`Self::finished`], the call was
    /// cancelled.
    type Call<'a>: Send
    where
        Self: 'a;

    /// Called at the start of a call.
    fn started(&self, charges: &[Charge]) -> Self::Call<'_>;

    /// Called at the end of a call.
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

/// A store whose calls are observed.
#[derive(Debug)]
pub struct ObservedStore<S, O> {
    /// The store that receives all calls.
    pub store: S,
    /// The observer of all calls.
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

    fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send {
        self.store.change(counter, limit, change, time)
    }
}
