//! Each game is played in memory and in one Redis deployment.

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
        decision::{Decision, Mode},
    },
    store::{EXPIRY_SLACK, Store, memory::Memory},
    time::{ManualClock, Timestamp},
};

use super::{
    calls::{Game, game},
    rules::{Kind, RuleText},
};
use crate::places::{Counters, PATIENT, Place, Servers, Shared, counters, engine, memory};

/// The number of games of each kind in each deployment.
const GAMES: u32 = 120;
/// The minimum of the calls of all these games.
const CALLS: usize = 1_000;

/// A Redis deployment for games.
pub(crate) struct Table {
    runtime: Runtime,
    store: Shared,
    clients: Mutex<Vec<redis::Connection>>,
    calls: Cell<usize>,
    _servers: Servers,
}

/// The part of an answer about one descriptor.
#[derive(Debug, PartialEq)]
struct Told {
    limit: String,
    over: bool,
    remaining: u32,
    banned: Duration,
    wait: Option<Duration>,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    over: bool,
    shadowed: bool,
    awaited: Option<usize>,
    waits: Option<Duration>,
    verdicts: Vec<Option<Told>>,
}

impl Answer {
    fn of(decision: &Decision) -> Self {
        let told = decision.verdicts.iter().map(|verdict| {
            let status = verdict.status()?;
            Some(Told {
                limit: status.limit.to_string(),
                over: status.outcome.over,
                remaining: status.outcome.remaining,
                banned: status.outcome.banned,
                wait: match status.outcome.over {
                    true => status.outcome.retry_after,
                    false => Some(status.outcome.reset_after),
                },
            })
        });
        Self {
            over: decision.over_limit,
            shadowed: decision.shadowed,
            awaited: decision.binding_verdict,
            waits: decision.wait,
            verdicts: told.collect(),
        }
    }

    /// The codes without other values.
    fn codes(&self) -> (bool, bool, Vec<Option<bool>>) {
        let codes = self.verdicts.iter().map(|it| it.as_ref().map(|it| it.over));
        (self.over, self.shadowed, codes.collect())
    }

    /// The longest wait of the refused descriptors.
    fn wait(&self) -> Option<Duration> {
        self.verdicts.iter().flatten().filter(|it| it.over).filter_map(|it| it.wait).max()
    }
}

impl Table {
    pub(crate) fn new(place: Place) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let servers = Servers::start(place);
        let store = runtime.block_on(servers.store(PATIENT));
        let clients = Mutex::new(servers.clients());
        Self { runtime, store, clients, calls: Cell::new(0), _servers: servers }
    }

    fn clear(&self) {
        for client in self.clients.lock().expect("nobody panics here").iter_mut() {
            redis::cmd("FLUSHALL").exec(client).expect("the server runs");
        }
    }

    /// Compares the answers to each call.
    fn play(&self, game: &Game) -> TestCaseResult {
        let round = Round::new(self, &game.rules.to_string(), game.mode, game.remembers);
        let (mut now, mut latest, mut wait) = (game.start, game.start, None);
        for (step, asks) in &game.calls {
            now = step.moment(now, latest, wait);
            latest = latest.max(now);
            let before = round.look(game, now)?;
            let answer = round.call(&game.request(asks), now)?;
            let plain = asks.iter().all(|it| game.is_plain(it));
            if (answer.over || answer.shadowed) && plain {
                prop_assert_eq!(before, round.look(game, now)?, "a refused request costs");
            }
            wait = answer.wait();
            self.calls.set(self.calls.get() + 1);
            // A wrong state may show later or never, so it is looked at now.
            if !game.remembers && answer.verdicts.iter().flatten().any(|it| it.over) {
                round.call(&game.looks(), now)?;
            }
        }
        Ok(())
    }
}

/// The same rules in memory and in Redis.
pub(crate) struct Round<'a> {
    table: &'a Table,
    begin: Instant,
    clock: Arc<ManualClock>,
    ours: Engine<Memory>,
    theirs: Engine<Counters>,
    /// Whether there is a deny cache. Then only codes are compared.
    remembers: bool,
}

impl<'a> Round<'a> {
    pub(crate) fn new(table: &'a Table, rules: &str, mode: Mode, remembers: bool) -> Self {
        table.clear();
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let store = counters(table.store.clone(), if remembers { 1 << 20 } else { 0 });
        let ours = Engine { mode, ..engine(rules, memory(), &clock) };
        let theirs = Engine { mode, ..engine(rules, store, &clock) };
        Self { table, begin: Instant::now(), clock, ours, theirs, remembers }
    }

    /// The answer of memory, which Redis must give as well.
    pub(crate) fn call(&self, request: &Request, now: Timestamp) -> Result<Answer, TestCaseError> {
        self.clock.set(now);
        let expected = self.decide(&self.ours, request)?;
        let found = self.decide(&self.theirs, request);
        // The server expires keys by its own clock.
        prop_assume!(self.begin.elapsed() < EXPIRY_SLACK);
        let found = found?;
        if self.remembers {
            prop_assert_eq!(found.codes(), expected.codes(), "{:?}, at {:?}", request, now);
        } else {
            prop_assert_eq!(&found, &expected, "{:?}, at {:?}", request, now);
        }
        Ok(expected)
    }

    /// The remaining hits in memory of all limits that refused requests do not change.
    fn look(&self, game: &Game, now: Timestamp) -> Result<Vec<Option<u32>>, TestCaseError> {
        self.clock.set(now);
        let answer = self.decide(&self.ours, &game.looks())?;
        let spared = game.rules.0.iter().map(RuleText::is_spared).cycle();
        let spared = answer.verdicts.iter().zip(spared).filter(|(_, spared)| *spared);
        Ok(spared.map(|(told, _)| told.as_ref().map(|it| it.remaining)).collect())
    }

    fn decide<S: Store>(
        &self,
        engine: &Engine<S>,
        request: &Request,
    ) -> Result<Answer, TestCaseError> {
        let decision = self.table.runtime.block_on(engine.decide(request, None));
        let decision = decision.map_err(|it| TestCaseError::fail(format!("{it}, {request:?}")))?;
        Ok(Answer::of(&decision))
    }
}

/// Plays games of one kind in one deployment. Games that failed before are played again.
fn play(place: Place, kind: Kind) {
    let file = match kind {
        Kind::Independent => "tests/store/differential/independent.regressions",
        Kind::AllOrNothing => "tests/store/differential/all_or_nothing.regressions",
        Kind::Stop => "tests/store/differential/stop.regressions",
    };
    let failures = Box::new(FileFailurePersistence::Direct(file));
    let config = Config {
        cases: GAMES,
        failure_persistence: Some(failures),
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let table = Table::new(place);
    let begin = Instant::now();
    let failed = Cell::new(None);
    let result = TestRunner::new(config).run(&game(kind), |game| {
        let result = table.play(&game);
        if let (Err(TestCaseError::Fail(_)), None) = (&result, failed.get()) {
            failed.set(Some(table.calls.get()));
        }
        result
    });
    let calls = failed.get().unwrap_or(table.calls.get());
    println!("{place:?}, {kind:?}: {calls} calls in {:?}", begin.elapsed());
    match result {
        Ok(()) => assert!(CALLS < calls, "{calls}"),
        Err(TestError::Fail(why, game)) => {
            unreachable!("{place:?}, {kind:?}, differs after {calls} calls: {why}\n{game:?}")
        }
        Err(TestError::Abort(why)) => unreachable!("{why}"),
    }
}

#[test]
fn one_server_decides_as_memory_does() {
    play(Place::One, Kind::Independent);
}

#[test]
fn one_server_decides_as_memory_does_all_or_nothing() {
    play(Place::One, Kind::AllOrNothing);
}

#[test]
fn one_server_decides_as_memory_does_told_to_stop() {
    play(Place::One, Kind::Stop);
}

#[test]
fn two_servers_decide_as_memory_does() {
    play(Place::PerSecond, Kind::Independent);
}

#[test]
fn two_servers_decide_as_memory_does_all_or_nothing() {
    play(Place::PerSecond, Kind::AllOrNothing);
}

#[test]
fn two_servers_decide_as_memory_does_told_to_stop() {
    play(Place::PerSecond, Kind::Stop);
}

#[test]
fn a_cluster_decides_as_memory_does() {
    play(Place::Cluster, Kind::Independent);
}

#[test]
fn a_cluster_decides_as_memory_does_all_or_nothing() {
    play(Place::Cluster, Kind::AllOrNothing);
}

#[test]
fn a_cluster_decides_as_memory_does_told_to_stop() {
    play(Place::Cluster, Kind::Stop);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does() {
    play(Place::Sentinels, Kind::Independent);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does_all_or_nothing() {
    play(Place::Sentinels, Kind::AllOrNothing);
}

#[test]
fn a_master_behind_sentinels_decides_as_memory_does_told_to_stop() {
    play(Place::Sentinels, Kind::Stop);
}
