//! Calls: charges that one server makes together.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::{sync::watch, time::Instant};

use super::{
    count::{self, FixedWindowHits},
    node_error::NodeError,
};
use crate::{
    limit::{Outcome, step::StepResult},
    store::{
        Charge,
        script::{Holder, Settlement},
    },
    time::Timestamp,
};

/// One reply per charge, in order; `None` where the outcome depends on hits that other calls
/// hold. Empty for a call that settles charges.
pub(super) type ChargeReplies = SmallVec<[Option<ChargeReply>; 2]>;

/// The reply to one charge. The two results differ only for a call that holds hits.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChargeReply {
    pub(super) if_granted: ChargeResult,
    pub(super) if_refused: ChargeResult,
    pub(super) held: HeldHits,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChargeResult {
    pub(super) step: StepResult,
    /// Set if the charge was made or its hits are held. Algorithms may still count nothing.
    pub(super) applied: bool,
}

/// The outcomes of a call in which hits that it holds are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeldHits {
    pub(super) count_if_granted: bool,
    pub(super) count_if_refused: bool,
}

impl ChargeReply {
    /// Returns true if the charge is over its limit.
    pub(super) fn is_over(&self, charge: &Charge, now: Timestamp) -> bool {
        self.if_granted.outcome(charge, now).over
    }
}

impl ChargeResult {
    pub(super) fn outcome(&self, charge: &Charge, now: Timestamp) -> Outcome {
        if self.applied {
            charge.outcome(self.step, now)
        } else {
            charge.skipped_outcome(self.step, now)
        }
    }
}

impl HeldHits {
    pub(super) const fn any(self) -> bool {
        self.count_if_granted || self.count_if_refused
    }
}

pub(super) type CallResult = Result<ChargeReplies, NodeError>;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) charges: SmallVec<[Charge; 1]>,
    pub(super) now: Timestamp,
    /// The instant at which the clock of the counters was at `now`.
    pub(super) started_at: Instant,
    /// The [run clock](super::run_clock::RunClock::now) at that instant; `None` if the call is
    /// created and sent at once.
    pub(super) run_time_at_start: Option<Duration>,
    pub(super) kind: CallKind,
    /// Shared by the calls of a request; `None` for a call that does not serve a request.
    pub(super) caller: Option<Arc<CallerStatus>>,
    pub(super) late_holds: LateHolds,
    /// Set if the call is a part of a large request.
    pub(super) large: bool,
}

/// The action for hits that a reply finds held after the reservation has been decided.
#[derive(Debug, Default)]
pub(super) struct LateHolds(AtomicU8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldAction {
    Release,
    /// The caller was let through before the reply came.
    Count,
}

impl LateHolds {
    pub(super) fn set(&self, action: HoldAction) {
        let code = match action {
            HoldAction::Release => 1,
            HoldAction::Count => 2,
        };
        self.0.store(code, Relaxed);
    }

    /// `None` while the reservation is undecided and settles its holds itself.
    pub(super) fn get(&self) -> Option<HoldAction> {
        match self.0.load(Relaxed) {
            0 => None,
            1 => Some(HoldAction::Release),
            _ => Some(HoldAction::Count),
        }
    }
}

#[derive(Debug)]
pub(super) enum CallKind {
    /// Counts hits in fixed windows by the fast path.
    Count(SmallVec<[FixedWindowHits; 2]>),
    /// Makes charges of any algorithm. With a holder, hits of charges that depend on charges
    /// elsewhere are held for it instead of counted.
    Decide(Option<Holder>),
    /// Settles each charge.
    Settle(SmallVec<[Settlement; 1]>),
}

/// One moment by the clock of the counters and by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) timestamp: Timestamp,
    pub(super) instant: Instant,
}

impl Call {
    /// A call that makes `charges`, by the fast path if all of them allow it.
    pub(super) fn new(charges: &[Charge], now: Timestamp) -> Self {
        let mut counts = SmallVec::new();
        for charge in charges {
            if !count::is_count_only(charge) {
                return Self::with_kind(charges.into(), now, CallKind::Decide(None));
            }
            counts.push(FixedWindowHits::new(charge, now));
        }
        Self::with_kind(charges.into(), now, CallKind::Count(counts))
    }

    pub(super) fn with_kind(
        charges: SmallVec<[Charge; 1]>,
        now: Timestamp,
        kind: CallKind,
    ) -> Self {
        Self {
            charges,
            now,
            started_at: Instant::now(),
            run_time_at_start: None,
            kind,
            caller: None,
            late_holds: LateHolds::default(),
            large: false,
        }
    }

    /// A call for the charges at `positions`, by the script for all algorithms.
    pub(super) fn subset(&self, positions: impl Iterator<Item = usize>) -> Self {
        let charges = positions.map(|position| self.charges[position].clone()).collect();
        Self {
            started_at: self.started_at,
            run_time_at_start: self.run_time_at_start,
            caller: self.caller.clone(),
            large: self.large,
            ..Self::with_kind(charges, self.now, CallKind::Decide(None))
        }
    }

    pub(super) const fn start(&self) -> Moment {
        Moment { timestamp: self.now, instant: self.started_at }
    }

    /// The approximate work for the server, in units of [`cost`].
    pub(super) fn cost(&self) -> usize {
        self.charges.iter().map(cost).sum()
    }

    /// Returns true if cheap calls should not wait for this one. Calls that hold hits and calls
    /// that settle them take the same lane, or a settlement could overtake its hold.
    pub(super) fn is_heavy(&self) -> bool {
        if matches!(self.kind, CallKind::Decide(Some(_)) | CallKind::Settle(_)) {
            return true;
        }
        self.large || self.charges.iter().any(keeps_each_hit)
    }
}

/// The approximate work of a charge for the server. The unit is a fixed window on the fast path:
/// 2 to 4 µs within a batch. docs/algorithms.md has figures for the other algorithms.
pub(super) fn cost(charge: &Charge) -> usize {
    if count::is_count_only(charge) {
        1
    } else if keeps_each_hit(charge) {
        16
    } else {
        4
    }
}

fn keeps_each_hit(charge: &Charge) -> bool {
    charge.limit.algorithm.info().keeps_each_hit
}

/// The status of the caller of a request, shared by all its calls: a reply that arrives after its
/// caller has stopped waiting is refunded, unless the request passed.
#[derive(Debug, Default)]
pub(super) struct CallerStatus(Mutex<CallerState>);

#[derive(Debug)]
enum CallerState {
    /// Holds the replies that the caller has not received yet.
    Waiting(Vec<UnreadReply>),
    Served,
    /// The request was rejected, failed or cancelled. Pending if calls may be in flight.
    NotServed {
        _pending: Option<PendingRequest>,
    },
}

impl Default for CallerState {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

/// Counts a request that may need settlements later, until it is dropped.
#[derive(Debug)]
pub(super) struct PendingRequest(watch::Sender<usize>);

impl PendingRequest {
    pub(super) fn new(pending: &watch::Sender<usize>) -> Self {
        pending.send_modify(|count| *count += 1);
        Self(pending.clone())
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// A reply that the caller has not received.
#[derive(Debug)]
pub(super) struct UnreadReply {
    pub(super) call: Arc<Call>,
    pub(super) replies: ChargeReplies,
    /// The caller receives a timeout in its place.
    is_late: bool,
}

impl CallerStatus {
    /// Records a reply that arrived in time, to one of several calls.
    pub(super) fn on_reply(&self, call: &Arc<Call>, replies: &ChargeReplies) {
        if let CallerState::Waiting(unread) = &mut *self.0.lock() {
            let (call, replies) = (Arc::clone(call), replies.clone());
            unread.push(UnreadReply { call, replies, is_late: false });
        }
    }

    /// Records a reply that arrived too late. Returns true if it has to be refunded at once.
    pub(super) fn on_late_reply(&self, call: &Arc<Call>, replies: &ChargeReplies) -> bool {
        match &mut *self.0.lock() {
            CallerState::Waiting(unread) => {
                let (call, replies) = (Arc::clone(call), replies.clone());
                unread.push(UnreadReply { call, replies, is_late: true });
                false
            }
            CallerState::Served => false,
            CallerState::NotServed { .. } => true,
        }
    }

    /// The caller receives its results. Returns the replies to refund: late ones, unless the
    /// request passed.
    pub(super) fn finish(&self, served: bool) -> Vec<UnreadReply> {
        let mut unread = self.end(if served {
            CallerState::Served
        } else {
            CallerState::NotServed { _pending: None }
        });
        if served {
            unread.clear();
        }
        unread.retain(|reply| reply.is_late);
        unread
    }

    /// The caller was cancelled. Returns the replies to refund: all of them.
    pub(super) fn cancel(&self, pending: PendingRequest) -> Vec<UnreadReply> {
        self.end(CallerState::NotServed { _pending: Some(pending) })
    }

    fn end(&self, state: CallerState) -> Vec<UnreadReply> {
        match mem::replace(&mut *self.0.lock(), state) {
            CallerState::Waiting(unread) => unread,
            CallerState::Served | CallerState::NotServed { .. } => Vec::new(),
        }
    }
}
