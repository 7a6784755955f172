//! Sends batches to one server, and tracks whether the server replies.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};

use super::{
    backend_context::BackendContext,
    batch::{Batch, ScriptScope},
    breaker::Breaker,
    call::{Call, CallKind, CallResult},
    executor::BatchExecutor,
    node_error::NodeError,
    run_clock::RunClock,
    settler::SettlementQueue,
};

#[derive(Debug)]
pub(super) struct BatchSender<E> {
    executor: E,
    timeout: Duration,
    script_scope: ScriptScope,
    breaker: Breaker,
    run_clock: RunClock,
    /// Notified when a batch was sent whose callers have all timed out or been cancelled.
    abandoned_batch: Notify,
    settlements: SettlementQueue,
}

impl<E: BatchExecutor> BatchSender<E> {
    pub(super) fn new(
        executor: E,
        timeout: Duration,
        script_scope: ScriptScope,
        context: &BackendContext,
    ) -> Self {
        let run_clock = context.run_clock.clone();
        Self {
            executor,
            timeout,
            script_scope,
            breaker: Breaker::new(timeout, run_clock.clone()),
            run_clock,
            abandoned_batch: Notify::new(),
            settlements: context.settlements.clone(),
        }
    }

    /// Returns an error if the server is unresponsive, so that no caller waits for it in vain.
    pub(super) fn admit(&self) -> Result<(), NodeError> {
        self.breaker.admit()
    }

    pub(super) fn is_unresponsive(&self) -> bool {
        self.breaker.is_open()
    }

    /// Waits for `batch`, or returns `None` after the timeout.
    pub(super) async fn within_timeout<F: Future>(&self, batch: F) -> Option<F::Output> {
        self.run_clock.within(self.timeout, batch).await
    }

    /// Has [`watch_abandoned`](Self::watch_abandoned) wait for the reply to a batch whose
    /// callers have gone.
    pub(super) fn abandon_batch(&self) {
        self.abandoned_batch.notify_one();
    }

    /// Refunds a reply that arrived after its caller had gone.
    pub(super) fn refund_late_reply(&self, call: &Arc<Call>, reply: &CallResult) {
        self.settlements.on_late_reply(call, reply);
    }

    /// Closes the breaker once the server has replied to abandoned batches. Otherwise the
    /// server would count as unresponsive since the first of them. Never returns.
    pub(super) async fn watch_abandoned(&self) {
        loop {
            self.abandoned_batch.notified().await;
            // Redis replies in the order of the commands.
            while timeout(self.timeout, self.executor.ping()).await.is_err() {}
            self.breaker.on_reply();
        }
    }

    /// Sends `calls` in one batch, and returns the result of each. Charges that the fast path
    /// leaves open because of holds are sent again in a second batch, to the script.
    pub(super) async fn send(&self, calls: &[&Arc<Call>], asking: bool) -> Vec<CallResult> {
        let mut borrowed: Vec<&Call> = Vec::with_capacity(calls.len());
        for call in calls {
            borrowed.push(call);
        }
        let mut results = self.send_once(&borrowed, asking).await;
        let retries = retries(&borrowed, &results);
        if retries.is_empty() {
            return results;
        }
        let calls: Vec<&Call> = retries.iter().map(|retry| &retry.call).collect();
        let retried = self.send_once(&calls, asking).await;
        for (retry, retried) in retries.iter().zip(retried) {
            // Charges without a reply stay open: the caller sends them again.
            let (Ok(replies), Ok(retried)) = (&mut results[retry.call_index], retried) else {
                continue;
            };
            for (index, reply) in retry.charge_indexes.iter().zip(retried) {
                replies[*index] = reply;
            }
        }
        results
    }

    async fn send_once(&self, calls: &[&Call], asking: bool) -> Vec<CallResult> {
        let batch = Batch::new(calls);
        let parts = batch.parts(self.script_scope);
        self.breaker.on_send();
        let replies = self.executor.execute(&batch, &parts, asking).await;
        self.breaker.on_reply();
        match replies {
            Ok(replies) => batch.call_results(calls, &parts, replies),
            Err(error) => vec![Err(error); calls.len()],
        }
    }
}

/// The open charges of a call on the fast path.
struct Retry {
    call_index: usize,
    charge_indexes: Vec<usize>,
    call: Call,
}

fn retries(calls: &[&Call], results: &[CallResult]) -> Vec<Retry> {
    let mut retries = Vec::new();
    for (call_index, (call, result)) in calls.iter().zip(results).enumerate() {
        let (CallKind::Count(_), Ok(replies)) = (&call.kind, result) else { continue };
        if replies.iter().all(Option::is_some) {
            continue;
        }
        let mut charge_indexes = Vec::new();
        for (index, reply) in replies.iter().enumerate() {
            if reply.is_none() {
                charge_indexes.push(index);
            }
        }
        let call = call.subset(charge_indexes.iter().copied());
        retries.push(Retry { call_index, charge_indexes, call });
    }
    retries
}
