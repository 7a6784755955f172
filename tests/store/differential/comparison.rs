//! Random calls are decided in memory and in one Redis deployment, and the answers compared.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence, TestCaseResult, TestError, TestRunner},
};
use tokio::runtime::Runtime;
use tollgate::{
    descriptor::Request,
    engine::{
        Engine,
        decision::{Decision, LimitStatus, Mode},
    },
    limit::Outcome,
    store::{EXPIRY_SLACK, Store, memory::Memory},
    time::{ManualClock, Timestamp},
};

use super::{
    calls::{RandomCalls, only_adds_to_rules, random_calls},
    rules::{ConsumeMode, RuleText},
};
use crate::deployments::{
    Deployment, PATIENT, Servers, ServiceStore, SharedRedis, engine, memory, service_store,
};

/// The number of random cases of each mode in each deployment.
const CASES: u32 = 120;
/// The minimum of the calls of all these cases.
const MIN_CALLS: usize = 1_000;

/// A Redis deployment that several cases use one after the other.
pub(crate) struct TestDeployment {
    pub(crate) kind: Deployment,
    runtime: Runtime,
    store: SharedRedis,
    clients: Mutex<Vec<redis::Connection>>,
    calls: Cell<usize>,
    _servers: Servers,
}

/// The part of an answer about one descriptor.
#[derive(Debug, PartialEq)]
struct DescriptorAnswer {
    limit: String,
    over: bool,
    remaining: u32,
    banned: Duration,
    wait: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    over: bool,
    shadowed: bool,
    binding_verdict: Option<usize>,
    wait: Option<Duration>,
    /// `None` for a descriptor without a limit.
    descriptors: Vec<Option<DescriptorAnswer>>,
}

/// The codes of an answer.
#[derive(Debug, PartialEq)]
struct Codes {
    over: bool,
    shadowed: bool,
    descriptors: Vec<Option<bool>>,
}

impl Answer {
    fn new(decision: &Decision) -> Self {
        let mut descriptors = Vec::new();
        for verdict in &decision.verdicts {
            descriptors.push(verdict.status().map(DescriptorAnswer::new));
        }
        Self {
            over: decision.over_limit,
            shadowed: decision.shadowed,
            binding_verdict: decision.binding_verdict,
            wait: decision.wait,
            descriptors,
        }
    }

    fn codes(&self) -> Codes {
        let mut descriptors = Vec::new();
        for answer in &self.descriptors {
            descriptors.push(answer.as_ref().map(|answer| answer.over));
        }
        Codes { over: self.over, shadowed: self.shadowed, descriptors }
    }

    fn refuses_a_descriptor(&self) -> bool {
        self.descriptors.iter().flatten().any(|answer| answer.over)
    }

    /// The longest wait of the refused descriptors.
    fn longest_wait(&self) -> Option<Duration> {
        let mut longest = None;
        for answer in self.descriptors.iter().flatten() {
            if answer.over {
                longest = longest.max(answer.wait);
            }
        }
        longest
    }
}

impl DescriptorAnswer {
    fn new(status: LimitStatus<'_>) -> Self {
        let Outcome { over, remaining, banned, retry_after, reset_after, .. } = *status.outcome;
        let wait = if over { retry_after } else { Some(reset_after) };
        Self { limit: status.limit.to_string(), over, remaining, banned, wait }
    }
}

impl TestDeployment {
    pub(crate) fn new(kind: Deployment) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let servers = Servers::start(kind);
        let store = runtime.block_on(servers.store(PATIENT));
        let clients = Mutex::new(servers.clients());
        Self { kind, runtime, store, clients, calls: Cell::new(0), _servers: servers }
    }

    fn clear(&self) {
        for client in self.clients.lock().expect("nobody panics here").iter_mut() {
            redis::cmd("FLUSHALL").exec(client).expect("the server runs");
        }
    }

    /// Compares the answers to each call.
    fn compare(&self, random: &RandomCalls) -> TestCaseResult {
        let rules = random.rules.to_string();
        let comparison = Comparison::new(self, &rules, random.mode, random.has_deny_cache);
        let (mut now, mut latest, mut wait) = (random.start, random.start, None);
        for call in &random.calls {
            now = call.clock_move.time(now, latest, wait);
            latest = latest.max(now);
            let before = comparison.remaining_if_kept(random, now)?;
            let request = random.request(call);
            let answer = comparison.decide_both(&request, now)?;
            if (answer.over || answer.shadowed) && only_adds_to_rules(&request) {
                let after = comparison.remaining_if_kept(random, now)?;
                prop_assert_eq!(before, after, "a refused request costs");
            }
            wait = answer.longest_wait();
            self.calls.set(self.calls.get() + 1);
            // A wrong state may have an effect later or never, so it is read now.
            if !random.has_deny_cache && answer.refuses_a_descriptor() {
                comparison.decide_both(&random.peek_request(), now)?;
            }
        }
        Ok(())
    }
}

/// The same rules in memory and in Redis.
pub(crate) struct Comparison<'a> {
    deployment: &'a TestDeployment,
    begin: Instant,
    clock: Arc<ManualClock>,
    memory: Engine<Memory>,
    redis: Engine<ServiceStore>,
    /// Then only codes are compared.
    has_deny_cache: bool,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(
        deployment: &'a TestDeployment,
        rules: &str,
        mode: Mode,
        has_deny_cache: bool,
    ) -> Self {
        deployment.clear();
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let cache_bytes = if has_deny_cache { 1 << 20 } else { 0 };
        let store = service_store(deployment.store.clone(), cache_bytes);
        let memory = Engine { mode, ..engine(rules, memory(), &clock) };
        let redis = Engine { mode, ..engine(rules, store, &clock) };
        Self { deployment, begin: Instant::now(), clock, memory, redis, has_deny_cache }
    }

    /// The answer of memory, which Redis must give as well.
    pub(crate) fn decide_both(
        &self,
        request: &Request,
        now: Timestamp,
    ) -> Result<Answer, TestCaseError> {
        self.clock.set(now);
        let expected = self.decide(&self.memory, request)?;
        let found = self.decide(&self.redis, request);
        // The server expires keys by its own clock.
        prop_assume!(self.begin.elapsed() < EXPIRY_SLACK);
        let found = found?;
        if self.has_deny_cache {
            prop_assert_eq!(found.codes(), expected.codes(), "{:?}, at {:?}", request, now);
        } else {
            prop_assert_eq!(&found, &expected, "{:?}, at {:?}", request, now);
        }
        Ok(expected)
    }

    /// The remaining hits in memory of all limits that refused requests do not change.
    fn remaining_if_kept(
        &self,
        random: &RandomCalls,
        now: Timestamp,
    ) -> Result<Vec<Option<u32>>, TestCaseError> {
        self.clock.set(now);
        let answer = self.decide(&self.memory, &random.peek_request())?;
        let rules: &[RuleText] = &random.rules.0;
        let mut remaining = Vec::new();
        for (index, answer) in answer.descriptors.iter().enumerate() {
            if rules[index % rules.len()].is_unchanged_by_refused_requests() {
                remaining.push(answer.as_ref().map(|answer| answer.remaining));
            }
        }
        Ok(remaining)
    }

    fn decide<S: Store>(
        &self,
        engine: &Engine<S>,
        request: &Request,
    ) -> Result<Answer, TestCaseError> {
        match self.deployment.runtime.block_on(engine.decide(request, None)) {
            Ok(decision) => Ok(Answer::new(&decision)),
            Err(error) => Err(TestCaseError::fail(format!("{error}, {request:?}"))),
        }
    }
}

/// Compares random cases of one mode in one deployment. Cases that failed before are
/// repeated.
fn check(deployment: Deployment, consume: ConsumeMode) {
    let file = match consume {
        ConsumeMode::Independent => "tests/store/differential/independent.regressions",
        ConsumeMode::AllOrNothing => "tests/store/differential/all_or_nothing.regressions",
        ConsumeMode::StopCounting => "tests/store/differential/stop.regressions",
    };
    let failures = Box::new(FileFailurePersistence::Direct(file));
    let config = Config {
        cases: CASES,
        failure_persistence: Some(failures),
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let test = TestDeployment::new(deployment);
    let begin = Instant::now();
    let calls_before_failure = Cell::new(None);
    let result = TestRunner::new(config).run(&random_calls(consume), |random| {
        let result = test.compare(&random);
        if let (Err(TestCaseError::Fail(_)), None) = (&result, calls_before_failure.get()) {
            calls_before_failure.set(Some(test.calls.get()));
        }
        result
    });
    let calls = calls_before_failure.get().unwrap_or(test.calls.get());
    println!("{deployment:?}, {consume:?}: {calls} calls in {:?}", begin.elapsed());
    match result {
        Ok(()) => assert!(MIN_CALLS < calls, "{calls}"),
        Err(TestError::Fail(why, random)) => unreachable!(
            "{deployment:?}, {consume:?}, differs after {calls} calls: {why}\n{random:?}"
        ),
        Err(TestError::Abort(why)) => unreachable!("{why}"),
    }
}

#[test]
fn one_server_decides_as_memory_does() {
    check(Deployment::One, ConsumeMode::Independent);
}

#[test]
fn one_server_decides_as_memory_does_all_or_nothing() {
    check(Deployment::One, ConsumeMode::AllOrNothing);
}

#[test]
fn one_server_decides_as_memory_does_with_stop_counting() {
    check(Deployment::One, ConsumeMode::StopCounting);
}

#[test]
fn two_servers_decide_as_memory_does() {
    check(Deployment::PerSecond, ConsumeMode::Independent);
}

#[test]
fn two_servers_decide_as_memory_does_all_or_nothing() {
    check(Deployment::PerSecond, ConsumeMode::AllOrNothing);
}

#[test]
fn two_servers_decide_as_memory_does_with_stop_counting() {
    check(Deployment::PerSecond, ConsumeMode::StopCounting);
}

#[test]
fn a_cluster_decides_as_memory_does() {
    check(Deployment::Cluster, ConsumeMode::Independent);
}

#[test]
fn a_cluster_decides_as_memory_does_all_or_nothing() {
    check(Deployment::Cluster, ConsumeMode::AllOrNothing);
}

#[test]
fn a_cluster_decides_as_memory_does_with_stop_counting() {
    check(Deployment::Cluster, ConsumeMode::StopCounting);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does() {
    check(Deployment::Sentinels, ConsumeMode::Independent);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does_all_or_nothing() {
    check(Deployment::Sentinels, ConsumeMode::AllOrNothing);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does_with_stop_counting() {
    check(Deployment::Sentinels, ConsumeMode::StopCounting);
}
