//! Memory and Redis make the same decisions.

use std::{cell::RefCell, collections::HashMap, time::Instant};

use ::redis::{Cmd, FromRedisValue, cmd};
use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence, TestCaseResult},
};
use tokio::runtime::Runtime;
use tollgate::store::memory::Memory;

use super::*;
use crate::{
    model_store::ModelStore,
    random_calls::{Progress, RandomCalls, max_expiry, random_calls},
};
use testkit::redis::RedisServer;

/// A server and a store that is connected to it.
pub(crate) struct TestStore {
    runtime: Runtime,
    store: Redis,
    /// The maximum of the random seconds that are added to each expiry.
    max_jitter: u32,
    client: RefCell<::redis::Connection>,
    _server: RedisServer,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with_jitter(RedisServer::start(), 0)
    }

    /// Extends each expiry by a random number of seconds below `bound`.
    pub(crate) fn with_jitter(server: RedisServer, bound: u32) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let in_runtime = runtime.enter();
        let store = jittering(&server.url(), bound);
        drop(in_runtime);
        let max_jitter = bound.saturating_sub(1);
        Self { runtime, store, max_jitter, client: RefCell::new(server.client()), _server: server }
    }

    /// Runs a command on the server.
    pub(crate) fn query<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query(&mut self.client.borrow_mut()).expect("the server runs")
    }

    pub(crate) fn clear(&self) {
        self.query(&cmd("FLUSHALL"))
    }

    pub(crate) fn charge(&self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        let outcomes = self.runtime.block_on(outcomes(&self.store, charges, now));
        outcomes.expect("the server runs")
    }
}

/// Cases that failed before are repeated.
pub(crate) fn config(cases: u32, file: &'static str) -> Config {
    let failures = Box::new(FileFailurePersistence::Direct(file));
    Config { cases, failure_persistence: Some(failures), ..Config::default() }
}

/// Makes the calls to the server, to memory and to the model, and compares the outcomes and
/// the expiry of all keys.
pub(crate) fn compare(test: &TestStore, random: &RandomCalls) -> TestCaseResult {
    test.clear();
    let begin = Instant::now();
    let (memory, mut model) = (Memory::new(1 << 20), ModelStore::default());
    let mut progress = Progress::new(random.start);
    let mut max_expiries: HashMap<Vec<u8>, Duration> = HashMap::new();
    for call in &random.calls {
        progress.move_clock(&call.clock_move, &random.counters);
        let now = progress.now;
        let charges = random.charges(&call.charges, now);
        let expected = model.charge(&charges, now);
        let by_redis = test.charge(&charges, now);
        // The server expires keys by its own clock.
        prop_assume!(begin.elapsed() < EXPIRY_SLACK);
        prop_assert_eq!(&by_redis, &expected, "Redis, at {:?}", now);
        if random.may_expire() {
            let by_memory = test.runtime.block_on(outcomes(&memory, &charges, now));
            let by_memory = by_memory.expect("memory works");
            prop_assert_eq!(&by_memory, &expected, "memory, at {:?}", now);
        }
        for charge in &charges {
            let expiry = max_expiry(charge) + Duration::from_secs(test.max_jitter.into());
            let most = max_expiries.entry(charge.counter.key.as_bytes().to_vec()).or_default();
            *most = expiry.max(*most);
        }
        progress.last_outcomes = expected;
    }
    let keys: Vec<Vec<u8>> = test.query(cmd("KEYS").arg("*"));
    for key in keys {
        if key.starts_with(b"tollgate-probe-") {
            continue;
        }
        // Negative without an expiry.
        let ttl: i64 = test.query(cmd("PTTL").arg(&key[..]));
        let most = i64::try_from(max_expiries[&key].as_millis()).expect("it is short");
        let key = key.escape_ascii();
        prop_assert!((0..=most).contains(&ttl), "{key} expires in {ttl} ms, expected <= {most}");
    }
    Ok(())
}

#[test]
fn memory_and_redis_agree_on_every_charge() {
    let test = TestStore::new();
    let config = config(2_000, "tests/store/agreement.regressions");
    proptest!(config, |(calls in random_calls(0))| compare(&test, &calls)?);
}

/// Values without effect may stay: by the clock of these calls windows end and buckets
/// drain, and by that of the server nothing expires.
#[test]
fn a_later_expiry_changes_no_decision() {
    let test = TestStore::with_jitter(RedisServer::start(), 300);
    let config = config(500, "tests/store/agreement.regressions");
    proptest!(config, |(calls in random_calls(0))| compare(&test, &calls)?);
}

#[test]
fn redis_matches_the_model_under_any_clock() {
    let test = TestStore::new();
    let config = config(500, "tests/store/glitches.regressions");
    proptest!(config, |(calls in random_calls(4))| compare(&test, &calls)?);
}
