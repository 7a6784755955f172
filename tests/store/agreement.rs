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
    games::{Game, game, longest},
    model::Model,
};
use testkit::redis::RedisServer;

/// A server and a store that is connected to it.
pub(crate) struct Table {
    runtime: Runtime,
    store: Redis,
    /// The maximum of the random seconds that are added to each expiry.
    spread: u32,
    client: RefCell<::redis::Connection>,
    _server: RedisServer,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::with(RedisServer::start(), 0)
    }

    pub(crate) fn with(server: RedisServer, bound: u32) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let inside = runtime.enter();
        let store = jittering(&server.url(), bound);
        drop(inside);
        let spread = bound.saturating_sub(1);
        Self { runtime, store, spread, client: RefCell::new(server.client()), _server: server }
    }

    /// Runs a command on the server.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query(&mut self.client.borrow_mut()).expect("the server runs")
    }

    pub(crate) fn clear(&self) {
        self.ask(&cmd("FLUSHALL"))
    }

    pub(crate) fn charge(&self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        let results = self.runtime.block_on(self.store.charge(charges, now, None));
        results.into_iter().map(|it| it.expect("the server runs")).collect()
    }

    /// The remaining life of each key in milliseconds; negative without an expiry.
    fn lifetimes(&self) -> Vec<(Vec<u8>, i64)> {
        let keys: Vec<Vec<u8>> = self.ask(cmd("KEYS").arg("*"));
        let lifetime = |key: Vec<u8>| {
            let pttl = self.ask(cmd("PTTL").arg(&key[..]));
            (key, pttl)
        };
        keys.into_iter().map(lifetime).collect()
    }
}

/// Games that failed before are played again.
pub(crate) fn config(cases: u32, file: &'static str) -> Config {
    let failures = Box::new(FileFailurePersistence::Direct(file));
    Config { cases, failure_persistence: Some(failures), ..Config::default() }
}

pub(crate) fn play(table: &Table, game: &Game) -> TestCaseResult {
    table.clear();
    let begin = Instant::now();
    let (memory, mut model) = (Memory::new(1 << 20), Model::default());
    let (mut now, mut latest, mut last) = (game.start, game.start, Vec::new());
    let mut bounds: HashMap<Vec<u8>, Duration> = HashMap::new();
    for (step, hits) in &game.calls {
        now = game.moment(step, now, latest, &last);
        latest = latest.max(now);
        let charges = game.charges(hits, now);
        last = model.charge(&charges, now);
        let theirs = table.charge(&charges, now);
        // The server expires keys by its own clock.
        prop_assume!(begin.elapsed() < EXPIRY_SLACK);
        prop_assert_eq!(&theirs, &last, "Redis, at {:?}", now);
        if game.may_forget() {
            let ours = table.runtime.block_on(memory.charge(&charges, now, None));
            let ours: Vec<_> = ours.into_iter().map(|it| it.expect("memory works")).collect();
            prop_assert_eq!(&ours, &last, "memory, at {:?}", now);
        }
        for charge in &charges {
            let longest = longest(charge) + Duration::from_secs(table.spread.into());
            let bound = bounds.entry(charge.counter.key.as_bytes().to_vec()).or_default();
            *bound = longest.max(*bound);
        }
    }
    for (key, lifetime) in table.lifetimes() {
        if key.starts_with(b"tollgate-probe-") {
            continue;
        }
        let longest = i64::try_from(bounds[&key].as_millis()).expect("it is short");
        let key = key.escape_ascii();
        prop_assert!((0..=longest).contains(&lifetime), "{key} lives {lifetime} of {longest} ms");
    }
    Ok(())
}

#[test]
fn memory_and_redis_agree_on_every_charge() {
    let table = Table::new();
    let config = config(2_000, "tests/store/agreement.regressions");
    proptest!(config, |(game in game(0))| play(&table, &game)?);
}

/// Values without effect may stay: by the clock of these games windows end and buckets
/// drain, and by that of the server nothing expires.
#[test]
fn a_later_expiry_changes_no_decision() {
    let table = Table::with(RedisServer::start(), 300);
    let config = config(500, "tests/store/agreement.regressions");
    proptest!(config, |(game in game(0))| play(&table, &game)?);
}

#[test]
fn redis_matches_the_model_under_any_clock() {
    let table = Table::new();
    let config = config(500, "tests/store/glitches.regressions");
    proptest!(config, |(game in game(4))| play(&table, &game)?);
}
