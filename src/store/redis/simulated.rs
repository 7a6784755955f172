//! Simulated servers, on paused time: they run the Rust twin of the scripts, and inject the
//! faults of their condition. Everything between them and a caller is the product: batches,
//! breakers, reservations and the settler.

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
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    backend_context::BackendContext,
    batch::{Batch, BatchPart, Decide, ScriptScope},
    batcher::Batcher,
    call::{Call, CallKind, CallResult},
    coalesced::Increment,
    dispatcher::Dispatcher,
    executor::BatchExecutor,
    limits::MAX_REQUEST_COST_IN_FLIGHT,
    node_error::NodeError,
    replies::{PartReply, PartResult},
    run_clock::RunClock,
    servers::{CounterLocation, Servers},
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
        script::{self, ChargeVerdict, Evaluation, Holder, Record},
    },
    time::Timestamp,
};

/// Random numbers from a seed: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Debug)]
pub(crate) struct SharedRng(AtomicU64);

impl SharedRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.0.fetch_add(STEP, SeqCst).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound.max(1)
    }

    /// An index into a list of `count` elements.
    pub(crate) fn index(&self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a usize")
    }

    pub(crate) fn one_in(&self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub(crate) fn micros(&self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.below(most - least + 1))
    }
}

/// The condition of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It replies within a millisecond.
    Healthy,
    /// Its replies are delayed by this.
    Slow(Duration),
    /// It executes no command until then.
    Paused(Instant),
    /// It refuses connections.
    Down,
    /// It executes a part of each batch, and closes the connection before it replies.
    Disconnecting,
    /// It executes every command, and never replies.
    Mute,
}

#[derive(Debug)]
pub(crate) struct Server {
    records: Mutex<HashMap<Vec<u8>, Record>>,
    condition: Mutex<Condition>,
    rng: Arc<SharedRng>,
    /// Commands without a key, which a real server refuses.
    empty: AtomicU64,
    /// Batches that were sent to it.
    batches: AtomicU64,
}

impl Server {
    pub(crate) fn set_condition(&self, condition: Condition) {
        *self.condition.lock() = condition;
    }

    pub(crate) fn condition(&self) -> Condition {
        *self.condition.lock()
    }

    pub(crate) fn records(&self) -> HashMap<Vec<u8>, Record> {
        self.records.lock().clone()
    }

    /// Replaces the server by one that has only these records.
    pub(crate) fn replace(&self, records: HashMap<Vec<u8>, Record>) {
        *self.records.lock() = records;
    }

    pub(crate) fn empty_commands(&self) -> u64 {
        self.empty.load(SeqCst)
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(SeqCst)
    }

    fn execute(&self, batch: &Batch<'_>, part: &BatchPart) -> Value {
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
    let count = fixed_window::step(before, hits, 0, true).count;
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
        ChargeVerdict::Refused => 0,
        ChargeVerdict::Passes => 1,
        ChargeVerdict::Undecided => 2,
    };
    let banned_until = evaluation.banned_until.as_micros();
    let mut numbers = vec![verdict, evaluation.applied.into(), banned_until];
    add_snapshot(&mut numbers, evaluation);
    if let Some(if_refused) = if_refused {
        let passes = if_refused.verdict == ChargeVerdict::Passes;
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
        Snapshot::Window(_) | Snapshot::Permits(_) => 3,
    };
    numbers.extend(&step::snapshot_numbers(snapshot)[..count]);
}

/// The connection of one instance to a server.
#[derive(Debug)]
struct SimulatedExecutor {
    server: Arc<Server>,
    /// Held while a batch is executed: batches are executed in the order of their arrival.
    order: tokio::sync::Mutex<()>,
}

impl BatchExecutor for SimulatedExecutor {
    async fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        _: bool,
    ) -> Result<Vec<PartResult>, NodeError> {
        let Self { server, order } = self;
        server.batches.fetch_add(1, SeqCst);
        if parts.is_empty() {
            server.empty.fetch_add(1, SeqCst);
            return Err(NodeError::failed("empty command".into()));
        }
        let (outbound, inbound) = (server.rng.micros(50, 500), server.rng.micros(50, 500));
        let turn = order.lock().await;
        sleep(outbound).await;
        match server.condition() {
            Condition::Healthy => {}
            Condition::Slow(by) => sleep(by / 2).await,
            Condition::Paused(until) => sleep_until(until).await,
            Condition::Down => {
                return Err(NodeError::unsent("connection refused".into()));
            }
            Condition::Disconnecting => {
                let executed = server.rng.index(parts.len() + 1);
                for part in &parts[..executed] {
                    server.execute(batch, part);
                }
                sleep(inbound).await;
                return Err(NodeError::failed("the connection was closed".into()));
            }
            Condition::Mute => {
                for part in parts {
                    server.execute(batch, part);
                }
                drop(turn);
                return std::future::pending().await;
            }
        }
        let mut results = Vec::with_capacity(parts.len());
        for part in parts {
            results.push(Ok(PartReply::Value(server.execute(batch, part))));
        }
        drop(turn);
        if let Condition::Slow(by) = server.condition() {
            sleep(by / 2).await;
        }
        sleep(inbound).await;
        Ok(results)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        match self.server.condition() {
            Condition::Paused(until) => sleep_until(until).await,
            Condition::Slow(by) => sleep(by).await,
            Condition::Mute => return std::future::pending().await,
            Condition::Healthy | Condition::Down | Condition::Disconnecting => {
                sleep(Duration::from_micros(200)).await;
            }
        }
        Ok(())
    }
}

/// The connections of one instance to all servers.
#[derive(Debug)]
pub(crate) struct SimulatedServers {
    batchers: Vec<Batcher<SimulatedExecutor>>,
    timeout: Duration,
    max_cost: usize,
    run_clock: RunClock,
}

impl Servers for SimulatedServers {
    /// The first letter of a descriptor key selects the server: `a` the first, `b` the second.
    fn locate(&self, charge: &Charge) -> CounterLocation {
        let key = charge.counter.key.as_bytes();
        let first = key.iter().position(|byte| *byte == b'|').map_or(0, |bar| key[bar + 1]);
        let count = u16::try_from(self.batchers.len()).expect("there are few");
        let slot = u16::from(first.saturating_sub(b'a')) % count;
        CounterLocation { per_second: false, slot }
    }

    fn owner(&self, location: CounterLocation) -> u32 {
        location.slot.into()
    }

    fn splits_by_counter(&self, _: CounterLocation) -> bool {
        false
    }

    async fn send(
        &self,
        location: CounterLocation,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> CallResult {
        if deadline <= Instant::now() {
            return Err(NodeError::Unsent(StoreError::Timeout(self.timeout)));
        }
        let sent = self.batchers[usize::from(location.slot)].call(call);
        match timeout_at(deadline, sent).await {
            Ok(result) => result,
            Err(_) => Err(NodeError::Failed(StoreError::Timeout(self.timeout))),
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn run_clock(&self) -> &RunClock {
        &self.run_clock
    }

    fn max_cost_in_flight(&self) -> usize {
        self.max_cost
    }

    fn max_dependent_charges(&self) -> usize {
        self.max_cost
    }
}

/// The store of one instance, on simulated servers.
#[derive(Debug)]
pub(crate) struct Simulated {
    dispatcher: Dispatcher<SimulatedServers>,
    _settler: JoinSet<()>,
}

impl Simulated {
    /// Creates servers for several instances.
    pub(crate) fn servers(count: usize, rng: &Arc<SharedRng>) -> Vec<Arc<Server>> {
        let server = || Server {
            records: Mutex::default(),
            condition: Mutex::new(Condition::Healthy),
            rng: Arc::clone(rng),
            empty: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        };
        (0..count).map(|_| Arc::new(server())).collect()
    }

    /// An instance that divides requests as the product does.
    pub(crate) fn on(servers: &[Arc<Server>], timeout: Duration) -> Self {
        Self::divided(servers, timeout, MAX_REQUEST_COST_IN_FLIGHT)
    }

    /// An instance that divides requests that cost more than `max_cost`.
    pub(crate) fn divided(servers: &[Arc<Server>], timeout: Duration, max_cost: usize) -> Self {
        let (settlements, pending) = SettlementQueue::new();
        let executor = |server: &Arc<Server>| SimulatedExecutor {
            server: Arc::clone(server),
            order: tokio::sync::Mutex::default(),
        };
        let run_clock = RunClock::without_stalls();
        let context = BackendContext::new(run_clock.clone(), settlements.clone());
        let mut batchers = Vec::new();
        for server in servers {
            batchers.push(Batcher::new(executor(server), timeout, ScriptScope::OneSlot, &context));
        }
        let ways = Arc::new(SimulatedServers { batchers, timeout, max_cost, run_clock });
        let mut settler = JoinSet::new();
        settler.spawn(settler::run(Arc::clone(&ways), settlements.stats(), pending));
        Self { dispatcher: Dispatcher::new(ways, settlements), _settler: settler }
    }

    /// As at the end of the process.
    pub(crate) async fn settle_pending(&self, timeout: Duration) {
        self.dispatcher.settle_pending(Instant::now() + timeout).await;
    }

    /// The number of counters that could not be settled.
    pub(crate) fn failed_settlements(&self) -> u64 {
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
