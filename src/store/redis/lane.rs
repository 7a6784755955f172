//! A queue of calls to one server, which are sent in batches, in the order of their arrival.

use std::{mem, pin::pin, sync::Arc};

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
    batch_sender::BatchSender,
    call::{Call, CallResult},
    direct_call::DirectCall,
    executor::BatchExecutor,
    in_flight::InFlight,
    lane_load::{LaneLoad, LoadGuard},
    limits::{FULL_BATCH_COST, LATE_REPLY_TIMEOUT, QUEUE_CAPACITY},
    node_error::NodeError,
};

/// The sending end of the queue.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<QueuedCall>,
    partial_batch: Arc<Semaphore>,
    in_flight: InFlight,
    load: Arc<LaneLoad>,
}

/// The receiving end of the queue. [`run`](Self::run) sends the batches.
#[derive(Debug)]
pub(super) struct LaneWorker {
    queue: mpsc::Receiver<QueuedCall>,
    /// One permit: a batch that is not full waits until the last such batch has its replies.
    partial_batch: Arc<Semaphore>,
    /// The largest cost of all batches in flight.
    max_in_flight: usize,
    /// Calls that were received from the queue for a later batch.
    received: Vec<QueuedCall>,
    load: Arc<LaneLoad>,
}

#[derive(Debug)]
struct QueuedCall {
    call: Arc<Call>,
    cost: usize,
    /// Closed if the caller has timed out or been cancelled.
    result: oneshot::Sender<CallResult>,
}

impl Lane {
    /// Creates a lane with up to `max_batches` full batches in flight.
    pub(super) fn new(max_batches: usize, in_flight: &InFlight) -> (Self, LaneWorker) {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let partial_batch = Arc::new(Semaphore::new(1));
        let load = Arc::<LaneLoad>::default();
        let worker = LaneWorker {
            queue: receiver,
            partial_batch: Arc::clone(&partial_batch),
            max_in_flight: max_batches * FULL_BATCH_COST,
            received: Vec::new(),
            load: Arc::clone(&load),
        };
        (Self { queue: sender, partial_batch, in_flight: in_flight.clone(), load }, worker)
    }

    /// Sends a call, and waits for its result.
    pub(super) async fn call<E: BatchExecutor>(
        &self,
        sender: &Arc<BatchSender<E>>,
        call: &Arc<Call>,
    ) -> CallResult {
        let in_flight = self.in_flight.enter();
        // The queue would cost more than the call itself, so a call skips it if no other call
        // is in flight. Otherwise some of the others are probably for the same server.
        if in_flight.is_only()
            && let Ok(permit) = Arc::clone(&self.partial_batch).try_acquire_owned()
        {
            let load = LoadGuard::new(&self.load, call.cost(), Some(permit));
            return DirectCall::new(sender, call, load).await;
        }
        let (result, received) = oneshot::channel();
        let cost = call.cost();
        // Before the worker can receive the call.
        self.load.enqueue(cost);
        if let Err(error) = self.queue.try_send(QueuedCall { call: Arc::clone(call), cost, result })
        {
            self.load.dequeue(cost);
            return Err(match error {
                TrySendError::Full(_) => {
                    NodeError::unsent(format!("{QUEUE_CAPACITY} calls wait for Redis already"))
                }
                TrySendError::Closed(_) => NodeError::task_ended(),
            });
        }
        received.await.unwrap_or_else(|_| Err(NodeError::task_ended()))
    }

    /// Returns the number of calls in the queue.
    pub(super) fn queued(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns once the worker has ended.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl LaneWorker {
    /// Sends calls until the lane is dropped.
    pub(super) async fn run<E: BatchExecutor>(mut self, sender: &Arc<BatchSender<E>>) {
        let mut in_flight = FuturesUnordered::new();
        // Kept across iterations: otherwise direct calls, which take the same permit, could
        // overtake the calls that wait here.
        let mut permit = pin!(Fuse::terminated());
        loop {
            while self.load.has_full_batch() && self.has_capacity() {
                let (batch, load) = self.next_batch(None);
                if batch.is_empty() {
                    break;
                }
                in_flight.push(deliver(sender, batch, load));
            }
            // Capacity returns with the end of a batch in flight.
            let has_capacity = in_flight.is_empty() || self.has_capacity();
            if self.received.is_empty() {
                permit.set(Fuse::terminated());
            } else if permit.is_terminated() {
                permit.set(Arc::clone(&self.partial_batch).acquire_owned().fuse());
            }
            select! {
                biased;
                Some(()) = in_flight.next() => {}
                first = self.queue.recv(), if self.received.is_empty() => match first {
                    Some(first) => self.received.push(first),
                    None => return,
                },
                Ok(permit) = &mut permit, if has_capacity => {
                    // Lets tasks that are ready to run add their calls to this batch.
                    yield_now().await;
                    let (batch, load) = self.next_batch(Some(permit));
                    in_flight.push(deliver(sender, batch, load));
                }
                () = self.load.full_batch.notified(), if !self.received.is_empty() => {}
            }
        }
    }

    /// Returns whether the next batch can be sent. A call that costs more than the capacity of
    /// the lane is sent when nothing else is in flight.
    fn has_capacity(&mut self) -> bool {
        if self.received.is_empty()
            && let Ok(first) = self.queue.try_recv()
        {
            self.received.push(first);
        }
        let next_cost = match self.received.first() {
            Some(first) => first.cost.max(FULL_BATCH_COST),
            None => FULL_BATCH_COST,
        };
        let in_flight = self.load.in_flight();
        in_flight == 0 || in_flight + next_cost <= self.max_in_flight
    }

    /// Takes the calls of the next batch, and drops cancelled calls.
    fn next_batch(&mut self, permit: Option<OwnedSemaphorePermit>) -> (Vec<QueuedCall>, LoadGuard) {
        let (mut cost, mut count, mut cancelled_cost) = (0, 0, 0);
        loop {
            if count == self.received.len() {
                let Ok(more) = self.queue.try_recv() else { break };
                self.received.push(more);
            }
            let next = &self.received[count];
            if next.result.is_closed() {
                cancelled_cost += next.cost;
                self.received.remove(count);
            } else if 0 < count && FULL_BATCH_COST < cost + next.cost {
                break;
            } else {
                cost += next.cost;
                count += 1;
            }
        }
        self.load.dequeue(cost + cancelled_cost);
        let rest = self.received.split_off(count);
        let batch = mem::replace(&mut self.received, rest);
        (batch, LoadGuard::new(&self.load, cost, permit))
    }
}

/// Sends a batch, and passes each result to its caller.
async fn deliver<E: BatchExecutor>(
    sender: &Arc<BatchSender<E>>,
    batch: Vec<QueuedCall>,
    _load: LoadGuard,
) {
    if batch.is_empty() {
        return;
    }
    let own_sender = Arc::clone(sender);
    let mut delivery = Box::pin(async move {
        let calls: Vec<_> = batch.iter().map(|queued| &queued.call).collect();
        let results = own_sender.send(&calls, false).await;
        for (queued, result) in batch.into_iter().zip(results) {
            // A caller that was cancelled in the meantime does not receive the result.
            if let Err(result) = queued.result.send(result) {
                own_sender.refund_late_reply(&queued.call, &result);
            }
        }
    });
    if sender.within_timeout(&mut delivery).await.is_none() {
        // The callers time out on their own. The task refunds replies that arrive later.
        sender.abandon_batch();
        tokio::spawn(timeout(LATE_REPLY_TIMEOUT, delivery));
    }
}
