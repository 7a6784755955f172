//! A store around a store: it measures how long the inner one takes.

use std::{sync::Arc, time::Instant};

use crate::{
    metrics::Metrics,
    store::{Charge, Outcomes, Store, StoreError, Usage},
    time::Timestamp,
};

/// A store whose calls are counted and timed.
#[derive(Debug)]
pub struct Timed<S> {
    /// The store that does the work.
    pub store: S,
    /// Where its calls are counted.
    pub metrics: Arc<Metrics>,
}

impl<S: Store> Store for Timed<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let started = Instant::now();
        let result = self.store.charge(charges, now).await;
        self.metrics.stored(started.elapsed(), result.is_ok());
        result
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    async fn died(&self) {
        self.store.died().await;
    }

    fn usage(&self) -> Option<Usage> {
        self.store.usage()
    }
}
