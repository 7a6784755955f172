//! Calls that share a round trip.
//!
//! What comes while a script runs waits, and goes with the next one, in the order
//! in which it came; a call that comes alone goes at once. Hits of one script on
//! one counter are added up, and each call is told what it would have been told
//! if it had been made alone: a counter that everybody asks about costs Redis one
//! command per round trip.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use redis::{Cmd, Value};
use smallvec::SmallVec;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{
    Twin,
    connection::Connection,
    elements,
    fixed_window::{self, Plain},
    number,
};
use crate::{
    limit::Hits,
    store::{GRACE, StoreError},
};

/// How many charges one script makes at most, unless one call alone has more:
/// Redis serves nobody else meanwhile.
const CHARGES: usize = 64;
/// How many calls may wait; more wait for a place in turn.
const QUEUE: usize = 1_024;

/// The counter before each charge of one call; none where there is no counter.
pub(super) type Counts = SmallVec<[Option<u64>; 4]>;

/// Makes calls together.
#[derive(Debug)]
pub(super) struct Batches {
    line: Arc<Line>,
    queue: mpsc::Sender<Call>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// A call that waits.
#[derive(Debug)]
struct Call {
    charges: Charges,
    /// Closed once the caller has given up.
    answer: oneshot::Sender<Result<Counts, StoreError>>,
}

type Charges = SmallVec<[Plain; 2]>;

impl Batches {
    /// Begins to make calls. Needs a Tokio runtime.
    pub(super) fn new(connection: Arc<Connection>, timeout: Duration) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        let script = Twin::new(fixed_window::SOURCE);
        let line = Arc::new(Line { connection, timeout, script, turn: Semaphore::new(1) });
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&line).serve(calls));
        Self { line, queue, _task: task }
    }

    /// Makes a call, once, and waits for the answer as long as it takes.
    pub(super) async fn call(
        &self,
        charges: impl Iterator<Item = Plain>,
    ) -> Result<Counts, StoreError> {
        let charges: Charges = charges.collect();
        // To hand a lone call over, and its answer back, would cost more than all
        // else that is done for it here.
        if let Ok(_turn) = self.line.turn.try_acquire() {
            let sums = Sums::of(charges.iter());
            let found = self.line.make(&sums).await?;
            return Ok(sums.places.iter().map(|it| it.count(&found)).collect());
        }
        let gone = || StoreError::Failed("nothing makes calls any more".into());
        let (answer, counts) = oneshot::channel();
        self.queue.send(Call { charges, answer }).await.map_err(|_| gone())?;
        counts.await.map_err(|_| gone())?
    }

    /// Ends when nothing makes calls any more.
    pub(super) async fn abandoned(&self) {
        self.queue.closed().await;
    }
}

/// The way to the server.
#[derive(Debug)]
struct Line {
    connection: Arc<Connection>,
    timeout: Duration,
    script: Twin,
    /// Held while a script is on its way, and somebody waits for it.
    turn: Semaphore,
}

impl Line {
    /// Makes the calls that wait. Never ends before the last.
    async fn serve(self: Arc<Self>, mut queue: mpsc::Receiver<Call>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, CHARGES).await > 0 {
            let Ok(_turn) = self.turn.acquire().await else { return };
            loop {
                while waiting.len() < CHARGES
                    && let Ok(call) = queue.try_recv()
                {
                    waiting.push(call);
                }
                if waiting.is_empty() {
                    break;
                }
                self.together(next(&mut waiting)).await;
            }
        }
    }

    /// Makes `calls` in one script, and tells every caller.
    async fn together(&self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let sums = Sums::of(calls.iter().flat_map(|it| &it.charges));
        let found = timeout(self.timeout, self.make(&sums)).await;
        let found = found.unwrap_or(Err(StoreError::Timeout(self.timeout)));
        let places = sums.places;
        let mut at = 0;
        for call in calls {
            let own = &places[at..at + call.charges.len()];
            at += own.len();
            let counts = found.as_ref().map(|it| own.iter().map(|own| own.count(it)).collect());
            // The caller may have given up meanwhile.
            let _ = call.answer.send(counts.map_err(StoreError::clone));
        }
    }

    /// What the counters were before each of `sums`.
    async fn make(&self, sums: &Sums<'_>) -> Result<Vec<Value>, StoreError> {
        let link = self.connection.link().await?;
        let answer = self.script.run(&link, |begin| sums.ask(begin)).await?;
        elements(answer, sums.charges.len())
    }
}

/// Takes the first calls out of `waiting`, as many as one script makes. Those
/// that nobody waits for are left out.
fn next(waiting: &mut Vec<Call>) -> Vec<Call> {
    waiting.retain(|it| !it.answer.is_closed());
    let mut charges = 0;
    let more = waiting.iter().position(|it| {
        charges += it.charges.len();
        CHARGES < charges
    });
    let rest = waiting.split_off(more.map_or(waiting.len(), |it| it.max(1)));
    mem::replace(waiting, rest)
}

/// The charges of several calls, with the hits on one counter added up.
#[derive(Debug, Default)]
struct Sums<'a> {
    charges: Vec<Sum<'a>>,
    /// One for each charge of the calls.
    places: Vec<Place>,
}

/// Charges to one counter, with no look and nothing given back between them.
#[derive(Debug)]
struct Sum<'a> {
    key: &'a [u8],
    change: i64,
    kept: u64,
}

/// Where the answer for a charge is found.
#[derive(Debug)]
struct Place {
    /// In which sum.
    sum: usize,
    /// The hits of this sum that came before.
    before: u64,
}

impl<'a> Sums<'a> {
    fn of(charges: impl Iterator<Item = &'a Plain>) -> Self {
        let mut sums = Self::default();
        let mut open: HashMap<&[u8], usize, RandomState> = HashMap::default();
        for charge in charges {
            let Plain { ref key, change, kept } = *charge;
            let key = key.as_bytes();
            let hits = u64::try_from(change).ok().filter(|it| *it > 0);
            let place = hits.and(open.get(key)).and_then(|&sum| {
                let so_far = &mut sums.charges[sum];
                let before = so_far.change.unsigned_abs();
                let change = (so_far.change + change).unsigned_abs();
                (change <= Hits::MAX).then(|| {
                    so_far.change = change.cast_signed();
                    so_far.kept = kept.max(so_far.kept);
                    Place { sum, before }
                })
            });
            sums.places.push(place.unwrap_or_else(|| {
                let sum = sums.charges.len();
                sums.charges.push(Sum { key, change, kept });
                if hits.is_some() {
                    open.insert(key, sum);
                } else {
                    open.remove(key);
                }
                Place { sum, before: 0 }
            }));
        }
        sums
    }

    /// The command that makes them, and begins with `begin`.
    fn ask(&self, begin: [&str; 2]) -> Cmd {
        let names = self.charges.iter().map(|it| it.key.len()).sum::<usize>();
        let room = begin[1].len() + names + 40 * (1 + self.charges.len());
        let mut call = Cmd::with_capacity(4 + 3 * self.charges.len(), room);
        call.arg(&begin).arg(self.charges.len());
        for sum in &self.charges {
            call.arg(sum.key);
        }
        call.arg(GRACE.as_millis());
        for sum in &self.charges {
            call.arg(sum.change).arg(sum.kept);
        }
        call
    }
}

impl Place {
    /// The counter before the charge, if each sum found these.
    fn count(&self, sums: &[Value]) -> Option<u64> {
        Some(number(sums.get(self.sum)?)?.saturating_add(self.before).min(Hits::MAX))
    }
}
