//! The interfaces of counter stores.

use std::{future::Future, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{charge::Charge, error::StoreError};
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{Limit, Outcome},
    time::Timestamp,
};

/// One result for each charge of a call, in the same order.
pub type Results = SmallVec<[Result<Outcome, StoreError>; 4]>;

/// The moment at which the caller needs the results. `None` waits until the store's own
/// timeout.
pub type Deadline = Option<Instant>;

/// Keeps counters, and charges hits to them.
///
/// A store knows limits but no rules, domains or descriptors. It returns the outcome of
/// each charge; the [`engine`](crate::engine) decides about the request.
pub trait Store: Send + Sync + 'static {
    /// Applies the charges in order, and returns one result for each.
    ///
    /// Each charge is atomic, also across processes that share the store: every value of a
    /// counter is returned once. Two charges of one call to the same counter are counted
    /// one after the other. The store may serve other calls between two
    /// [independent](super::Consume::Independent) charges.
    ///
    /// The call returns by the `deadline`. A charge whose result is an error may have been
    /// applied all the same. If its reply arrives later and grants hits, the store refunds
    /// them, unless the caller was served [without the reply](super::OnTimeout). An error
    /// of one charge does not affect the results of the others.
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Results> + Send;

    /// Checks that the store can decide about every counter.
    ///
    /// # Errors
    ///
    /// The reason for which it cannot.
    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns once a background task of the store has ended, so that the store cannot
    /// work any more. It does not return because a server is down.
    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

impl<S: Store> Store for Arc<S> {
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Results> + Send {
        S::charge(self, charges, now, deadline)
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::ready(self)
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        S::task_failed(self)
    }
}

/// Operations of operators on single counters.
pub trait Counters: Send + Sync {
    /// Returns the present value of a counter without changing it.
    ///
    /// # Errors
    ///
    /// If the store does not reply.
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Deletes a counter with its ban, and returns true if it existed.
    ///
    /// # Errors
    ///
    /// If the store does not reply. The counter may have been deleted all the same.
    fn reset(&self, counter: &CounterKey) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Replaces the value of a counter by `used` hits, counted at `now`, and ends its ban.
    ///
    /// # Errors
    ///
    /// If the store does not reply. The counter may have been set all the same.
    fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<S: Counters> Counters for Arc<S> {
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        S::peek(self, counter, limit, now)
    }

    fn reset(&self, counter: &CounterKey) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::reset(self, counter)
    }

    fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::set(self, counter, limit, used, now)
    }
}

/// The results of a call whose charges all failed for the same reason.
pub(super) fn all_failed(charges: usize, error: &StoreError) -> Results {
    (0..charges).map(|_| Err(error.clone())).collect()
}

/// The result of a call with one charge.
pub(super) fn single_result(results: Results) -> Result<Outcome, StoreError> {
    match results.into_iter().next() {
        Some(result) => result,
        None => Err(StoreError::Failed("it returned no result".into())),
    }
}
