//! Calls that are made at the same time.

use std::{mem, ops::Range, pin::Pin, sync::Arc};

use ::redis::cmd;
use futures_util::future::poll_immediate;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};
use tollgate::store::Results;

use super::*;
use crate::{
    agreement::config,
    games::{consume, hits},
    model::Model,
};
use testkit::redis::RedisServer;

type Waiting<'a> = Pin<Box<dyn Future<Output = Results> + 'a>>;

/// Starts calls one after the other, before any other task runs.
async fn begin<'a>(store: &'a Redis, calls: &'a [Vec<Charge>]) -> Vec<Waiting<'a>> {
    let mut waiting = Vec::new();
    for charges in calls {
        let mut call: Waiting<'_> = Box::pin(store.charge(charges, NOON, None));
        assert!(poll_immediate(&mut call).await.is_none());
        waiting.push(call);
    }
    waiting
}

/// The number of calls of `command` since the statistics were reset.
pub(crate) fn ran(client: &mut ::redis::Connection, command: &str) -> u32 {
    let info: String = cmd("INFO").arg("commandstats").query(client).expect("the server runs");
    let Some((_, rest)) = info.split_once(&format!("cmdstat_{command}:calls=")) else { return 0 };
    rest.split(',').next().and_then(|it| it.parse().ok()).expect("it is a number")
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
        let call = ["hot", "hotter"].map(|it| charge(it, minutely(10), Hits::Add(1), NOON));
        for call in begin(&store, &vec![call.to_vec(); calls]).await {
            call.await.into_iter().for_each(|it| assert!(it.is_ok()));
        }
        assert_eq!(ran(&mut client, "incrby"), 2 * batches, "{calls} calls");
    }
    assert_eq!(hit(&store, "hot").await.unwrap(), 1 + 2 + 129 + 130 + 1);
}

/// Charges to a few counters, and whether the call is cancelled while it waits. Calls on
/// the fast path run before the others of the same batch, and calls with lists are
/// batched separately, so no counter here is charged in two ways.
fn call() -> impl Strategy<Value = (Vec<Charge>, bool)> {
    let plain = (0..3_u32, hits()).prop_map(|(name, hits)| {
        let limit = minutely([0, 7, 1_000][name as usize]);
        charge(&name.to_string(), limit, hits, NOON)
    });
    let charges_to = |names: Range<u32>| {
        let one = (names, hits(), games::enforced()).prop_map(|(name, hits, enforced)| {
            let charge = charge(&format!("other{name}"), other(name), hits, NOON);
            Charge { enforced, ..charge }
        });
        (vec(one, 1..4), consume()).prop_map(|(charges, consume)| {
            charges.into_iter().map(|it| Charge { consume, ..it }).collect()
        })
    };
    let calls = prop_oneof![
        2 => vec(plain, 1..5),
        1 => charges_to(0..LISTS),
        1 => charges_to(LISTS..6),
    ];
    (calls, prop::bool::weighted(0.2))
}

/// The first counter that is a list.
const LISTS: u32 = 4;

fn other(name: u32) -> Limit {
    let algorithm = match name {
        0 => Algorithm::FixedWindow { count_denied: false },
        1 => Algorithm::SlidingWindow,
        2 => Algorithm::TokenBucket { burst: 9 },
        3 => Algorithm::FixedWindow { count_denied: true },
        LISTS => Algorithm::SlidingLog,
        _ => Algorithm::Concurrency { lease: Duration::from_secs(9) },
    };
    let penalty = Duration::from_secs(if name == 3 { 60 } else { 0 });
    Limit { algorithm, penalty, ..minutely(7) }
}

async fn play(store: &Redis, rounds: &[Vec<(Vec<Charge>, bool)>]) -> TestCaseResult {
    let mut model = Model::default();
    for round in rounds {
        let calls: Vec<_> = round.iter().map(|(charges, _)| charges.clone()).collect();
        let mut waiting = Vec::new();
        let lists = |charges: &[Charge]| charges[0].limit.algorithm.info().keeps_each_hit;
        let (mut first, mut first_of_lists) = (true, true);
        for (place, call) in begin(store, &calls).await.into_iter().enumerate() {
            // The first call of each batch is sent at once.
            let waits = if lists(&calls[place]) { &mut first_of_lists } else { &mut first };
            if mem::take(waits) || !round[place].1 {
                waiting.push((call, &calls[place]));
            }
        }
        for (call, charges) in waiting {
            let found = call.await.into_iter().collect::<Result<Vec<_>, _>>().expect("it runs");
            prop_assert_eq!(found, model.charge(charges, NOON));
        }
    }
    Ok(())
}

#[test]
fn batched_calls_get_the_results_of_single_calls_in_their_order() {
    plays(&RedisServer::start(), 500);
}

/// Plays this number of games on `server`.
pub(crate) fn plays(server: &RedisServer, games: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a runtime");
    let inside = runtime.enter();
    let store = store(&server.url(), PATIENT);
    drop(inside);
    runtime.block_on(hit(&store, "warm")).expect("the server runs");
    let client = std::cell::RefCell::new(server.client());
    let rounds = vec(vec(call(), 1..30), 1..4);
    proptest!(config(games, "tests/store/batches.regressions"), |(rounds in rounds)| {
        cmd("FLUSHDB").exec(&mut client.borrow_mut()).expect("the server runs");
        runtime.block_on(play(&store, &rounds))?;
    });
}

/// The values that 64 callers get in `calls` calls each, with timeouts of up to 3 ms.
async fn impatient(store: &Arc<Redis>, calls: u64) -> Vec<u64> {
    let caller = |caller: u64| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut values = Vec::new();
            for call in 0..calls {
                let patience = Duration::from_micros((caller * 31 + call * 17) % 3_000);
                // A refused hit that is counted is never refunded.
                let refused = [charge("a", minutely(0), Hits::Add(1), NOON)];
                let used = after(&store, &refused, NOON);
                if let Ok(Ok(it)) = tokio::time::timeout(patience, used).await {
                    values.push(it[0]);
                }
            }
            values
        })
    };
    let callers: Vec<_> = (0..64).map(caller).collect();
    let mut values = Vec::new();
    for it in callers {
        values.extend(it.await.expect("no caller fails"));
    }
    values.sort_unstable();
    values
}

#[track_caller]
fn assert_unique(values: &[u64]) {
    assert!(values.windows(2).all(|it| it[0] < it[1]), "{values:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_calls_do_not_affect_the_results_of_others() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server.url(), PATIENT));
    let values = impatient(&store, 100).await;
    assert_unique(&values);
    let last = hit(&store, "a").await.unwrap();
    assert!((values.len() as u64 + 1..=6_401).contains(&last), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_counted_twice_when_a_server_becomes_silent_under_load() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server.url(), Duration::from_millis(100)));
    hit(&store, "a").await.unwrap();
    let load = tokio::spawn({
        let store = Arc::clone(&store);
        async move { impatient(&store, 400).await }
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
    let last = loop {
        if let Ok(it) = hit(&store, "a").await {
            break it;
        }
    };
    assert!((values.len() as u64 + 2..=64 * 400 + 1_000).contains(&last), "{last}");
}
