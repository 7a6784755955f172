//! Random charges, looks, resets and sets: every store agrees with the model.

use std::time::Instant;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestCaseResult, TestError, TestRunner},
};
use tokio::runtime::Runtime;
use tollgate::store::{CallTime, CounterChange, Counters, memory::Memory};

use super::*;
use crate::{
    deployments::{Deployment, Servers, ServiceStore, service_store},
    model_store::ModelStore,
    random_calls::{Progress, RandomCalls, random_calls},
};

/// Random calls, and the operations before each, on one of the counters of the call.
#[derive(Clone, Debug)]
struct RandomOperations {
    calls: RandomCalls,
    operations: Vec<Vec<RandomOperation>>,
}

#[derive(Clone, Copy, Debug)]
struct RandomOperation {
    /// The position of a charge of the call, modulo their number.
    charge: usize,
    /// `None` looks at the counter.
    change: Option<CounterChange>,
}

const MOST_CALLS: usize = 25;

fn random_operations() -> impl Strategy<Value = RandomOperations> {
    let set = prop_oneof![
        4 => 0..9_u64,
        2 => 0..1_500_u64,
        1 => Just(Hits::MAX),
        1 => Just(u64::MAX),
    ];
    let change = prop_oneof![
        2 => Just(None),
        2 => Just(Some(CounterChange::Reset)),
        3 => set.prop_map(|used| Some(CounterChange::Set(used))),
    ];
    let operation =
        (0..8_usize, change).prop_map(|(charge, change)| RandomOperation { charge, change });
    let operations = vec(vec(operation, 0..3), MOST_CALLS);
    (random_calls(0), operations)
        .prop_map(|(calls, operations)| RandomOperations { calls, operations })
}

/// Makes the operation, and looks at the counter.
async fn operate(
    store: &impl Counters,
    charge: &Charge,
    change: Option<CounterChange>,
    now: Timestamp,
) -> Outcome {
    let Charge { counter, limit, .. } = charge;
    if let Some(change) = change {
        store.change(counter, limit, change, CallTime::at(now)).await.expect("the servers answer");
    }
    store.peek(counter, limit, now).await.expect("the servers answer")
}

async fn play(redis: &ServiceStore, random: &RandomOperations) -> TestCaseResult {
    let begin = Instant::now();
    let RandomOperations { calls, operations } = random;
    let (memory, mut model) = (Memory::new(1 << 20), ModelStore::default());
    let mut progress = Progress::new(calls.start);
    for (call, operations) in calls.calls.iter().zip(operations) {
        progress.move_clock(&call.clock_move, &calls.counters);
        let now = progress.now;
        let charges = calls.charges(&call.charges, now);
        for &RandomOperation { charge, change } in operations {
            let charge = &charges[charge % charges.len()];
            let expected = model.operate(charge, change, now);
            let by_redis = operate(redis, charge, change, now).await;
            // The server expires keys by its own clock.
            prop_assume!(begin.elapsed() < EXPIRY_SLACK);
            prop_assert_eq!(by_redis, expected, "Redis, {:?} {:?} {:?}", change, charge, now);
            if calls.may_expire() {
                let by_memory = operate(&memory, charge, change, now).await;
                prop_assert_eq!(by_memory, expected, "memory, {:?} {:?} {:?}", change, charge, now);
            }
        }
        let expected = model.charge(&charges, now);
        let by_redis = outcomes(redis, &charges, now).await.expect("the servers answer");
        prop_assume!(begin.elapsed() < EXPIRY_SLACK);
        prop_assert_eq!(&by_redis, &expected, "Redis, at {:?}", now);
        if calls.may_expire() {
            let by_memory = outcomes(&memory, &charges, now).await.expect("memory works");
            prop_assert_eq!(&by_memory, &expected, "memory, at {:?}", now);
        }
        progress.last_outcomes = expected;
    }
    Ok(())
}

fn check(deployment: Deployment, cases: u32) {
    let servers = Servers::start(deployment);
    let runtime = Runtime::new().expect("there are threads");
    // A cached refusal has the value of the time of the refusal.
    let redis = runtime.block_on(async { service_store(servers.store(PATIENT).await, 0) });
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&random_operations(), |random| {
        servers.flush();
        runtime.block_on(play(&redis, &random))
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, random)) => panic!("{deployment:?}: {why}\n{random:?}"),
        Err(TestError::Abort(why)) => panic!("{deployment:?}: {why}"),
    }
}

#[test]
fn memory_and_one_server_agree_with_the_model_about_changed_counters() {
    check(Deployment::One, 600);
}

#[test]
fn two_servers_agree_with_the_model_about_changed_counters() {
    check(Deployment::PerSecond, 100);
}

#[test]
fn a_cluster_agrees_with_the_model_about_changed_counters() {
    check(Deployment::Cluster, 100);
}

#[test]
fn a_master_with_sentinels_agrees_with_the_model_about_changed_counters() {
    check(Deployment::Sentinels, 50);
}
