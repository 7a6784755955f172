//! Compares the scripts, on a real server, with their Rust twin: every reply, and the records
//! after every script run.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestError, TestRunner},
};

use self::{
    moves::{CallOf, Game, How, Move, SettleOf, game, game_of_lists},
    text::parse,
};
use super::{
    Jitter,
    decide::{self, DecideCall},
    lua_script::LuaScript,
    replies::elements,
    reservation::HOLD_TIMEOUT,
    settle::{self, SettleCharge},
    simulated::decide_reply,
};
use crate::{
    counter::{CounterKey, CounterRef, KeyFormat, KeyPart},
    limit::{
        Hits, Limit,
        step::{Snapshot, State},
    },
    store::{
        Charge,
        script::{self, Holder, Record, Settlement},
    },
    time::Timestamp,
};

mod damaged;
mod regressions;
mod moves;
mod text;

const START: Timestamp = Timestamp::from_secs(1_700_000_040);

/// A game in progress: the server, the records of the twin, and the charges so far.
struct Player<'a> {
    scripts: &'a Scripts,
    server: &'a mut redis::Connection,
    limits: Vec<Limit>,
    kept: HashMap<CounterKey, (Record, Limit)>,
    charged: Vec<(Charge, Snapshot)>,
    now: Timestamp,
}

/// The value of each key.
type Values = HashMap<CounterKey, Vec<u8>>;

struct Scripts {
    decide: LuaScript,
    settle: LuaScript,
}

#[test]
fn the_scripts_and_their_twin_agree() {
    play_all(1_500, &game());
}

#[test]
fn the_scripts_and_their_twin_agree_on_long_lists() {
    play_all(300, &game_of_lists());
}

/// A counter whose algorithm was changed from a list, and whose value is damaged.
#[test]
fn a_list_under_another_algorithm_is_no_ban() {
    let limit = Limit::fixed(0, crate::limit::Window::new(crate::limit::Unit::Second));
    let limit = Limit { penalty: Duration::from_millis(300), ..limit };
    let charge = moves::ChargeOf {
        counter: 0,
        more: 0,
        hits: Hits::Add(1),
        consume: crate::store::Consume::Independent,
        enforced: crate::store::Enforced::Yes,
        refused: false,
    };
    let call = CallOf { pause: 0, holder: None, charges: vec![charge] };
    let moves = vec![(0, Move::Call(vec![call]))];
    play_all(1, &Just(Game { counters: vec![(limit, b"#!1700000041664581".to_vec())], moves }));
}

fn play_all(cases: u32, games: &impl Strategy<Value = Game>) {
    let redis = testkit::redis::RedisServer::start();
    let connection = RefCell::new(redis.client());
    let scripts = Scripts::new();
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(games, |game| {
        Player::new(&game, &scripts, &mut connection.borrow_mut()).play(&game.moves);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, game)) => panic!("{why}\n{game:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

impl Scripts {
    fn new() -> Self {
        // Without TIME, holds expire by the clock of the game.
        let without_time =
            |source: String| LuaScript::new(source.replace("redis.pcall('TIME')", "{}"));
        let (decide, settle) = (decide::source(), settle::source());
        assert!(decide.contains("redis.pcall('TIME')"));
        Self { decide: without_time(decide), settle: without_time(settle) }
    }
}

fn counter(at: usize, limit: &Limit, now: Timestamp) -> CounterRef {
    let value = [b'0' + u8::try_from(at).unwrap()];
    let part = KeyPart { key: b"counter", value: &value, shared: false };
    KeyFormat::default().counter(b"a", [part].into_iter(), limit, now)
}

/// The limit after its rule has been raised.
fn raised(limit: &Limit, more: u32) -> Limit {
    let longer = if limit.penalty.is_zero() { Duration::ZERO } else { Duration::from_secs(1) };
    Limit {
        requests: limit.requests.saturating_add(more),
        algorithm: limit.algorithm.with_burst(|burst| burst.saturating_add(more)),
        penalty: limit.penalty + more * longer,
        ..limit.clone()
    }
}

impl<'a> Player<'a> {
    fn new(game: &Game, scripts: &'a Scripts, server: &'a mut redis::Connection) -> Self {
        redis::cmd("FLUSHALL").exec(server).unwrap();
        let mut kept = HashMap::new();
        for (at, (limit, old)) in game.counters.iter().enumerate() {
            let key = counter(at, limit, START).key;
            if !old.is_empty() {
                let mut set = redis::cmd("SET");
                set.arg(key.as_bytes()).arg(old).arg("PX").arg(60_000).exec(server).unwrap();
            }
            kept.insert(key, (parse(old, limit), limit.clone()));
        }
        let limits = game.counters.iter().map(|(limit, _)| limit.clone()).collect();
        Self { scripts, server, limits, kept, charged: Vec::new(), now: START }
    }

    fn play(&mut self, moves: &[(i64, Move)]) {
        for (pause, next) in moves {
            self.pause(*pause);
            match next {
                Move::Call(calls) => self.call(calls),
                Move::Settle(calls, again) => {
                    let calls = self.settlements(calls);
                    self.settle(&calls);
                    if *again {
                        self.settle_again(&calls);
                    }
                }
            }
        }
    }

    fn pause(&mut self, micros: i64) {
        self.now = Timestamp::from_micros(self.now.as_micros().saturating_add_signed(micros));
    }

    fn call(&mut self, calls: &[CallOf]) {
        let mut made = Vec::new();
        for call in calls {
            self.pause(call.pause);
            let holder =
                call.holder.map(|id| Holder { id, expires_at: self.now.plus(HOLD_TIMEOUT) });
            let charges = call.charges.iter().map(|it| {
                let limit = raised(&self.limits[it.counter], it.more);
                Charge {
                    counter: counter(it.counter, &limit, self.now),
                    limit,
                    hits: it.hits,
                    consume: it.consume,
                    enforced: it.enforced,
                    refused: it.refused,
                    on_timeout: crate::store::OnTimeout::Fail,
                }
            });
            made.push((charges.collect::<Vec<_>>(), self.now, holder));
        }
        let asked: Vec<_> = made
            .iter()
            .map(|(it, now, holder)| DecideCall { charges: it, now: *now, holder: *holder })
            .collect();
        let command = decide::command(self.scripts.decide.eval(), &asked, Jitter::default());
        let count = made.iter().map(|(it, ..)| it.len()).sum();
        let keys = made.iter().flat_map(|(it, ..)| it);
        let (answer, values) = self.run(command, keys);
        let mut answers = elements(answer, count).unwrap();
        for (charges, now, holder) in &made {
            let own: Vec<_> = answers.drain(..charges.len()).collect();
            let expected = self.twin_replies(charges, *holder, *now);
            assert_eq!(own, expected, "{charges:?} {holder:?}");
            decide::parse_reply(charges, &own, holder.is_some()).unwrap();
        }
        self.compare(&values, &[]);
    }

    /// The replies of the twin.
    fn twin_replies(
        &mut self,
        charges: &[Charge],
        holder: Option<Holder>,
        now: Timestamp,
    ) -> Vec<redis::Value> {
        let read =
            |key: &CounterKey| self.kept.get(key).map(|entry| entry.0.clone()).unwrap_or_default();
        let made = script::evaluate(charges, holder, now, read);
        for it in made.writes {
            let charge = &charges[it.position];
            self.kept.insert(charge.counter.key.clone(), (it.record, charge.limit.clone()));
        }
        let refused = made.if_refused.as_ref().unwrap_or(&made.evaluations);
        let mut answers = Vec::new();
        for ((attempt, refused), charge) in made.evaluations.iter().zip(refused).zip(charges) {
            answers.push(decide_reply(attempt, holder.map(|_| refused)));
            self.charged.push((charge.clone(), attempt.after));
        }
        answers
    }

    fn settlements(&self, calls: &[Vec<SettleOf>]) -> Vec<(Vec<Charge>, Vec<Settlement>)> {
        let mut settlements = Vec::new();
        for call in calls {
            let mut one: (Vec<Charge>, Vec<Settlement>) = Default::default();
            for SettleOf { charge, how } in call {
                let Some((charge, snapshot)) = self.charged.iter().nth_back(*charge) else {
                    continue;
                };
                let own = charge.hits.capped();
                let same = |it: &Charge| it.counter.key == charge.counter.key;
                let more = one.0.iter().any(same);
                one.0.push(charge.clone());
                one.1.push(match *how {
                    How::Count(_, hits) if more => Settlement::CountMore(hits.unwrap_or(own)),
                    How::Count(id, hits) => Settlement::CountHold { id, hits: hits.unwrap_or(own) },
                    How::Release(id) => Settlement::ReleaseHold { id },
                    How::Refund(hits) => Settlement::Refund {
                        hits: hits.unwrap_or(own).capped().requested(),
                        snapshot: *snapshot,
                    },
                    How::Set(hits) => Settlement::Set(hits),
                    How::Erase => Settlement::Erase,
                });
            }
            if !one.0.is_empty() {
                settlements.push(one);
            }
        }
        settlements
    }

    /// Returns for each charge if its record changed.
    fn settle(&mut self, calls: &[(Vec<Charge>, Vec<Settlement>)]) -> Vec<bool> {
        if calls.is_empty() {
            return Vec::new();
        }
        let each = calls.iter().flat_map(|(charges, hows)| charges.iter().zip(hows));
        let asked: Vec<_> = each
            .map(|(charge, how)| SettleCharge { charge, settlement: *how, now: self.now })
            .collect();
        let command = settle::command(self.scripts.settle.eval(), &asked, Jitter::default());
        let (answer, values) = self.run(command, calls.iter().flat_map(|(it, _)| it));
        let answer: Vec<i64> = redis::from_redis_value(answer).unwrap();
        let (mut expected, mut taken) = (Vec::new(), HashMap::new());
        for (charges, hows) in calls {
            for (charge, how) in charges.iter().zip(hows) {
                let key = &charge.counter.key;
                let taken = taken.entry(key.clone()).or_default();
                let kept = self.kept.entry(key.clone());
                let (record, _) = kept.or_insert_with(|| (Record::default(), charge.limit.clone()));
                expected.push(script::settle(record, charge, *how, self.now, taken));
            }
        }
        let found: Vec<_> = answer.into_iter().map(|changed| changed == 1).collect();
        assert_eq!(found, expected, "{calls:?}");
        self.compare(&values, calls);
        found
    }

    /// Settles holds a second time, which changes nothing.
    fn settle_again(&mut self, calls: &[(Vec<Charge>, Vec<Settlement>)]) {
        let once = |how: &Settlement| {
            matches!(
                how,
                Settlement::CountHold { .. }
                    | Settlement::CountMore(_)
                    | Settlement::ReleaseHold { .. }
            )
        };
        let calls: Vec<_> =
            calls.iter().filter(|(_, hows)| hows.iter().all(once)).cloned().collect();
        assert!(!self.settle(&calls).contains(&true), "{calls:?}");
    }

    /// Runs a command for `charges`. Returns its reply, and the values after it.
    fn run<'c>(
        &mut self,
        command: redis::Cmd,
        charges: impl Iterator<Item = &'c Charge>,
    ) -> (redis::Value, Values) {
        let mut keys: Vec<_> = self.kept.keys().cloned().collect();
        for Charge { counter, .. } in charges {
            if !keys.contains(&counter.key) {
                keys.push(counter.key.clone());
            }
        }
        let mut all = redis::pipe();
        all.add_command(command);
        for key in &keys {
            let key = key.as_bytes();
            // The server's clock is not that of the game: no key expires by it.
            all.cmd("GET").arg(key).cmd("PTTL").arg(key);
            all.cmd("PEXPIRE").arg(key).arg(60_000).ignore();
        }
        let mut answers: Vec<redis::Value> = all.query(self.server).unwrap();
        let mut values = Values::new();
        for (key, both) in keys.into_iter().zip(answers.split_off(1).chunks_exact(2)) {
            let value: Option<Vec<u8>> = redis::from_redis_value_ref(&both[0]).unwrap();
            let ends: i64 = redis::from_redis_value_ref(&both[1]).unwrap();
            assert!(value.is_none() || 0 < ends, "{value:?} has no expiry");
            values.insert(key, value.unwrap_or_default());
        }
        (answers.remove(0), values)
    }

    fn compare(&self, values: &Values, calls: &[(Vec<Charge>, Vec<Settlement>)]) {
        for (key, (record, limit)) in &self.kept {
            let value = &values[key];
            let (text, name) = (value.escape_ascii(), key.as_bytes().escape_ascii());
            assert_eq!(parse(value, limit), normalized(record), "{text} {limit} {name} {calls:?}");
        }
    }
}

/// The record without an empty list, which the scripts delete.
fn normalized(record: &Record) -> Record {
    let empty = matches!(&record.state, Some(State::Permits(it)) if it.0.is_empty());
    let state = record.state.clone().filter(|_| !empty);
    Record { state, ..record.clone() }
}
