//! The interfaces of counter stores.

use std::{future::Future, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    charge::Charge,
    error::{ChangeError, StoreError},
    script::Settlement,
};
use crate::{
    counter::CounterRef,
    limit::{Hits, Limit, Outcome},
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
    /// Returns the present value of a counter without changing it. Caches and policies are
    /// not used.
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

    /// Changes a counter, and ends its ban. The change is one atomic operation, and the next
    /// charge that this process starts sees it: what caches of this process know of the
    /// counter is forgotten, even if the call fails or is cancelled.
    ///
    /// # Errors
    ///
    /// If the store does not reply by the deadline, or has no room.
    fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send;
}

/// The time of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallTime {
    /// The time by the clock of the counters.
    pub now: Timestamp,
    /// The moment at which the caller needs the result.
    pub deadline: Deadline,
}

impl CallTime {
    /// A time without a deadline other than the store's own timeout.
    pub const fn at(now: Timestamp) -> Self {
        Self { now, deadline: None }
    }
}

/// A change of a counter by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterChange {
    /// Deletes the counter: the limit is as if it had never been used.
    Reset,
    /// Replaces the counter by one with this many hits, at most [`Hits::MAX`], all counted now.
    Set(u64),
}

impl CounterChange {
    /// The change as a change of a record.
    pub(super) fn settlement(self) -> Settlement {
        match self {
            Self::Reset => Settlement::Erase,
            Self::Set(used) => Settlement::Set(used.min(Hits::MAX)),
        }
    }
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

    fn change(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        change: CounterChange,
        time: CallTime,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send {
        S::change(self, counter, limit, change, time)
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
