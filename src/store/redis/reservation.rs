//! A request whose charges depend on each other, and are at several locations or too many for
//! one script run.
//!
//! No script run sees all of its counters, so the request first holds its hits in all of them.
//! A hold takes room in the limit, but no other request is refused or banned because of it. If
//! every limit that can refuse the request has room, the held hits are counted, else they are
//! released. A settlement names the request by its holder id, so it may be repeated. A hold
//! that is never settled, as its instance has crashed, expires after [`HOLD_TIMEOUT`].
//!
//! If the outcome depends on hits that other requests hold, the request releases all of its own
//! holds and visits the locations one by one, in the same order as all requests, and waits at
//! each. So no two requests wait for each other.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{Call, CallKind, CallerStatus, ChargeReplies, HoldAction},
    dispatch_context::{DispatchContext, MIN_RETRY_DELAY, Timing, retry_delay},
    groups::{ChargeGroup, Groups, call_each},
    reservation_progress::{ChargeStatus, Progress},
    servers::Servers,
    settlement::{HoldSettlements, PendingSettlement, Settlements},
};
use crate::store::{
    Charge, Enforced, Results,
    enforced::Enforcement,
    script::{HOLD_MEMORY, Holder},
};

/// The time after which holds expire.
pub(super) const HOLD_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Reservation<S> {
    context: Arc<DispatchContext<S>>,
    progress: Progress,
    groups: Groups,
    /// Kept until all holds are settled.
    permits: Arc<OwnedSemaphorePermit>,
    timing: Timing,
    holder_id: u64,
    /// The calls that may hold hits.
    sent: Vec<Arc<Call>>,
    caller: Arc<CallerStatus>,
}

impl<S: Servers> Reservation<S> {
    pub(super) fn new(
        context: Arc<DispatchContext<S>>,
        charges: &[Charge],
        groups: Groups,
        permits: Arc<OwnedSemaphorePermit>,
        timing: Timing,
    ) -> Self {
        Self {
            holder_id: context.holder_ids.next(),
            context,
            progress: Progress::new(charges, timing.start.timestamp),
            groups,
            permits,
            timing,
            sent: Vec::new(),
            caller: Arc::default(),
        }
    }

    /// Makes the request, settles its holds, and sends its results.
    pub(super) async fn run(mut self, sender: oneshot::Sender<Results>) {
        self.hold_everywhere().await;
        if self.progress.depends_on_holds() {
            self.hold_in_order().await;
        } else {
            self.await_refusal().await;
        }
        if self.progress.is_refused() {
            self.ban().await;
        }
        let granted = self.progress.lets_through();
        // Settled before the results are sent, so that the caller's next request sees the
        // counted hits, or all the room that there was.
        let counted = granted && !sender.is_closed();
        let action = if counted { HoldAction::Count } else { HoldAction::Release };
        let settled = self.settle_in_time(action).await;
        let delivered = sender.send(self.progress.results(granted)).is_ok();
        if !delivered {
            self.refund(counted, settled);
        }
        let unread = self.caller.finish(delivered && granted);
        self.context.settlements.refund_unread(unread);
    }

    /// Refunds granted hits after the caller has left: those counted at once, and the held
    /// ones if they are `counted` and known to be `settled`.
    fn refund(&self, counted: bool, settled: bool) {
        let settlements = &self.context.settlements;
        for (charge, status) in self.progress.charges.iter().zip(&self.progress.statuses) {
            match status {
                ChargeStatus::Replied(reply) if counted && reply.held.count_if_granted => {
                    if settled {
                        settlements.refund_counted(charge, reply, self.timing.start);
                    } else {
                        settlements.record_lost_refund();
                    }
                }
                ChargeStatus::Replied(reply) => {
                    settlements.refund(charge, reply, self.timing.start);
                }
                ChargeStatus::Failed { sent: true, .. }
                    if counted && charge.depends_on_others() =>
                {
                    settlements.record_lost_refund();
                }
                ChargeStatus::Failed { .. } | ChargeStatus::Undecided | ChargeStatus::NotSent => {}
            }
        }
    }

    /// Holds hits at all locations at the same time. Once a limit refuses, the rest of a large
    /// request holds nothing.
    async fn hold_everywhere(&mut self) {
        // Requests that wait for these holds need the last third of the time.
        let start = self.timing.start.instant;
        let deadline = start + self.timing.deadline.saturating_duration_since(start) * 2 / 3;
        let refused = AtomicBool::new(false);
        let servers = &*self.context.servers;
        let hold = async |group: usize| {
            let group = &self.groups[group];
            let mut call = self.call(&group.positions, Some(self.holder()));
            if refused.load(Relaxed) {
                for charge in &mut call.charges {
                    charge.refused = true;
                }
            }
            let call = Arc::new(call);
            let result = servers.send(group.location, &call, deadline).await;
            if let Ok(replies) = &result {
                refused.fetch_or(refuses_alone(&call, replies), Relaxed);
            }
            (call, result)
        };
        for found in call_each(servers, &self.groups, hold).await {
            let (call, result) = found.result;
            self.sent.push(call);
            self.progress.record(&self.groups[found.group].positions, result);
        }
    }

    /// Waits for undecided charges that may refuse the request, while the rest of it has
    /// failed. Not while it holds hits itself, or two requests would wait for each other.
    async fn await_refusal(&mut self) {
        while !self.progress.is_refused()
            && !self.progress.holds_any()
            && Instant::now() + MIN_RETRY_DELAY < self.timing.deadline
        {
            let Some(group) = self.undecided_group() else { return };
            sleep(retry_delay()).await;
            self.retry_group(group).await;
        }
    }

    fn undecided_group(&self) -> Option<usize> {
        self.groups.iter().position(|group| self.progress.is_undecided(&group.positions))
    }

    /// Holds hits at one location after the other, and waits at each for other holds to end.
    async fn hold_in_order(&mut self) {
        self.settle_in_time(HoldAction::Release).await;
        self.holder_id = self.context.holder_ids.next();
        sleep(retry_delay()).await;
        self.progress.restart();
        for group in 0..self.groups.len() {
            while !self.retry_group(group).await {
                if self.timing.deadline <= Instant::now() + MIN_RETRY_DELAY {
                    break;
                }
                sleep(retry_delay()).await;
            }
        }
    }

    /// Sends the open charges of a group again, and returns true if none is undecided any
    /// more. A request that is refused by now holds nothing.
    async fn retry_group(&mut self, group: usize) -> bool {
        let ChargeGroup { location, positions, .. } = &self.groups[group];
        let location = *location;
        let mut open = SmallVec::<[usize; 4]>::new();
        for &position in positions {
            if self.progress.is_open(position) {
                open.push(position);
            }
        }
        if open.is_empty() {
            return true;
        }
        let holder = if self.progress.is_refused() { None } else { Some(self.holder()) };
        let call = Arc::new(self.call(&open, holder));
        self.sent.push(Arc::clone(&call));
        let result = self.context.servers.send(location, &call, self.timing.deadline).await;
        self.progress.record(&open, result);
        !self.progress.is_undecided(&open)
    }

    /// Sends charges again whose limits ban because the request is refused.
    async fn ban(&mut self) {
        let bans = self.progress.bans_if_refused();
        if bans.is_empty() {
            return;
        }
        self.settle_in_time(HoldAction::Release).await;
        let before = self.progress.reopen(&bans);
        for group in 0..self.groups.len() {
            self.retry_group(group).await;
        }
        self.progress.restore(before);
    }

    fn holder(&self) -> Holder {
        let expires_at = self.timing.start.timestamp.plus(HOLD_TIMEOUT);
        Holder { id: self.holder_id, expires_at }
    }

    /// A call for the charges at `positions`, which are at one location.
    fn call(&self, positions: &[usize], holder: Option<Holder>) -> Call {
        let charges = self.progress.charges_at(positions).into();
        let kind = CallKind::Decide(holder);
        Call {
            started_at: self.timing.start.instant,
            run_time_at_start: Some(self.timing.run_time_at_start),
            caller: Some(Arc::clone(&self.caller)),
            ..Call::with_kind(charges, self.timing.start.timestamp, kind)
        }
    }

    /// Settles the holds, and waits for that until the deadline. Returns true if all holds
    /// that a reply has confirmed are settled.
    async fn settle_in_time(&mut self, action: HoldAction) -> bool {
        let mut settled = Vec::new();
        for group in &self.groups {
            settled.extend(self.settle_confirmed(group, action));
            self.settle_unconfirmed(group, action);
        }
        // The holds of replies that are still to come are settled on their arrival.
        for call in mem::take(&mut self.sent) {
            call.late_holds.set(action);
        }
        match timeout_at(self.timing.deadline, join_all(settled)).await {
            Ok(results) => results.iter().all(Result::is_ok),
            Err(_) => false,
        }
    }

    /// Settles the holds of charges that have a reply.
    fn settle_confirmed(
        &self,
        group: &ChargeGroup,
        action: HoldAction,
    ) -> Option<oneshot::Receiver<()>> {
        let mut holds = HoldSettlements::new(self.holder_id, action);
        for position in &group.positions {
            if let ChargeStatus::Replied(reply) = &self.progress.statuses[*position] {
                holds.add(&self.progress.charges[*position], Some(reply));
            }
        }
        // Hits can be counted for a while after their hold has expired.
        let max_age = match action {
            HoldAction::Count => HOLD_TIMEOUT + HOLD_MEMORY,
            HoldAction::Release => HOLD_TIMEOUT,
        };
        self.settle(holds.into_settlements(), max_age)
    }

    /// Settles the holds of charges that were sent and have no reply. A server that recovers
    /// may still make them.
    fn settle_unconfirmed(&self, group: &ChargeGroup, action: HoldAction) {
        let mut holds = HoldSettlements::new(self.holder_id, action);
        for position in &group.positions {
            if let ChargeStatus::Failed { sent: true, .. } = &self.progress.statuses[*position] {
                holds.add(&self.progress.charges[*position], None);
            }
        }
        self.settle(holds.into_settlements(), HOLD_TIMEOUT + HOLD_MEMORY);
    }

    fn settle(&self, settlements: Settlements, max_age: Duration) -> Option<oneshot::Receiver<()>> {
        if settlements.is_empty() {
            return None;
        }
        let (settled, receiver) = oneshot::channel();
        self.context.settlements.settle(PendingSettlement {
            settlements,
            start: self.timing.start,
            deadline: self.timing.start.instant + max_age,
            settled: Some(settled),
            permits: Some(Arc::clone(&self.permits)),
        });
        Some(receiver)
    }
}

/// Returns true if a charge in `replies` refuses the request by itself.
fn refuses_alone(call: &Call, replies: &ChargeReplies) -> bool {
    let mut enforcement = Enforcement::default();
    for (charge, reply) in call.charges.iter().zip(replies) {
        if charge.enforced == Enforced::Yes {
            enforcement.add(charge, reply.map(|reply| reply.is_over(charge, call.now)));
        }
    }
    enforcement.refuses()
}
