//! A store around a store: it measures how long the inner one takes.

use std::{sync::Arc, time::Instant};

use crate::{
    metrics::Metrics,
    store::{Charge, Outcomes, Store, StoreError, around::Around},
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

impl<S: Store> Around for Timed<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.store
    }

    async fn charge_around(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> Result<Outcomes, StoreError> {
        let mut call = Call { metrics: &self.metrics, started: Instant::now(), answered: false };
        let result = self.store.charge(charges, now).await;
        call.answered = result.is_ok();
        result
    }
}
