//! Callers that hit counters without pause, and the values they get.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::task::JoinSet;

use super::*;
use crate::cluster::count;

/// The number of callers of each store.
const CALLERS: usize = 16;
/// The calls that each caller makes at least.
const MIN_CALLS: usize = 50;

/// The result of a load.
#[derive(Default)]
pub(crate) struct Load {
    /// The values that were returned for each counter.
    values: HashMap<usize, Vec<u64>>,
    pub(crate) failed_calls: usize,
}

/// Sends calls to `counters` counters through all stores while `event` is under way.
pub(crate) async fn load_during(
    stores: &[Arc<Redis>],
    counters: usize,
    event: impl Future<Output = ()>,
) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS * stores.len() {
        let store = Arc::clone(&stores[caller % stores.len()]);
        callers.spawn(call(store, caller, counters, Arc::clone(&stop)));
    }
    event.await;
    stop.store(true, Relaxed);
    let mut all = Load::default();
    while let Some(load) = callers.join_next().await {
        let load = load.expect("no caller panics");
        for (counter, values) in load.values {
            all.values.entry(counter).or_default().extend(values);
        }
        all.failed_calls += load.failed_calls;
    }
    all
}

async fn call(store: Arc<Redis>, caller: usize, counters: usize, stop: Arc<AtomicBool>) -> Load {
    let (mut load, mut counter, mut calls) = (Load::default(), caller, 0);
    while calls < MIN_CALLS || !stop.load(Relaxed) {
        calls += 1;
        counter = (counter * 31 + 7) % counters;
        match count(&store, &format!("k{counter}")).await {
            Ok(value) => load.values.entry(counter).or_default().push(value),
            Err(_) => {
                load.failed_calls += 1;
                tokio::task::yield_now().await;
            }
        }
        counter += caller;
    }
    load
}

impl Load {
    /// Checks that no counter returned a value twice, and, unless calls failed, that each
    /// returned all values from 1.
    #[track_caller]
    pub(crate) fn assert_exact(self) {
        for (counter, mut values) in self.values {
            values.sort_unstable();
            assert!(values.is_sorted_by(|one, next| one < next), "k{counter}: a value twice");
            if self.failed_calls == 0 {
                let last = values.last().copied();
                assert_eq!(last, Some(values.len() as u64), "k{counter}: a value is missing");
            }
        }
    }
}
