//! Calls that wait for a round trip to a server, in the order in which they came.

use std::{
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{
    future::{Fuse, FusedFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    select,
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::yield_now,
    time::timeout,
};

use super::{
    call::{Call, CallResult},
    executor::BatchExecutor,
    limits::{FULL_BATCH_COST, LATE_REPLY_TIMEOUT, QUEUE_CAPACITY},
    line::{Alone, Line},
    node_error::NodeError,
};
/// Where calls are handed in.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<Waiting>,
    turn: Arc<Semaphore>,
    in_flight: InFlight,
    load: Arc<Load>,
}

/// The cost of the calls in a lane.
#[derive(Debug, Default)]
struct Load {
    waiting: AtomicUsize,
    /// Notified when the cost of those that wait reaches that of a full batch.
    full: Notify,
    sent: AtomicUsize,
}

impl Load {
    fn is_full(&self) -> bool {
        FULL_BATCH_COST <= self.waiting.load(Relaxed)
    }

    fn join(&self, cost: usize) {
        let before = self.waiting.fetch_add(cost, Relaxed);
        if before < FULL_BATCH_COST && FULL_BATCH_COST <= before + cost {
            self.full.notify_one();
        }
    }

    fn leave(&self, cost: usize) {
        self.waiting.fetch_sub(cost, Relaxed);
    }
}

/// The share of a batch in the load of its lane, and its turn if it is not full; until it is
/// dropped.
#[derive(Debug)]
pub(super) struct Sent {
    load: Arc<Load>,
    cost: usize,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Sent {
    fn new(load: &Arc<Load>, cost: usize, turn: Option<OwnedSemaphorePermit>) -> Self {
        load.sent.fetch_add(cost, Relaxed);
        Self { load: Arc::clone(load), cost, _turn: turn }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.load.sent.fetch_sub(self.cost, Relaxed);
    }
}

/// Counts the calls that are in flight to any server of one Redis.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

/// A call in flight, until it is dropped.
struct InFlightGuard<'a>(&'a InFlight);

impl InFlight {
    fn enter(&self) -> InFlightGuard<'_> {
        self.0.fetch_add(1, Relaxed);
        InFlightGuard(self)
    }
}

impl InFlightGuard<'_> {
    fn is_only(&self) -> bool {
        self.0.0.load(Relaxed) == 1
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct LaneEnd {
    queue: mpsc::Receiver<Waiting>,
    /// Held while a batch is on its way that is not full, and somebody waits for it.
    turn: Arc<Semaphore>,
    /// How many full batches may be on their way, or what costs as much.
    most: usize,
    waiting: Vec<Waiting>,
    load: Arc<Load>,
}

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    call: Arc<Call>,
    cost: usize,
    /// Closed once the caller has given up.
    answer: oneshot::Sender<CallResult>,
}

impl Lane {
    /// One of which so many full batches may be on their way at once.
    pub(super) fn new(most: usize, in_flight: &InFlight) -> (Self, LaneEnd) {
        let (queue, calls) = mpsc::channel(QUEUE_CAPACITY);
        let turn = Arc::new(Semaphore::new(1));
        let load = Arc::<Load>::default();
        let (own, waiting) = (Arc::clone(&load), Vec::new());
        let end = LaneEnd { queue: calls, turn: Arc::clone(&turn), most, waiting, load };
        (Self { queue, turn, in_flight: in_flight.clone(), load: own }, end)
    }

    /// Makes a call, and waits for the answer.
    pub(super) async fn call<W: BatchExecutor>(
        &self,
        line: &Arc<Line<W>>,
        call: &Arc<Call>,
    ) -> CallResult {
        let guard = self.in_flight.enter();
        // A call that is alone skips the queue, which would cost more than the call itself.
        // With others in flight it is likely that some ask the same server right now.
        if guard.is_only()
            && let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned()
        {
            let sent = Sent::new(&self.load, call.cost(), Some(turn));
            return Alone::new(line, call, Some(sent)).await;
        }
        let (answer, reply) = oneshot::channel();
        let cost = call.cost();
        // Before the call can be taken out.
        self.load.join(cost);
        let waiting = Waiting { call: Arc::clone(call), cost, answer };
        if let Err(error) = self.queue.try_send(waiting) {
            self.load.leave(cost);
            return Err(match error {
                TrySendError::Full(_) => {
                    NodeError::unsent(format!("{QUEUE_CAPACITY} calls wait for Redis already"))
                }
                TrySendError::Closed(_) => NodeError::task_ended(),
            });
        }
        reply.await.map_err(|_| NodeError::task_ended())?
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    pub(super) fn is_dead(&self) -> bool {
        self.queue.is_closed()
    }

    pub(super) async fn abandoned(&self) {
        self.queue.closed().await;
    }
}

impl LaneEnd {
    /// Makes the calls that wait. Never ends before the last.
    pub(super) async fn serve<W: BatchExecutor>(mut self, line: &Arc<Line<W>>) {
        let mut under_way = FuturesUnordered::new();
        // Kept while others come: whoever waits for the turn is before those who come later.
        let mut turn = pin!(Fuse::terminated());
        loop {
            while self.load.is_full() && self.has_room() {
                let (batch, sent) = self.next(None);
                if batch.is_empty() {
                    break;
                }
                under_way.push(deliver(line, batch, sent));
            }
            // The end of a batch that is under way makes room again.
            let room = under_way.is_empty() || self.has_room();
            if self.waiting.is_empty() {
                turn.set(Fuse::terminated());
            } else if turn.is_terminated() {
                turn.set(Arc::clone(&self.turn).acquire_owned().fuse());
            }
            select! {
                biased;
                Some(()) = under_way.next() => {}
                first = self.queue.recv(), if self.waiting.is_empty() => match first {
                    Some(first) => self.waiting.push(first),
                    None => return,
                },
                Ok(turn) = &mut turn, if room => {
                    // Lets tasks that are ready to run add their calls to this batch.
                    yield_now().await;
                    let (batch, sent) = self.next(Some(turn));
                    under_way.push(deliver(line, batch, sent));
                }
                () = self.load.full.notified(), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// Whether the next batch can be sent. A call that costs more than the lane may have
    /// under way is sent when nothing else is.
    fn has_room(&mut self) -> bool {
        if self.waiting.is_empty()
            && let Ok(first) = self.queue.try_recv()
        {
            self.waiting.push(first);
        }
        let next = self.waiting.first().map_or(0, |it| it.cost).max(FULL_BATCH_COST);
        let sent = self.load.sent.load(Relaxed);
        sent == 0 || sent + next <= self.most * FULL_BATCH_COST
    }

    /// Takes out the calls of the next batch. Drops calls whose caller has given up.
    fn next(&mut self, turn: Option<OwnedSemaphorePermit>) -> (Vec<Waiting>, Sent) {
        let (mut sum, mut count, mut gone) = (0, 0, 0);
        loop {
            if count == self.waiting.len() {
                let Ok(more) = self.queue.try_recv() else { break };
                self.waiting.push(more);
            }
            let next = &self.waiting[count];
            if next.answer.is_closed() {
                gone += next.cost;
                self.waiting.remove(count);
            } else if 0 < count && FULL_BATCH_COST < sum + next.cost {
                break;
            } else {
                sum += next.cost;
                count += 1;
            }
        }
        self.load.leave(sum + gone);
        let rest = self.waiting.split_off(count);
        (mem::replace(&mut self.waiting, rest), Sent::new(&self.load, sum, turn))
    }
}

/// Makes calls in one batch, and tells every caller.
async fn deliver<W: BatchExecutor>(line: &Arc<Line<W>>, waiting: Vec<Waiting>, _sent: Sent) {
    if waiting.is_empty() {
        return;
    }
    let way = Arc::clone(line);
    let mut batch = Box::pin(async move {
        let calls: Vec<_> = waiting.iter().map(|it| &it.call).collect();
        let replies = way.make(&calls, false).await;
        for (Waiting { call, answer, .. }, reply) in waiting.into_iter().zip(replies) {
            // The caller may have given up meanwhile.
            if let Err(reply) = answer.send(reply) {
                way.answered_late(&call, &reply);
            }
        }
    });
    if line.in_time(&mut batch).await.is_none() {
        // Its callers give up by themselves; what it grants too late is given back.
        line.nobody_waits();
        tokio::spawn(timeout(LATE_REPLY_TIMEOUT, batch));
    }
}
