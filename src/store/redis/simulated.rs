//! Servers that exist in this process, on a clock that a test moves: they run the twin of
//! the scripts, and answer as late, as partly and as seldom as their weather says. All that
//! is between them and a caller is the real thing: batches, breakers, reservations, and the
//! task that settles.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    backend_context::BackendContext,
    batch::{Batch, BatchPart, Decide, PartReply, PartResult, ScriptScope},
    batcher::Batcher,
    call::{Call, CallKind, CallResult},
    coalesced::Increment,
    dispatcher::Dispatcher,
    executor::BatchExecutor,
    limits::MAX_REQUEST_COST_IN_FLIGHT,
    node_error::NodeError,
    run_clock::RunClock,
    servers::{Location, Servers},
    settler::{self, SettlementQueue},
};
use crate::{
    counter::CounterKey,
    limit::{
        Hits, fixed_window,
        step::{self, Snapshot, State},
    },
    store::{
        Charge, Deadline, Results, Store, StoreError,
        script::{self, Evaluation, Holder, Record, Verdict},
    },
    time::Timestamp,
};

/// Numbers that a seed decides: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut it = self.0.fetch_add(STEP, SeqCst).wrapping_add(STEP);
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % bound.max(1)
    }

    /// A place in a list of so many.
    pub(crate) fn place(&self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a place")
    }

    pub(crate) fn one_in(&self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub(crate) fn micros(&self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.below(most - least + 1))
    }
}

/// How a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It answers within a millisecond.
    Well,
    /// It answers, later by this.
    Slow(Duration),
    /// It does what it is told and answers when this is over.
    Silent(Instant),
    /// Connections are refused.
    Down,
    /// It does a part of what it is told, and the connection breaks before it answers.
    Breaking,
    /// It does what it is told, and the answer never comes.
    Mute,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    records: Mutex<HashMap<Vec<u8>, Record>>,
    weather: Mutex<Weather>,
    dice: Arc<Dice>,
    /// Commands without a key, which a real server refuses.
    empty: AtomicU64,
    /// Batcher that were sent to it.
    commands: AtomicU64,
}

impl Server {
    pub(crate) fn set(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.lock()
    }

    /// What it holds.
    pub(crate) fn records(&self) -> HashMap<Vec<u8>, Record> {
        self.records.lock().clone()
    }

    /// Another takes its place, which knows only this.
    pub(crate) fn replace(&self, records: HashMap<Vec<u8>, Record>) {
        *self.records.lock() = records;
    }

    pub(crate) fn empty_commands(&self) -> u64 {
        self.empty.load(SeqCst)
    }

    pub(crate) fn commands(&self) -> u64 {
        self.commands.load(SeqCst)
    }

    fn answer(&self, batch: &Batch<'_>, part: &BatchPart) -> Value {
        let mut records = self.records.lock();
        match part {
            BatchPart::Count(increment) => {
                count(&mut records, &batch.coalesced.increments[*increment])
            }
            BatchPart::Decide(positions) => {
                let mut replies = Vec::new();
                for position in positions {
                    let Decide { call, holder } = batch.decisions[*position];
                    decide(&mut records, call, holder, &mut replies);
                }
                Value::Array(replies)
            }
            BatchPart::Settle(positions) => {
                let mut replies = Vec::new();
                let mut found_hold = HashMap::new();
                for position in positions {
                    let call = batch.settlements[*position];
                    let CallKind::Settle(settlements) = &call.kind else { continue };
                    for (charge, settlement) in call.charges.iter().zip(settlements) {
                        let key = charge.counter.key.as_bytes().to_vec();
                        let found_hold = found_hold.entry(key.clone()).or_default();
                        let record = records.entry(key).or_default();
                        let changed =
                            script::settle(record, charge, *settlement, call.now, found_hold);
                        replies.push(Value::Int(changed.into()));
                    }
                }
                Value::Array(replies)
            }
        }
    }
}

/// Runs the script for all algorithms.
fn decide(
    records: &mut HashMap<Vec<u8>, Record>,
    call: &Call,
    holder: Option<Holder>,
    replies: &mut Vec<Value>,
) {
    let read = |key: &CounterKey| records.get(key.as_bytes()).cloned().unwrap_or_default();
    let evaluated = script::evaluate(&call.charges, holder, call.now, read);
    for write in evaluated.writes {
        let key = call.charges[write.position].counter.key.as_bytes();
        records.insert(key.to_vec(), write.record);
    }
    for (position, evaluation) in evaluated.evaluations.iter().enumerate() {
        let if_refused = match &evaluated.if_refused {
            Some(if_refused) => &if_refused[position],
            None => evaluation,
        };
        replies.push(decide_reply(evaluation, holder.map(|_| if_refused)));
    }
}

/// Runs the script for fixed windows.
fn count(records: &mut HashMap<Vec<u8>, Record>, increment: &Increment<'_>) -> Value {
    let record = records.entry(increment.key.to_vec()).or_default();
    if !record.holds.is_empty() {
        return Value::Int(-1);
    }
    let before = match record.state {
        Some(State::Count(state)) => state.count,
        _ => 0,
    };
    let hits = match u64::try_from(increment.hits) {
        Ok(hits) => Hits::Add(hits),
        Err(_) => Hits::Refund(increment.hits.unsigned_abs()),
    };
    let (count, _) = fixed_window::step(before, hits, 0, true);
    if count != before {
        let start = Timestamp::default();
        record.state = Some(State::Count(fixed_window::State { start, count }));
    }
    Value::Int(before.cast_signed())
}

/// The element of the script's reply for one charge. `if_refused` is set if the call has a
/// holder.
pub(super) fn decide_reply(evaluation: &Evaluation, if_refused: Option<&Evaluation>) -> Value {
    let verdict = match evaluation.verdict {
        Verdict::Refused => 0,
        Verdict::Passes => 1,
        Verdict::Undecided => 2,
    };
    let banned_until = evaluation.banned_until.as_micros();
    let mut numbers = vec![verdict, evaluation.applied.into(), banned_until];
    add_snapshot(&mut numbers, evaluation);
    if let Some(if_refused) = if_refused {
        let passes = if_refused.verdict == Verdict::Passes;
        let flags = [if_refused.applied, evaluation.held, if_refused.held, passes];
        let mut sum = 0;
        for (bit, flag) in flags.into_iter().enumerate() {
            sum += u64::from(flag) << bit;
        }
        numbers.push(sum);
        add_snapshot(&mut numbers, if_refused);
    }
    Value::Array(numbers.into_iter().map(|number| Value::Int(number.cast_signed())).collect())
}

/// Adds the numbers of the snapshot that a script returns.
fn add_snapshot(numbers: &mut Vec<u64>, evaluation: &Evaluation) {
    let snapshot = if evaluation.applied { evaluation.after } else { evaluation.before };
    let count = match snapshot {
        Snapshot::Count(_) | Snapshot::Bucket(_) => 2,
        Snapshot::Window(_) | Snapshot::Leases(_) => 3,
    };
    numbers.extend(&step::snapshot_numbers(snapshot)[..count]);
}

/// The way of one instance to a server.
#[derive(Debug)]
struct FakeWire {
    server: Arc<Server>,
    /// Held until a command is done: they are done in the order in which they are sent.
    order: tokio::sync::Mutex<()>,
}

impl BatchExecutor for FakeWire {
    async fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        _: bool,
    ) -> Result<Vec<PartResult>, NodeError> {
        let Self { server, order } = self;
        server.commands.fetch_add(1, SeqCst);
        if parts.is_empty() {
            server.empty.fetch_add(1, SeqCst);
            return Err(NodeError::Failed(StoreError::Failed("empty command".into())));
        }
        let failed = |why: &str| NodeError::Failed(StoreError::Failed(why.into()));
        let (there, back) = (server.dice.micros(50, 500), server.dice.micros(50, 500));
        let turn = order.lock().await;
        sleep(there).await;
        match server.weather() {
            Weather::Well => {}
            Weather::Slow(by) => sleep(by / 2).await,
            Weather::Silent(until) => sleep_until(until).await,
            Weather::Down => {
                return Err(NodeError::Unsent(StoreError::Failed("connection refused".into())));
            }
            Weather::Breaking => {
                let some = server.dice.place(parts.len() + 1);
                for part in parts.iter().take(some) {
                    server.answer(batch, part);
                }
                sleep(back).await;
                return Err(failed("the connection broke"));
            }
            Weather::Mute => {
                for part in parts {
                    server.answer(batch, part);
                }
                drop(turn);
                return std::future::pending().await;
            }
        }
        let answers =
            parts.iter().map(|part| Ok(PartReply::Value(server.answer(batch, part)))).collect();
        drop(turn);
        if let Weather::Slow(by) = server.weather() {
            sleep(by / 2).await;
        }
        sleep(back).await;
        Ok(answers)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        match self.server.weather() {
            Weather::Silent(until) => sleep_until(until).await,
            Weather::Slow(by) => sleep(by).await,
            Weather::Mute => return std::future::pending().await,
            Weather::Well | Weather::Down | Weather::Breaking => {
                sleep(Duration::from_micros(200)).await;
            }
        }
        Ok(())
    }
}

/// The ways of one instance to all servers.
#[derive(Debug)]
pub(crate) struct Ways {
    batches: Vec<Batcher<FakeWire>>,
    timeout: Duration,
    at_once: usize,
    run_clock: RunClock,
}

impl Servers for Ways {
    /// A counter is on the server that the first key of its descriptor says: `a…` on the
    /// first, `b…` on the second.
    fn locate(&self, charge: &Charge) -> Location {
        let key = charge.counter.key.as_bytes();
        let first = key.iter().position(|it| *it == b'|').map_or(0, |it| key[it + 1]);
        let count = u16::try_from(self.batches.len()).expect("there are few");
        let slot = u16::from(first.saturating_sub(b'a')) % count;
        Location { per_second: false, slot }
    }

    fn owner(&self, place: Location) -> u32 {
        place.slot.into()
    }

    fn splits_by_counter(&self, _: Location) -> bool {
        false
    }

    async fn send(&self, place: Location, call: &Arc<Call>, until: Instant) -> CallResult {
        if until <= Instant::now() {
            return Err(NodeError::Unsent(StoreError::Timeout(self.timeout)));
        }
        let made = self.batches[usize::from(place.slot)].call(call);
        let late = |_| Err(NodeError::Failed(StoreError::Timeout(self.timeout)));
        tokio::time::timeout_at(until, made).await.unwrap_or_else(late)
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn run_clock(&self) -> &RunClock {
        &self.run_clock
    }

    fn max_cost_in_flight(&self) -> usize {
        self.at_once
    }

    fn max_dependent_charges(&self) -> usize {
        self.at_once
    }
}

/// One instance's store.
#[derive(Debug)]
pub(crate) struct Simulated {
    dispatcher: Dispatcher<Ways>,
    _settler: JoinSet<()>,
}

impl Simulated {
    /// So many servers, which instances share.
    pub(crate) fn servers(count: usize, dice: &Arc<Dice>) -> Vec<Arc<Server>> {
        let server = || Server {
            records: Mutex::default(),
            weather: Mutex::new(Weather::Well),
            dice: Arc::clone(dice),
            empty: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        };
        (0..count).map(|_| Arc::new(server())).collect()
    }

    /// An instance that uses them.
    pub(crate) fn on(servers: &[Arc<Server>], timeout: Duration) -> Self {
        Self::divided(servers, timeout, MAX_REQUEST_COST_IN_FLIGHT)
    }

    /// An instance that divides requests which cost more than `at_once`.
    pub(crate) fn divided(servers: &[Arc<Server>], timeout: Duration, at_once: usize) -> Self {
        let (late, unsettled) = SettlementQueue::new();
        let wire = |it: &Arc<Server>| FakeWire {
            server: Arc::clone(it),
            order: tokio::sync::Mutex::default(),
        };
        let run_clock = RunClock::start();
        let context = BackendContext::new(run_clock.clone(), late.clone());
        let mut batches = Vec::new();
        for server in servers {
            batches.push(Batcher::new(wire(server), timeout, ScriptScope::OneSlot, &context));
        }
        let ways = Arc::new(Ways { batches, timeout, at_once, run_clock });
        let mut settler = JoinSet::new();
        settler.spawn(settler::run(Arc::clone(&ways), late.stats(), unsettled));
        Self { dispatcher: Dispatcher::new(ways, late), _settler: settler }
    }

    /// How many charges could not be settled.
    pub(crate) fn not_settled(&self) -> u64 {
        self.dispatcher.settlements().stats().failed()
    }
}

impl Store for Simulated {
    async fn charge(&self, charges: &[Charge], now: Timestamp, deadline: Deadline) -> Results {
        self.dispatcher.charge(charges, now, deadline).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
