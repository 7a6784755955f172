//! How long the calls to the store take.

use std::{sync::Arc, time::Instant};

use crate::{
    metrics::Metrics,
    store::{Charge, Results, observed::Observer},
};

/// A call in flight. Its end is counted even if nobody waits for the answer any
/// more.
#[derive(Debug)]
pub struct Call<'a> {
    metrics: &'a Metrics,
    started: Instant,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.metrics.stored(self.started.elapsed(), self.answered);
    }
}

impl Observer for Arc<Metrics> {
    type Call<'a> = Call<'a>;

    fn begins(&self, _: &[Charge]) -> Call<'_> {
        Call { metrics: self, started: Instant::now(), answered: false }
    }

    fn ended(&self, mut call: Call<'_>, results: &Results) {
        call.answered = results.iter().all(Result::is_ok);
    }
}
