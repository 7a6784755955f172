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
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::yield_now,
    time::timeout,
};

use super::{
    batch::Wire,
    call::{Call, Reply},
    line::{Alone, LATE, Line, gone},
    node::NodeError,
};
use crate::store::StoreError;

/// What a batch costs at most, unless one call alone costs more: about half a millisecond
/// of Redis, and a bit more than one for lists.
pub(super) const FULL: usize = 256;
/// How many calls may wait; more are refused at once.
pub(super) const QUEUE: usize = 8_192;

/// Where calls are handed in.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<Waiting>,
    turn: Arc<Semaphore>,
    crowd: Crowd,
}

/// How many calls are under way to all servers of one Redis.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<AtomicUsize>);

/// One of them, until it is dropped.
struct Member<'a>(&'a Crowd);

impl Crowd {
    fn join(&self) -> Member<'_> {
        self.0.fetch_add(1, Relaxed);
        Member(self)
    }
}

impl Member<'_> {
    fn is_alone(&self) -> bool {
        self.0.0.load(Relaxed) == 1
    }
}

impl Drop for Member<'_> {
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
    /// How many full batches may be on their way.
    most: usize,
    waiting: Vec<Waiting>,
}

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    call: Arc<Call>,
    /// Closed once the caller has given up.
    answer: oneshot::Sender<Reply>,
}

impl Lane {
    /// One of which so many full batches may be on their way at once.
    pub(super) fn new(most: usize, crowd: &Crowd) -> (Self, LaneEnd) {
        let (queue, calls) = mpsc::channel(QUEUE);
        let turn = Arc::new(Semaphore::new(1));
        let end = LaneEnd { queue: calls, turn: Arc::clone(&turn), most, waiting: Vec::new() };
        (Self { queue, turn, crowd: crowd.clone() }, end)
    }

    /// Makes a call, and waits for the answer.
    pub(super) async fn call<W: Wire>(&self, line: &Arc<Line<W>>, call: &Arc<Call>) -> Reply {
        let member = self.crowd.join();
        // To hand a lone call over, and its answer back, would cost more than all
        // else that is done for it here. Where there are others, some of them are about to
        // ask the same server.
        if member.is_alone()
            && let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned()
        {
            return Alone::new(line, call, Some(turn)).await;
        }
        let (answer, reply) = oneshot::channel();
        let waiting = Waiting { call: Arc::clone(call), answer };
        self.queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => unsent(format!("{QUEUE} calls wait for Redis already")),
            TrySendError::Closed(_) => gone(),
        })?;
        reply.await.map_err(|_| gone())?
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
    pub(super) async fn serve<W: Wire>(mut self, line: &Arc<Line<W>>) {
        let mut under_way = FuturesUnordered::new();
        // Kept while others come: whoever waits for the turn is before those who come later.
        let mut turn = pin!(Fuse::terminated());
        loop {
            let full = FULL <= self.waiting.iter().map(|it| it.call.cost()).sum();
            if full && under_way.len() < self.most {
                under_way.push(deliver(line, next(&mut self.waiting), None));
                continue;
            }
            if self.waiting.is_empty() {
                turn.set(Fuse::terminated());
            } else if turn.is_terminated() {
                turn.set(Arc::clone(&self.turn).acquire_owned().fuse());
            }
            select! {
                biased;
                Some(()) = under_way.next() => {}
                count = self.queue.recv_many(&mut self.waiting, FULL), if !full => {
                    if count == 0 {
                        return;
                    }
                }
                Ok(turn) = &mut turn => {
                    // Whoever can run now comes along.
                    yield_now().await;
                    while self.waiting.len() < FULL
                        && let Ok(more) = self.queue.try_recv()
                    {
                        self.waiting.push(more);
                    }
                    under_way.push(deliver(line, next(&mut self.waiting), Some(turn)));
                }
            }
        }
    }
}

/// Makes calls in one batch, and tells every caller.
async fn deliver<W: Wire>(
    line: &Arc<Line<W>>,
    waiting: Vec<Waiting>,
    _turn: Option<OwnedSemaphorePermit>,
) {
    if waiting.is_empty() {
        return;
    }
    let way = Arc::clone(line);
    let mut batch = Box::pin(async move {
        let calls: Vec<_> = waiting.iter().map(|it| &it.call).collect();
        let replies = way.make(&calls, false).await;
        for (Waiting { call, answer }, reply) in waiting.into_iter().zip(replies) {
            // The caller may have given up meanwhile.
            if let Err(reply) = answer.send(reply) {
                way.answered_late(&call, &reply);
            }
        }
    });
    if line.in_time(&mut batch).await.is_none() {
        // Its callers give up by themselves; what it grants too late is given back.
        line.nobody_waits();
        tokio::spawn(timeout(LATE, batch));
    }
}

/// Takes the first calls out of `waiting`, as many as one batch makes. Those
/// that nobody waits for are left out.
fn next(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|it| !it.answer.is_closed());
    let mut sum = 0;
    let more = waiting.iter().position(|it| {
        sum += it.call.cost();
        FULL < sum
    });
    let rest = waiting.split_off(more.map_or(waiting.len(), |it| it.max(1)));
    mem::replace(waiting, rest)
}

pub(super) fn unsent(why: String) -> NodeError {
    NodeError::Unsent(StoreError::Failed(why))
}
