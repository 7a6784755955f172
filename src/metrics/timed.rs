//! A store around a store: it measures how long the inner one takes.

use std::{sync::Arc, time::Instant};

use crate::{
    metrics::Metrics,
    store::{Charge, DenyCacheUsage, Outcomes, Pools, Store, StoreError, Usage},
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

/// A call in flight. Its end is counted even if nobody waits for the answer any
/// more.
struct Call<'a> {
    metrics: &'a Metrics,
    started: Instant,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.metrics.stored(self.started.elapsed(), self.answered);
    }
}

impl<S: Store> Store for Timed<S> {
    async fn charge(&self, charges: &[Charge], now: Timestamp) -> Result<Outcomes, StoreError> {
        let mut call = Call { metrics: &self.metrics, started: Instant::now(), answered: false };
        let result = self.store.charge(charges, now).await;
        call.answered = result.is_ok();
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

    fn deny_cache(&self) -> Option<DenyCacheUsage> {
        self.store.deny_cache()
    }

    fn pools(&self) -> Pools {
        self.store.pools()
    }
}
