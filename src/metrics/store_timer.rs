//! How long the calls to the store take.

use std::{sync::Arc, time::Instant};

use crate::{
    metrics::Metrics,
    store::{Charge, Results, observe::Observer},
};

/// A call in flight. Its end is counted even if nobody waits for the answer any
/// more.
#[derive(Debug)]
pub struct StoreTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    answered: bool,
}

impl Drop for StoreTimer<'_> {
    fn drop(&mut self) {
        self.metrics.count_store_call(self.started.elapsed(), self.answered);
    }
}

impl Observer for Arc<Metrics> {
    type Call<'a> = StoreTimer<'a>;

    fn started(&self, _: &[Charge]) -> StoreTimer<'_> {
        StoreTimer { metrics: self, started: Instant::now(), answered: false }
    }

    fn finished(&self, mut call: StoreTimer<'_>, results: &Results) {
        call.answered = results.iter().all(Result::is_ok);
    }
}
