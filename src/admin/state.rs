//! What the operations read.

use std::{pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    descriptor::Request,
    engine::{
        DecideError,
        counters::{ChangeOrder, CounterReport},
        decision::Decision,
    },
    explain::Deciding,
    health::Health,
    live::Live,
    metrics::Metrics,
    rules::spec::OnError,
    service::{Service, counters::OperationError},
    store::{Counters, Store, StoreError},
    time::{Clock, Timestamp},
};

/// The time for an operation, once its body has arrived.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for the store to answer.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most operations that are computed at the same time, each on a thread of its own.
const MOST_COMPUTED: usize = 2;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The part of the service that reads counters, whatever its store.
pub trait Decider: Send + Sync {
    /// Decides a request with its hits, and charges nothing if these are 0.
    fn decide<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Decision, DecideError>>;

    /// Looks at the counters of a request.
    fn look_at_counters<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<CounterReport, OperationError>>;

    /// Changes counters of a request.
    fn change_counters<'a>(
        &'a self,
        request: &'a Request,
        order: ChangeOrder<'a>,
    ) -> BoxFuture<'a, Result<CounterReport, OperationError>>;

    /// Whether the store can decide about every counter.
    fn store_answers(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

impl<S: Store + Counters> Decider for Service<S> {
    fn decide<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Decision, DecideError>> {
        Box::pin(self.engine.decide(request, Some(OPERATION_TIMEOUT)))
    }

    fn look_at_counters<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<CounterReport, OperationError>> {
        Box::pin(self.look_at_counters(request, Some(STORE_TIMEOUT)))
    }

    fn change_counters<'a>(
        &'a self,
        request: &'a Request,
        order: ChangeOrder<'a>,
    ) -> BoxFuture<'a, Result<CounterReport, OperationError>> {
        Box::pin(self.change_counters(request, order, Some(STORE_TIMEOUT)))
    }

    fn store_answers(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.engine.store.ready())
    }
}

/// The state that the operations read.
pub struct Admin {
    pub(super) live: Arc<Live>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) deciding: Deciding,
    pub(super) max_descriptors: usize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) rejection: Arc<ArcSwapOption<String>>,
    pub(super) started_at: Timestamp,
    pub(super) default_policy: Option<OnError>,
    pub(super) decider: Arc<dyn Decider>,
    /// The operations that may be computed now.
    pub(super) turns: Arc<Semaphore>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// `rejection` holds the errors in the newest rules, if they were rejected.
    pub fn new<S: Store + Counters>(
        service: &Arc<Service<S>>,
        live: Arc<Live>,
        health: Arc<Health>,
        rejection: Arc<ArcSwapOption<String>>,
    ) -> Arc<Self> {
        let engine = &service.engine;
        Arc::new(Self {
            live,
            clock: Arc::clone(&engine.clock),
            deciding: Deciding {
                key_format: engine.keys.clone(),
                mode: engine.mode,
                answers: service.answers.clone(),
            },
            max_descriptors: service.max_descriptors,
            metrics: Arc::clone(&service.metrics),
            health,
            rejection,
            started_at: engine.clock.now(),
            default_policy: engine.fallback.default_policy(),
            decider: Arc::clone(service) as _,
            turns: Arc::new(Semaphore::new(MOST_COMPUTED)),
        })
    }

    /// The decision about a request as if it had no hits, which charges nothing. `None` if it
    /// takes too long.
    pub(super) async fn look(&self, request: &Request) -> Option<Result<Decision, DecideError>> {
        timeout(OPERATION_TIMEOUT, self.decider.decide(request)).await.ok()
    }
}
