//! Settles charges after their calls: hits that a reservation holds, and refunds of hits that
//! were granted to callers that had timed out or left.
//!
//! A server may be unreachable then, so a task retries for as long as a retry makes sense: holds
//! expire, and a second refund would be worse than none.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::{SmallVec, smallvec};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{
        Call, CallKind, CallResult, ChargeReplies, ChargeReply, Moment, PendingRequest, UnreadReply,
    },
    limits::{LATE_REPLY_TIMEOUT, QUEUE_CAPACITY},
    settlement::{ChargeSettlement, CounterTotals, HoldSettlements, PendingSettlement},
};
use crate::{
    backoff::{Backoff, BackoffSettings},
    store::{Charge, script::Settlement},
};

/// The most settlements in flight. Lanes queue more calls than that, so settlements leave room
/// for calls; and it is large, so those for a dead server do not delay the others.
const MAX_IN_FLIGHT: usize = QUEUE_CAPACITY / 8;
/// The most settlements that wait; further ones are dropped and counted as failed.
const MAX_QUEUED: usize = 3 * QUEUE_CAPACITY;
/// The delays between retries.
const BACKOFF: BackoffSettings = BackoffSettings {
    initial: Duration::from_millis(5),
    max: Duration::from_millis(500),
    jitter: 0.5,
};

/// Sends settlements to the servers of their counters.
pub(super) trait SendSettlement: Send + Sync + 'static {
    /// Sends a call that settles charges, which are all at one location.
    fn send_settlement(
        &self,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> impl Future<Output = CallResult> + Send;
}

/// Queues settlements for the task that runs [`run`].
#[derive(Clone, Debug)]
pub(super) struct SettlementQueue {
    sender: mpsc::Sender<PendingSettlement>,
    stats: Arc<SettlementStats>,
}

#[derive(Debug, Default)]
pub(super) struct SettlementStats {
    refunded: AtomicU64,
    failed: AtomicU64,
    /// Settlements that wait or are in flight, and requests that may need some.
    pending: watch::Sender<usize>,
}

impl SettlementQueue {
    /// A queue, and its receiver for [`run`].
    pub(super) fn new() -> (Self, mpsc::Receiver<PendingSettlement>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        (Self { sender, stats: Arc::default() }, receiver)
    }

    pub(super) fn settle(&self, pending: PendingSettlement) {
        self.stats.pending.send_modify(|count| *count += 1);
        if let Err(error) = self.sender.try_send(pending) {
            self.stats.record(error.into_inner().counters(), false);
        }
    }

    /// Handles a result for which no caller waits: settles its holds, and refunds hits that it
    /// grants.
    pub(super) fn on_late_reply(&self, call: &Arc<Call>, result: &CallResult) {
        let Ok(replies) = result else { return };
        match &call.kind {
            CallKind::Settle(_) => return,
            CallKind::Decide(Some(holder)) => self.settle_late_holds(call, replies, holder.id),
            CallKind::Decide(None) | CallKind::Count(_) => {}
        }
        let refund = match &call.caller {
            Some(caller) => caller.on_late_reply(call, replies),
            None => true,
        };
        if refund {
            self.refund_replies(call, replies);
        }
    }

    /// Settles holds that a reply reports after its reservation was decided.
    fn settle_late_holds(&self, call: &Call, replies: &ChargeReplies, holder_id: u64) {
        let Some(action) = call.late_holds.get() else { return };
        let mut holds = HoldSettlements::new(holder_id, action);
        for (charge, reply) in call.charges.iter().zip(replies) {
            if let Some(reply) = reply {
                holds.add(charge, Some(reply));
            }
        }
        let settlements = holds.into_settlements();
        if !settlements.is_empty() {
            self.settle(PendingSettlement {
                settlements,
                start: call.start(),
                deadline: Instant::now() + LATE_REPLY_TIMEOUT,
                settled: None,
                permits: None,
            });
        }
    }

    /// Refunds all hits that `replies` grant and that are counted already.
    pub(super) fn refund_replies(&self, call: &Call, replies: &ChargeReplies) {
        for (charge, reply) in call.charges.iter().zip(replies) {
            if let Some(reply) = reply {
                self.refund(charge, reply, call.start());
            }
        }
    }

    /// Lets [`drain`](Self::drain) wait for a request.
    pub(super) fn pending_request(&self) -> PendingRequest {
        PendingRequest::new(&self.stats.pending)
    }

    /// Refunds replies that their caller has not received.
    pub(super) fn refund_unread(&self, unread: Vec<UnreadReply>) {
        for UnreadReply { call, replies, .. } in unread {
            self.refund_replies(&call, &replies);
        }
    }

    /// Refunds granted hits, unless they are only held.
    pub(super) fn refund(&self, charge: &Charge, reply: &ChargeReply, start: Moment) {
        if reply.if_granted.applied && !reply.held.count_if_granted {
            self.refund_counted(charge, reply, start);
        }
    }

    /// Refunds granted hits that are counted.
    pub(super) fn refund_counted(&self, charge: &Charge, reply: &ChargeReply, start: Moment) {
        let (hits, step) = (charge.hits.capped().requested(), reply.if_granted.step);
        if !step.passes || hits == 0 {
            return;
        }
        let settlement = Settlement::Refund { hits, snapshot: step.snapshot };
        self.settle(PendingSettlement {
            settlements: smallvec![ChargeSettlement { charge: charge.clone(), settlement }],
            start,
            deadline: Instant::now() + LATE_REPLY_TIMEOUT,
            settled: None,
            permits: None,
        });
    }

    /// Records granted hits that stay counted although the caller has left.
    pub(super) fn record_lost_refund(&self) {
        self.stats.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn stats(&self) -> Arc<SettlementStats> {
        Arc::clone(&self.stats)
    }

    /// Returns once [`run`] has ended.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Waits until every settlement has ended, or until `deadline`.
    pub(super) async fn drain(&self, deadline: Instant) {
        let mut pending = self.stats.pending.subscribe();
        let _ = timeout_at(deadline, pending.wait_for(|count| *count == 0)).await;
    }
}

impl SettlementStats {
    /// The number of counters that got hits back.
    pub(super) fn refunded(&self) -> u64 {
        self.refunded.load(Relaxed)
    }

    /// The number of counters that could not be settled.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Records the end of a settlement.
    fn record(&self, counters: CounterTotals, settled: bool) {
        self.pending.send_modify(|count| *count = count.saturating_sub(1));
        if settled {
            self.refunded.fetch_add(counters.refunded, Relaxed);
        } else {
            self.failed.fetch_add(counters.all, Relaxed);
        }
    }
}

/// Makes the settlements that a [`SettlementQueue`] queues. Returns once all its clones are
/// dropped.
pub(super) async fn run<S: SendSettlement>(
    servers: Arc<S>,
    stats: Arc<SettlementStats>,
    mut queue: mpsc::Receiver<PendingSettlement>,
) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            next = queue.recv(), if in_flight.len() < MAX_IN_FLIGHT => {
                let Some(pending) = next else { return };
                let (servers, stats) = (Arc::clone(&servers), Arc::clone(&stats));
                in_flight.push(async move {
                    let counters = pending.counters();
                    stats.record(counters, settle(&*servers, pending).await);
                });
            }
            Some(()) = in_flight.next() => {}
        }
    }
}

/// Settles charges at one location, and returns true if they certainly are settled.
async fn settle<S: SendSettlement>(servers: &S, pending: PendingSettlement) -> bool {
    let is_idempotent = pending.is_idempotent();
    // The permits are kept until this function returns.
    let PendingSettlement { settlements, start, deadline, settled, permits: _permits } = pending;
    let mut charges = SmallVec::<[Charge; 1]>::new();
    let mut kinds = SmallVec::<[Settlement; 1]>::new();
    for ChargeSettlement { charge, settlement } in settlements {
        charges.push(charge);
        kinds.push(settlement);
    }
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        // Held hits count at the time of their call; a refund is made now.
        let now = if is_idempotent {
            start.timestamp
        } else {
            start.timestamp.plus(start.instant.elapsed())
        };
        let call = Call::with_kind(charges.clone(), now, CallKind::Settle(kinds.clone()));
        match servers.send_settlement(&Arc::new(call), deadline).await {
            Ok(_) => {
                if let Some(settled) = settled {
                    let _ = settled.send(());
                }
                return true;
            }
            Err(error) if !is_idempotent && error.may_be_made() => return false,
            Err(_) => {}
        }
        let delay = backoff.next_delay();
        if deadline <= Instant::now() + delay {
            return false;
        }
        sleep(delay).await;
    }
}
