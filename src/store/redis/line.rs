//! The way to one server, and calls that go it alone.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::timeout};

use super::{
    batch::Batch,
    breaker::Breaker,
    call::{Call, CallKind, CallResult},
    executor::BatchExecutor,
    lane::Sent,
    limits::LATE_REPLY_TIMEOUT,
    node_error::NodeError,
    pulse::Pulse,
    settler::SettlementQueue,
};
/// The way to a server, and what is known of how it answers.
#[derive(Debug)]
pub(super) struct Line<W> {
    wire: W,
    timeout: Duration,
    cluster: bool,
    breaker: Breaker,
    /// How long this process has run.
    pulse: Pulse,
    /// Something has been sent, and nobody waits for the answer any more.
    unheard: Notify,
    late: SettlementQueue,
}

impl<W: BatchExecutor> Line<W> {
    pub(super) fn new(
        wire: W,
        timeout: Duration,
        cluster: bool,
        (late, pulse): (SettlementQueue, Pulse),
    ) -> Self {
        let breaker = Breaker::new(timeout, pulse.clone());
        Self { wire, timeout, cluster, breaker, pulse, unheard: Notify::new(), late }
    }

    /// Whether a call makes sense.
    pub(super) fn admit(&self) -> Result<(), NodeError> {
        self.breaker.admit()
    }

    /// Whether the server does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.breaker.is_open()
    }

    /// What `batch` comes to, unless the server takes longer than it may.
    pub(super) async fn in_time<F: Future>(&self, batch: F) -> Option<F::Output> {
        self.pulse.within(self.timeout, batch).await
    }

    /// What was sent is not waited for any more.
    pub(super) fn nobody_waits(&self) {
        self.unheard.notify_one();
    }

    /// The caller did not wait for this.
    pub(super) fn answered_late(&self, call: &Arc<Call>, reply: &CallResult) {
        self.late.on_late_reply(call, reply);
    }

    /// Notices answers for which nobody waits any more: otherwise the server
    /// would be taken for silent since then. Never ends.
    pub(super) async fn listen(&self) {
        loop {
            self.unheard.notified().await;
            // Answers come in the order of what was sent.
            while timeout(self.timeout, self.wire.ping()).await.is_err() {}
            self.breaker.answered();
        }
    }

    /// What each of `calls` has come to.
    pub(super) async fn make(&self, calls: &[&Arc<Call>], asking: bool) -> Vec<CallResult> {
        let calls: Vec<&Call> = calls.iter().map(|it| &***it).collect();
        let mut replies = self.make_once(&calls, asking).await;
        // Where others hold hits, the fast path counts nothing.
        let held = |(at, reply): (usize, &CallResult)| {
            let held = matches!(calls[at].kind, CallKind::Count(_))
                && reply.as_ref().is_ok_and(|it| it.iter().any(Option::is_none));
            held.then_some(at)
        };
        let again: Vec<usize> = replies.iter().enumerate().filter_map(held).collect();
        if again.is_empty() {
            return replies;
        }
        let places = |reply: &CallResult| -> Vec<usize> {
            let open = reply.iter().flatten().enumerate().filter(|(_, it)| it.is_none());
            open.map(|(at, _)| at).collect()
        };
        let parts: Vec<Call> =
            again.iter().map(|at| calls[*at].part(places(&replies[*at]).into_iter())).collect();
        let parts: Vec<&Call> = parts.iter().collect();
        for (at, rest) in again.iter().zip(self.make_once(&parts, asking).await) {
            let places = places(&replies[*at]);
            // What has no answer is asked for again.
            if let (Ok(reply), Ok(rest)) = (&mut replies[*at], rest) {
                for (place, answer) in places.into_iter().zip(rest) {
                    reply[place] = answer;
                }
            }
        }
        replies
    }

    async fn make_once(&self, calls: &[&Call], asking: bool) -> Vec<CallResult> {
        let batch = Batch::of(calls);
        let parts = batch.parts(self.cluster);
        self.breaker.sent();
        let answers = self.wire.execute(&batch, &parts, asking).await;
        self.breaker.answered();
        match answers {
            Ok(answers) => batch.read(calls, &parts, answers),
            Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// A call that goes alone. If its caller gives up, the answer is waited for in a task of
/// its own.
pub(super) struct Alone<W: BatchExecutor> {
    line: Arc<Line<W>>,
    call: Arc<Call>,
    sent: Option<Pin<Box<dyn Future<Output = CallResult> + Send>>>,
    turn: Option<Sent>,
}

impl<W: BatchExecutor> Alone<W> {
    /// Without a turn another server of the cluster has sent the call here.
    pub(super) fn new(line: &Arc<Line<W>>, call: &Arc<Call>, turn: Option<Sent>) -> Self {
        let (line, call, asking) = (Arc::clone(line), Arc::clone(call), turn.is_none());
        let (way, own) = (Arc::clone(&line), Arc::clone(&call));
        let sent = Box::pin(async move {
            way.make(&[&own], asking).await.pop().unwrap_or_else(|| Err(NodeError::task_ended()))
        });
        Self { line, call, sent: Some(sent), turn }
    }
}

impl<W: BatchExecutor> Future for Alone<W> {
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallResult> {
        let Some(sent) = &mut self.sent else { return Poll::Ready(Err(NodeError::task_ended())) };
        let reply = sent.as_mut().poll(context);
        if reply.is_ready() {
            self.sent = None;
        }
        reply
    }
}

impl<W: BatchExecutor> Drop for Alone<W> {
    fn drop(&mut self) {
        let (Some(mut sent), Ok(runtime)) = (self.sent.take(), Handle::try_current()) else {
            return;
        };
        self.line.nobody_waits();
        let (line, call, turn) = (Arc::clone(&self.line), Arc::clone(&self.call), self.turn.take());
        runtime.spawn(async move {
            // The next call waits for this one, or callers that give up soon could have the
            // server work for as many calls as they like.
            let reply = match line.in_time(&mut sent).await {
                Some(reply) => Some(reply),
                None => {
                    drop(turn);
                    timeout(LATE_REPLY_TIMEOUT, sent).await.ok()
                }
            };
            if let Some(reply) = reply {
                line.answered_late(&call, &reply);
            }
        });
    }
}
