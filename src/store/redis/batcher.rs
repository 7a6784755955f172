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
    call::{Call, CallResult},
    executor::BatchExecutor,
    lane::{InFlight, Lane},
    limits::{MAX_HEAVY_BATCHES, MAX_LIGHT_BATCHES, QUEUE_CAPACITY},
    line::{Alone, Line},
    node_error::NodeError,
    pulse::Pulse,
    settler::SettlementQueue,
};

/// Makes calls together.
#[derive(Debug)]
pub(super) struct Batcher<W: BatchExecutor> {
    line: Arc<Line<W>>,
    light: Lane,
    heavy: Lane,
    /// How many more calls may come from other servers of the cluster.
    asked: Semaphore,
    /// Ends with this.
    _task: JoinSet<()>,
}

impl<W: BatchExecutor> Batcher<W> {
    /// Begins to make calls to the server at the end of `wire`, one of a cluster if
    /// `cluster`. Needs a Tokio runtime.
    pub(super) fn new(
        wire: W,
        timeout: Duration,
        cluster: bool,
        (late, pulse, in_flight): (SettlementQueue, Pulse, &InFlight),
    ) -> Self {
        let line = Arc::new(Line::new(wire, timeout, cluster, (late, pulse)));
        let (light, light_calls) = Lane::new(MAX_LIGHT_BATCHES, in_flight);
        let (heavy, heavy_calls) = Lane::new(MAX_HEAVY_BATCHES, in_flight);
        let mut task = JoinSet::new();
        let works = Arc::clone(&line);
        task.spawn(async move {
            select! {
                () = light_calls.serve(&works) => {}
                () = heavy_calls.serve(&works) => {}
                () = works.listen() => {}
            }
        });
        Self { line, light, heavy, asked: Semaphore::new(QUEUE_CAPACITY), _task: task }
    }

    /// Makes a call, once, and waits for the answer as long as it takes, unless
    /// it is clear that none comes.
    pub(super) async fn call(&self, call: &Arc<Call>) -> CallResult {
        self.line.admit()?;
        let lane = if call.is_heavy() { &self.heavy } else { &self.light };
        lane.call(&self.line, call).await
    }

    /// Makes a call that another server sent here.
    pub(super) async fn asked(&self, call: &Arc<Call>) -> CallResult {
        self.line.admit()?;
        let Ok(_place) = self.asked.try_acquire() else {
            return Err(NodeError::unsent(format!(
                "{QUEUE_CAPACITY} calls wait for Redis already"
            )));
        };
        Alone::new(&self.line, call, None).await
    }

    /// How many calls wait for others.
    pub(super) fn waiting(&self) -> u64 {
        self.light.waiting() + self.heavy.waiting()
    }

    /// Whether the server does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.line.is_silent()
    }

    /// Whether nothing makes calls any more.
    pub(super) fn is_dead(&self) -> bool {
        self.light.is_dead()
    }

    /// Ends when nothing makes calls any more.
    pub(super) async fn abandoned(&self) {
        self.light.abandoned().await;
    }
}

#[cfg(test)]
mod tests;
