//! Batches concurrent calls to one server: they share a round trip.
//!
//! A call that comes alone is sent at once. Calls that come while it is in flight wait, and are
//! sent as one batch with the next round trip, or as soon as they fill a batch. Several full
//! batches are in flight at once, so the distance to a server does not limit its throughput.
//! Within a batch, hits on the same counter of a fixed window are added up, and calls of other
//! kinds that may share a counter are decided in order by one script run. Each call gets the
//! result that it would get alone, and a counter that every request charges costs Redis the
//! same for a batch as for one call.
//!
//! Redis serves no other client while it runs a script, so the [cost](super::call::cost) of a
//! batch is bounded. Expensive calls wait in a [lane](super::lane) of their own: cheap calls
//! wait for those in flight, but not for those in the queue.
//!
//! A fixed window on the fast path takes three commands. The rest of a batch takes one script
//! run that decides and one that settles; in a cluster one of each per counter, as a script run
//! may only access one slot.
//!
//! A call whose caller is cancelled is not cancelled: hits that its reply grants are
//! [refunded](super::settler).

use std::{sync::Arc, time::Duration};

use tokio::{select, sync::Semaphore, task::JoinSet};

use super::{
    backend_context::BackendContext,
    batch::ScriptScope,
    batch_sender::BatchSender,
    call::{Call, CallResult},
    direct_call::DirectCall,
    executor::BatchExecutor,
    lane::Lane,
    limits::{MAX_HEAVY_BATCHES, MAX_LIGHT_BATCHES, QUEUE_CAPACITY},
    node_error::NodeError,
};

#[derive(Debug)]
pub(super) struct Batcher<E: BatchExecutor> {
    sender: Arc<BatchSender<E>>,
    light: Lane,
    heavy: Lane,
    /// One permit for each call that another node of the cluster may redirect here.
    redirected: Semaphore,
    /// Aborted when the batcher is dropped.
    _task: JoinSet<()>,
}

impl<E: BatchExecutor> Batcher<E> {
    /// Starts a task that sends batches to the server of `executor`. Needs a Tokio runtime.
    pub(super) fn new(
        executor: E,
        timeout: Duration,
        script_scope: ScriptScope,
        context: &BackendContext,
    ) -> Self {
        let sender = Arc::new(BatchSender::new(executor, timeout, script_scope, context));
        let (light, light_worker) = Lane::new(MAX_LIGHT_BATCHES, &context.in_flight);
        let (heavy, heavy_worker) = Lane::new(MAX_HEAVY_BATCHES, &context.in_flight);
        let mut task = JoinSet::new();
        let own_sender = Arc::clone(&sender);
        task.spawn(async move {
            select! {
                () = light_worker.run(&own_sender) => {}
                () = heavy_worker.run(&own_sender) => {}
                () = own_sender.watch_abandoned() => {}
            }
        });
        Self { sender, light, heavy, redirected: Semaphore::new(QUEUE_CAPACITY), _task: task }
    }

    /// Sends a call, once, and waits for its result. There is no timeout, but the call fails at
    /// once while the server is unresponsive.
    pub(super) async fn call(&self, call: &Arc<Call>) -> CallResult {
        self.sender.admit()?;
        let lane = if call.is_heavy() { &self.heavy } else { &self.light };
        lane.call(&self.sender, call).await
    }

    /// Sends a call that another node has redirected here.
    pub(super) async fn call_redirected(&self, call: &Arc<Call>) -> CallResult {
        self.sender.admit()?;
        let Ok(_permit) = self.redirected.try_acquire() else {
            return Err(NodeError::unsent(format!(
                "{QUEUE_CAPACITY} calls wait for Redis already"
            )));
        };
        DirectCall::redirected(&self.sender, call).await
    }

    /// The number of calls that wait for a batch.
    pub(super) fn queued(&self) -> u64 {
        self.light.queued() + self.heavy.queued()
    }

    /// Returns true while the server does not reply, and calls are rejected.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.sender.is_unresponsive()
    }

    /// Returns true if the task has ended, and no call can be sent.
    pub(super) fn has_ended(&self) -> bool {
        self.light.is_closed()
    }

    /// Returns once the task has ended.
    pub(super) async fn ended(&self) {
        self.light.closed().await;
    }
}

#[cfg(test)]
mod tests;
