//! Calls that are made at the same time.

use std::{mem, ops::Range, pin::Pin, sync::Arc};

use ::redis::cmd;
use futures_util::future::poll_immediate;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};
use tokio::task::JoinSet;
use tollgate::store::Results;

use super::*;
use crate::{
    model_store::ModelStore,
    random_calls::{consume, enforced, hits},
    random_tests::config,
};
use testkit::{redis::RedisServer, redis_node::command_calls};

type PendingCall<'a> = Pin<Box<dyn Future<Output = Results> + 'a>>;

/// Starts a call before any other task runs.
async fn start_call<'a>(store: &'a Redis, charges: &'a [Charge]) -> PendingCall<'a> {
    let mut call: PendingCall<'_> = Box::pin(store.charge(charges, NOON, None));
    assert!(poll_immediate(&mut call).await.is_none());
    call
}

#[tokio::test]
async fn waiting_calls_share_a_round_trip_and_hits_on_one_counter_share_a_command() {
    let server = RedisServer::start();
    let (store, mut client) = (store(&server.url(), PATIENT), server.client());
    hit(&store, "a").await.unwrap();
    // The first call is sent at once. The last counts are one full batch, and one call
    // more, with two charges each.
    for (calls, batches) in [(1, 1), (2, 2), (129, 2), (130, 3)] {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut client).unwrap();
        let charges = [
            charge("hot", minutely(10), Hits::Add(1), NOON),
            charge("hotter", minutely(10), Hits::Add(1), NOON),
        ];
        let mut pending = Vec::new();
        for _ in 0..calls {
            pending.push(start_call(&store, &charges).await);
        }
        for call in pending {
            for result in call.await {
                assert!(result.is_ok());
            }
        }
        assert_eq!(command_calls(&mut client, "incrby"), 2 * batches, "{calls} calls");
    }
    assert_eq!(hit(&store, "hot").await.unwrap(), 1 + 2 + 129 + 130 + 1);
}

/// Charges to a few counters. Calls on the fast path run before the others of the same
/// batch, and calls with lists are batched separately, so no counter here is charged in two
/// ways.
#[derive(Clone, Debug)]
struct RandomCall {
    charges: Vec<Charge>,
    /// Whether the call is cancelled while it waits.
    is_cancelled: bool,
}

impl RandomCall {
    fn keeps_lists(&self) -> bool {
        self.charges[0].limit.algorithm.info().keeps_each_hit
    }
}

fn call() -> impl Strategy<Value = RandomCall> {
    let charges = prop_oneof![
        2 => vec((0..3_u32, hits()).prop_map(fast_path_charge), 1..5),
        1 => script_charges(0..LISTS),
        1 => script_charges(LISTS..6),
    ];
    (charges, prop::bool::weighted(0.2))
        .prop_map(|(charges, is_cancelled)| RandomCall { charges, is_cancelled })
}

fn fast_path_charge((name, hits): (u32, Hits)) -> Charge {
    let limit = minutely([0, 7, 1_000][name as usize]);
    charge(&name.to_string(), limit, hits, NOON)
}

fn script_charges(names: Range<u32>) -> impl Strategy<Value = Vec<Charge>> {
    let charges = vec((names, hits(), enforced()).prop_map(script_charge), 1..4);
    (charges, consume()).prop_map(|(mut charges, consume)| {
        for charge in &mut charges {
            charge.consume = consume;
        }
        charges
    })
}

fn script_charge((name, hits, enforced): (u32, Hits, Enforced)) -> Charge {
    let charge = charge(&format!("other{name}"), script_limit(name), hits, NOON);
    Charge { enforced, ..charge }
}

/// The first counter that is a list.
const LISTS: u32 = 4;

fn script_limit(name: u32) -> Limit {
    let algorithm = match name {
        0 => Algorithm::FixedWindow { count_denied: false },
        1 => Algorithm::SlidingWindow,
        2 => Algorithm::TokenBucket { burst: 9 },
        3 => Algorithm::FixedWindow { count_denied: true },
        LISTS => Algorithm::SlidingLog,
        _ => Algorithm::Concurrency { lifetime: Duration::from_secs(9) },
    };
    let penalty = Duration::from_secs(if name == 3 { 60 } else { 0 });
    Limit { algorithm, penalty, ..minutely(7) }
}

struct StartedCall<'a> {
    charges: &'a [Charge],
    result: PendingCall<'a>,
    is_cancelled: bool,
}

/// Makes the calls of each round at the same time, and compares a model that makes them one
/// after the other.
async fn compare(store: &Redis, rounds: &[Vec<RandomCall>]) -> TestCaseResult {
    let mut model = ModelStore::default();
    for calls in rounds {
        let mut pending = Vec::new();
        let (mut first, mut first_of_lists) = (true, true);
        for call in calls {
            let result = start_call(store, &call.charges).await;
            // The first call of each batch is sent at once.
            let is_first = if call.keeps_lists() { &mut first_of_lists } else { &mut first };
            let was_sent = mem::take(is_first);
            let is_cancelled = call.is_cancelled && !was_sent;
            pending.push(StartedCall { charges: &call.charges, result, is_cancelled });
        }
        // All calls have been started before the first of them is cancelled.
        pending.retain(|call| !call.is_cancelled);
        for StartedCall { charges, result, .. } in pending {
            let found: Result<Vec<_>, _> = result.await.into_iter().collect();
            prop_assert_eq!(found.expect("it runs"), model.charge(charges, NOON));
        }
    }
    Ok(())
}

#[test]
fn batched_calls_get_the_results_of_single_calls_in_their_order() {
    check_random_batches(&RedisServer::start(), 500);
}

/// Compares this number of random cases on `server`.
pub(crate) fn check_random_batches(server: &RedisServer, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a runtime");
    let in_runtime = runtime.enter();
    let store = store(&server.url(), PATIENT);
    drop(in_runtime);
    runtime.block_on(hit(&store, "warm")).expect("the server runs");
    let client = std::cell::RefCell::new(server.client());
    let rounds = vec(vec(call(), 1..30), 1..4);
    proptest!(config(cases, "tests/store/batches.regressions"), |(rounds in rounds)| {
        cmd("FLUSHDB").exec(&mut client.borrow_mut()).expect("the server runs");
        runtime.block_on(compare(&store, &rounds))?;
    });
}

/// The values that 64 callers get in `calls` calls each, with timeouts of up to 3 ms.
async fn charge_with_short_timeouts(store: &Arc<Redis>, calls: u64) -> Vec<u64> {
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let store = Arc::clone(store);
        callers.spawn(async move {
            let mut values = Vec::new();
            for call in 0..calls {
                let timeout = Duration::from_micros((caller * 31 + call * 17) % 3_000);
                // A refused hit that is counted is never refunded.
                let refused = [charge("a", minutely(0), Hits::Add(1), NOON)];
                let used = after(&store, &refused, NOON);
                if let Ok(Ok(used)) = tokio::time::timeout(timeout, used).await {
                    values.push(used[0]);
                }
            }
            values
        });
    }
    let mut values = callers.join_all().await.concat();
    values.sort_unstable();
    values
}

#[track_caller]
fn assert_unique(values: &[u64]) {
    assert!(values.is_sorted_by(|one, next| one < next), "{values:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_calls_do_not_affect_the_results_of_others() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server.url(), PATIENT));
    let values = charge_with_short_timeouts(&store, 100).await;
    assert_unique(&values);
    let last = hit(&store, "a").await.unwrap();
    assert!((values.len() as u64 + 1..=6_401).contains(&last), "{last}");
}

/// Repeats a call that takes too long on a busy machine.
async fn until_counted(store: &Redis) -> u64 {
    loop {
        if let Ok(value) = hit(store, "a").await {
            return value;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_counted_twice_when_a_server_becomes_silent_under_load() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server.url(), Duration::from_millis(100)));
    until_counted(&store).await;
    let load = tokio::spawn({
        let store = Arc::clone(&store);
        async move { charge_with_short_timeouts(&store, 400).await }
    });
    let mut changes = tokio::time::interval(Duration::from_millis(75));
    changes.tick().await;
    for _ in 0..5 {
        server.suspend();
        // Longer than the timeout of the store.
        changes.tick().await;
        changes.tick().await;
        server.resume();
        changes.tick().await;
    }
    let values = load.await.unwrap();
    assert_unique(&values);
    // Replies to cancelled calls arrive first.
    let last = until_counted(&store).await;
    assert!((values.len() as u64 + 2..=64 * 400 + 1_000).contains(&last), "{last}");
}
