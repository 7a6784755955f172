//! Calls that are sent alone, without the queue of a lane.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{runtime::Handle, time::timeout};

use super::{
    batch_sender::BatchSender,
    call::{Call, CallResult},
    executor::BatchExecutor,
    lane_load::LoadGuard,
    limits::LATE_REPLY_TIMEOUT,
    node_error::NodeError,
};

/// A future that sends a call, and resolves to its result. If it is dropped after that, a task
/// waits for the reply and refunds it.
pub(super) struct DirectCall<E: BatchExecutor> {
    sender: Arc<BatchSender<E>>,
    call: Arc<Call>,
    /// `None` once the result has been returned.
    result: Option<Pin<Box<dyn Future<Output = CallResult> + Send>>>,
    load: Option<LoadGuard>,
}

impl<E: BatchExecutor> DirectCall<E> {
    /// A call of this server's lane, which `load` counts.
    pub(super) fn new(sender: &Arc<BatchSender<E>>, call: &Arc<Call>, load: LoadGuard) -> Self {
        Self::start(sender, call, Some(load))
    }

    /// A call that another node of the cluster redirected here with ASK.
    pub(super) fn redirected(sender: &Arc<BatchSender<E>>, call: &Arc<Call>) -> Self {
        Self::start(sender, call, None)
    }

    fn start(sender: &Arc<BatchSender<E>>, call: &Arc<Call>, load: Option<LoadGuard>) -> Self {
        let asking = load.is_none();
        let (sender, call) = (Arc::clone(sender), Arc::clone(call));
        let (own_sender, own_call) = (Arc::clone(&sender), Arc::clone(&call));
        let result = Box::pin(async move {
            let mut results = own_sender.send(&[&own_call], asking).await;
            results.pop().unwrap_or_else(|| Err(NodeError::task_ended()))
        });
        Self { sender, call, result: Some(result), load }
    }
}

impl<E: BatchExecutor> Future for DirectCall<E> {
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallResult> {
        let Some(result) = &mut self.result else {
            return Poll::Ready(Err(NodeError::task_ended()));
        };
        let poll = result.as_mut().poll(context);
        if poll.is_ready() {
            self.result = None;
        }
        poll
    }
}

impl<E: BatchExecutor> Drop for DirectCall<E> {
    fn drop(&mut self) {
        let Some(mut result) = self.result.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        self.sender.abandon_batch();
        let (sender, call, load) =
            (Arc::clone(&self.sender), Arc::clone(&self.call), self.load.take());
        runtime.spawn(async move {
            // The lane stays occupied until the reply or the timeout. Otherwise callers with
            // short deadlines could send the server any number of calls at the same time.
            let mut reply = sender.within_timeout(&mut result).await;
            drop(load);
            if reply.is_none() {
                reply = timeout(LATE_REPLY_TIMEOUT, result).await.ok();
            }
            if let Some(reply) = reply {
                sender.refund_late_reply(&call, &reply);
            }
        });
    }
}
