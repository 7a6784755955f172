//! Calls that share a round trip.
//!
//! A call that comes alone goes at once. What comes while it is on its way waits, and goes
//! in one batch with the next round trip, or as soon as there is enough for a full batch:
//! several of those are under way at once, so that a server far away is as busy as one
//! nearby. Hits of one batch on one counter of a fixed window are added up, and calls of
//! other kinds that may meet on a counter are made by one script, one after the other. Each
//! call is told what it would have been told if it had been made alone: a counter that
//! everybody asks about costs Redis no more than one call per batch.
//!
//! Redis serves nobody else while it works on a script, so a batch is bounded by what it
//! [costs](super::call::cost). Calls that cost much wait in a [lane](super::lane) of their
//! own: the others are behind those under way, and not behind those that wait.
//!
//! A fixed window on the fast path takes three commands. All else of a batch takes one script
//! that decides and one that settles; in a cluster one of each per counter, as a script may
//! only touch one slot there.
//!
//! Nobody who gives up takes the answer along: what it grants too late is
//! [given back](super::settler).

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

/// Makes calls together.
#[derive(Debug)]
pub(super) struct Batcher<E: BatchExecutor> {
    sender: Arc<BatchSender<E>>,
    light: Lane,
    heavy: Lane,
    /// How many more calls may come from other servers of the cluster.
    redirected: Semaphore,
    /// Ends with this.
    _task: JoinSet<()>,
}

impl<E: BatchExecutor> Batcher<E> {
    /// Begins to make calls to the server at the end of `wire`, one of a cluster if
    /// `cluster`. Needs a Tokio runtime.
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

    /// Makes a call, once, and waits for the answer as long as it takes, unless
    /// it is clear that none comes.
    pub(super) async fn call(&self, call: &Arc<Call>) -> CallResult {
        self.sender.admit()?;
        let lane = if call.is_heavy() { &self.heavy } else { &self.light };
        lane.call(&self.sender, call).await
    }

    /// Makes a call that another server sent here.
    pub(super) async fn call_redirected(&self, call: &Arc<Call>) -> CallResult {
        self.sender.admit()?;
        let Ok(_place) = self.redirected.try_acquire() else {
            return Err(NodeError::unsent(format!(
                "{QUEUE_CAPACITY} calls wait for Redis already"
            )));
        };
        DirectCall::redirected(&self.sender, call).await
    }

    /// How many calls wait for others.
    pub(super) fn queued(&self) -> u64 {
        self.light.queued() + self.heavy.queued()
    }

    /// Whether the server does not answer.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.sender.is_unresponsive()
    }

    /// Whether nothing makes calls any more.
    pub(super) fn has_ended(&self) -> bool {
        self.light.is_closed()
    }

    /// Ends when nothing makes calls any more.
    pub(super) async fn ended(&self) {
        self.light.closed().await;
    }
}

#[cfg(test)]
mod tests;
