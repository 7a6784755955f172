//! Measures how long calls to the counter store take.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    metrics::Metrics,
    store::{Charge, Results, observe::Observer},
};

/// A call to the store under way. Counts the call when it is dropped, as a failure if
/// the call has not succeeded by then: a cancelled call ends with a drop.
#[derive(Debug)]
pub struct StoreTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    succeeded: bool,
}

impl Drop for StoreTimer<'_> {
    fn drop(&mut self) {
        self.metrics.count_store_call(self.started.elapsed(), self.succeeded);
    }
}

impl Observer for Arc<Metrics> {
    type Call<'a> = StoreTimer<'a>;

    fn started(&self, _: &[Charge]) -> StoreTimer<'_> {
        StoreTimer { metrics: self, started: Instant::now(), succeeded: false }
    }

    fn finished(&self, mut timer: StoreTimer<'_>, results: &Results) {
        timer.succeeded = results.iter().all(Result::is_ok);
    }
}
