use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::Value;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        backend_context::BackendContext,
        batch::{Batch, BatchPart},
        call::cost,
        limits::FULL_BATCH_COST,
        replies::{PartReply, PartResult},
        run_clock::RunClock,
        settler::SettlementQueue,
    },
    *,
};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Hits, Limit, Unit, Window},
    store::{Charge, Consume, Enforced, OnTimeout, StoreError},
    time::Timestamp,
};

/// A distant server that executes one batch after the other. A unit of cost takes a
/// millisecond, the resolution of timers.
#[derive(Debug)]
struct Distant {
    away: Duration,
    /// Held while a batch is executed.
    busy: tokio::sync::Mutex<()>,
    /// The cost of each batch.
    costs: Arc<Mutex<Vec<usize>>>,
}

impl BatchExecutor for Distant {
    async fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        _: bool,
    ) -> Result<Vec<PartResult>, NodeError> {
        let decided = batch.decisions.iter().flat_map(|decide| &decide.call.charges);
        let sum = batch.coalesced.increments.len() + decided.map(cost).sum::<usize>();
        self.costs.lock().push(sum);
        let turn = self.busy.lock().await;
        sleep(Duration::from_millis(sum as u64)).await;
        drop(turn);
        sleep(self.away).await;
        let answer = |part: &BatchPart| match part {
            BatchPart::Count(_) => Value::Int(0),
            BatchPart::Decide(places) => {
                let log = [1, 1, 0, 0, 0, 0].map(Value::Int);
                Value::Array(vec![Value::Array(log.into()); places.len()])
            }
            BatchPart::Settle(_) => Value::Nil,
        };
        Ok(parts.iter().map(|part| Ok(PartReply::Value(answer(part)))).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn to(away: Duration) -> (Batcher<Distant>, Arc<Mutex<Vec<usize>>>) {
    let costs = Arc::<Mutex<Vec<usize>>>::default();
    let wire = Distant { away, busy: tokio::sync::Mutex::default(), costs: Arc::clone(&costs) };
    let (late, _) = SettlementQueue::new();
    (
        Batcher::new(
            wire,
            Duration::from_secs(9_000),
            ScriptScope::AllKeys,
            &BackendContext::new(RunClock::start(), late),
        ),
        costs,
    )
}

fn call(algorithm: Algorithm, names: Range<u64>) -> Arc<Call> {
    let limit = Limit { algorithm, ..Limit::fixed(5, Window::new(Unit::Minute)) };
    let now = Timestamp::default();
    let charge = |name: u64| {
        let name = name.to_string();
        let entry = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
        Charge {
            counter: KeyFormat::default().counter(b"a", [entry].into_iter(), &limit, now),
            limit: limit.clone(),
            hits: Hits::Add(1),
            consume: Consume::Independent,
            enforced: Enforced::Yes,
            refused: false,
            on_timeout: OnTimeout::Fail,
        }
    };
    Arc::new(Call::new(&names.map(charge).collect::<Vec<_>>(), now))
}

const WINDOW: Algorithm = Algorithm::FixedWindow { count_denied: true };

#[tokio::test(start_paused = true)]
async fn the_distance_to_a_server_does_not_limit_throughput() {
    let (batches, costs) = to(Duration::from_secs(5));
    let made = AtomicUsize::new(0);
    let end = Instant::now() + Duration::from_secs(1_000);
    let caller = |caller: u64| {
        let (batches, made) = (&batches, &made);
        async move {
            while Instant::now() < end {
                let call = call(WINDOW, caller * 20..caller * 20 + 20);
                assert_eq!(batches.call(&call).await.unwrap().len(), 20);
                made.fetch_add(20, SeqCst);
            }
        }
    };
    join_all((0..64).map(caller)).await;
    // All 64 calls fit into the batches that may be in flight.
    assert!(made.load(SeqCst) > 64 * 20 * 1_000 / 8, "{made:?}");
    assert!(costs.lock().iter().all(|cost| *cost <= FULL_BATCH_COST), "{costs:?}");
}

/// Callers whose replies came in one batch send their next calls in one batch.
#[tokio::test(start_paused = true)]
async fn calls_that_can_be_made_now_join_the_batch() {
    const TIMES: usize = 10;
    let (batches, costs) = to(Duration::from_secs(5));
    let caller = |caller: u64| {
        let batches = &batches;
        async move {
            for _ in 0..TIMES {
                batches.call(&call(WINDOW, caller..caller + 1)).await.unwrap();
            }
        }
    };
    join_all((0..64).map(caller)).await;
    let costs = costs.lock();
    // The first call is alone, and the other 63 follow it.
    assert!(costs.iter().sum::<usize>() == 64 * TIMES && costs.len() <= TIMES + 2, "{costs:?}");
}

#[tokio::test(start_paused = true)]
async fn cheap_calls_do_not_wait_for_queued_expensive_calls() {
    for large in [false, true] {
        let (batches, costs) = to(Duration::from_millis(100));
        // Both kinds of calls cost the same.
        let dear = |name: u64| match large {
            false => call(Algorithm::SlidingLog, name..name + 1),
            true => {
                let Call { charges, now, kind, .. } =
                    Arc::into_inner(call(WINDOW, 16 * name..16 * name + 16)).unwrap();
                Arc::new(Call { large, ..Call::with_kind(charges, now, kind) })
            }
        };
        let calls = (0..2_000).map(|name| dear(1_000 + name)).collect::<Vec<_>>();
        let begin = Instant::now();
        let much = join_all(calls.iter().map(|call| batches.call(call)));
        let little = async {
            let call = call(WINDOW, 0..1);
            for _ in 0..3 {
                batches.call(&call).await.unwrap();
            }
            begin.elapsed()
        };
        let (replies, little) = tokio::join!(much, little);
        assert!(replies.iter().all(Result::is_ok));
        // Each of the three calls waits for the batches in flight, not for the queue.
        let most = u64::try_from(3 * ((MAX_HEAVY_BATCHES + 2) * FULL_BATCH_COST + 200)).unwrap();
        assert!(little < Duration::from_millis(most), "{little:?}");
        assert!(begin.elapsed() >= Duration::from_secs(32));
        assert!(costs.lock().iter().all(|cost| *cost <= FULL_BATCH_COST), "{costs:?}");
    }
}
