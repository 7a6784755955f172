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
    batch::{Batch, BatchPart, PartReply, PartResult, ScriptScope},
    batcher::Batcher,
    call::{Call, CallKind, CallResult},
    dispatcher::{Dispatcher, Location, Servers},
    executor::BatchExecutor,
    limits::MAX_REQUEST_COST_IN_FLIGHT,
    node_error::NodeError,
    run_clock::RunClock,
    settler::{self, SettlementQueue},
};
use crate::{
    limit::{Hits, fixed_window, step, step::State},
    store::{
        Charge, Deadline, Results, Store, StoreError,
        script::{self, Record, Verdict},
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
            BatchPart::Count(sum) => count(&mut records, &batch.sums.charges[*sum]),
            BatchPart::Decide(places) => {
                let mut answers = Vec::new();
                for (call, holder) in places.iter().map(|it| batch.decisions[*it]) {
                    let read = |key: &crate::counter::CounterKey| {
                        records.get(key.as_bytes()).cloned().unwrap_or_default()
                    };
                    let made = script::make(&call.charges, holder, call.now, read);
                    for it in made.written {
                        let key = call.charges[it.at].counter.key.as_bytes();
                        records.insert(key.to_vec(), it.record);
                    }
                    let refused = made.refused.as_ref().unwrap_or(&made.attempts);
                    for (attempt, refused) in made.attempts.iter().zip(refused) {
                        answers.push(decided(attempt, holder.map(|_| refused)));
                    }
                }
                Value::Array(answers)
            }
            BatchPart::Settle(places) => {
                let (mut answers, mut taken) = (Vec::new(), HashMap::new());
                for call in places.iter().map(|it| batch.settlements[*it]) {
                    let CallKind::Settle(how) = &call.kind else { continue };
                    for (charge, how) in call.charges.iter().zip(how) {
                        let key = charge.counter.key.as_bytes().to_vec();
                        let taken = taken.entry(key.clone()).or_default();
                        let record = records.entry(key).or_default();
                        let changed = script::settle(record, charge, *how, call.now, taken);
                        answers.push(Value::Int(changed.into()));
                    }
                }
                Value::Array(answers)
            }
        }
    }
}

/// What the script for fixed windows does.
fn count(records: &mut HashMap<Vec<u8>, Record>, sum: &super::coalesced::Increment<'_>) -> Value {
    let record = records.entry(sum.key.to_vec()).or_default();
    if !record.holds.is_empty() {
        return Value::Int(-1);
    }
    let before = match record.state {
        Some(State::Count(it)) => it.count,
        _ => 0,
    };
    let hits = match u64::try_from(sum.change) {
        Ok(hits) => Hits::Add(hits),
        Err(_) => Hits::Refund(sum.change.unsigned_abs()),
    };
    let (count, _) = fixed_window::step(before, hits, 0, true);
    if count != before {
        let start = Timestamp::default();
        record.state = Some(State::Count(fixed_window::State { start, count }));
    }
    Value::Int(before.cast_signed())
}

pub(super) fn decided(attempt: &script::Attempt, refused: Option<&script::Attempt>) -> Value {
    let verdict = match attempt.verdict {
        Verdict::Refused => 0,
        Verdict::Passes => 1,
        Verdict::Unsure => 2,
    };
    let size = |told| match told {
        step::Snapshot::Count(_) | step::Snapshot::Bucket(_) => 2,
        step::Snapshot::Window(_) | step::Snapshot::Leases(_) => 3,
    };
    let mut numbers = vec![verdict, attempt.made.into(), attempt.banned.as_micros()];
    let told = |it: &script::Attempt| if it.made { it.after } else { it.before };
    numbers.extend(&step::snapshot_numbers(told(attempt))[..size(told(attempt))]);
    if let Some(refused) = refused {
        let (made, granted) = (u64::from(refused.made), u64::from(attempt.waits));
        let passes = u64::from(refused.verdict == Verdict::Passes);
        numbers.push(made + 2 * granted + 4 * u64::from(refused.waits) + 8 * passes);
        numbers.extend(&step::snapshot_numbers(told(refused))[..size(told(refused))]);
    }
    Value::Array(numbers.into_iter().map(|it| Value::Int(it.cast_signed())).collect())
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
    dispatcher: Arc<Dispatcher<Ways>>,
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
        Self { dispatcher: Arc::new(Dispatcher::new(ways, late)), _settler: settler }
    }

    /// How many charges could not be settled.
    pub(crate) fn not_settled(&self) -> u64 {
        self.dispatcher.late.refund_counts().1
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
