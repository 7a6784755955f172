//! Calls to one server, and what they cost it.

use std::{
    mem,
    sync::{Arc, atomic::AtomicU8},
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    count::{self, FixedWindowHits},
    node_error::NodeError,
};
use crate::{
    limit::step::StepResult,
    store::{
        Charge,
        script::{Holder, Settlement},
    },
    time::Timestamp,
};

/// The answer for each charge of a call; none where it depends on what others hold. Of
/// charges that are settled there are none.
pub(super) type ChargeReplies = SmallVec<[Option<ChargeReply>; 2]>;

/// The answer for one charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChargeReply {
    pub(super) answer: StepResult,
    /// Whether its hits were counted, or are held, if that is what the algorithm does
    /// with them.
    pub(super) made: bool,
    /// The answer if the call is refused elsewhere, and whether they are counted then.
    pub(super) refused: (StepResult, bool),
    /// Whether they wait to be counted if the call is granted, and if it is refused.
    pub(super) waits: (bool, bool),
}

/// What a call has come to.
pub(super) type CallResult = Result<ChargeReplies, NodeError>;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) charges: SmallVec<[Charge; 1]>,
    pub(super) now: Timestamp,
    /// When `now` was.
    pub(super) started_at: Instant,
    /// The [run clock](super::run_clock::RunClock::now) at that moment; `None` if the call was
    /// just made.
    pub(super) run_time_at_start: Option<Duration>,
    pub(super) kind: CallKind,
    /// Shared by the calls of a request; `None` for a call that does not serve a request.
    pub(super) caller: Option<Arc<CallerStatus>>,
    /// What becomes of what it holds if the answer comes too late.
    pub(super) late: AtomicU8,
    /// Whether it is a part of a large request.
    pub(super) large: bool,
}

/// Whoever holds it still decides, and then settles it.
pub(super) const UNDECIDED: u8 = 0;
/// It is let go.
pub(super) const RELEASE: u8 = 1;
/// It is counted: the caller was let through without the answer.
pub(super) const COUNT: u8 = 2;

/// What is to be done with the charges of a call.
#[derive(Debug)]
pub(super) enum CallKind {
    /// They are made, all of them by the fast path.
    Count(SmallVec<[FixedWindowHits; 2]>),
    /// They are made, and what depends on charges elsewhere is held for somebody.
    Decide(Option<Holder>),
    /// Each of them is settled.
    Settle(SmallVec<[Settlement; 1]>),
}

impl Call {
    /// Makes `charges`.
    pub(super) fn new(charges: &[Charge], now: Timestamp) -> Self {
        let kind = match charges.iter().all(count::suffices) {
            true => {
                CallKind::Count(charges.iter().map(|it| FixedWindowHits::of(it, now)).collect())
            }
            false => CallKind::Decide(None),
        };
        Self::with_kind(charges.into(), now, kind)
    }

    /// Does what `kind` says with `charges`.
    pub(super) fn with_kind(
        charges: SmallVec<[Charge; 1]>,
        now: Timestamp,
        kind: CallKind,
    ) -> Self {
        let late = AtomicU8::new(UNDECIDED);
        Self {
            charges,
            now,
            started_at: Instant::now(),
            run_time_at_start: None,
            kind,
            caller: None,
            late,
            large: false,
        }
    }

    /// Makes the charges at `places` alone, by the script for all kinds.
    pub(super) fn part(&self, places: impl Iterator<Item = usize>) -> Self {
        let charges = places.map(|it| self.charges[it].clone()).collect();
        let call = Self::with_kind(charges, self.now, CallKind::Decide(None));
        let caller = self.caller.clone();
        Self {
            started_at: self.started_at,
            run_time_at_start: self.run_time_at_start,
            caller,
            large: self.large,
            ..call
        }
    }

    /// About how long a server works on it, in units of [`cost`].
    pub(super) fn cost(&self) -> usize {
        self.charges.iter().map(cost).sum()
    }

    /// Whether others should not wait for it. A call that holds hits, and the one that
    /// settles it, go the same way, or the second might come first.
    pub(super) fn is_heavy(&self) -> bool {
        let held = matches!(self.kind, CallKind::Decide(Some(_)) | CallKind::Settle(_));
        held || self.large || self.charges.iter().any(|it| it.limit.algorithm.info().keeps_each_hit)
    }
}

/// About how long a server works on `charge`, where 1 is a fixed window on the fast path: 2 to
/// 4 µs among others. docs/algorithms.md has figures for the rest.
pub(super) fn cost(charge: &Charge) -> usize {
    if count::suffices(charge) {
        1
    } else if charge.limit.algorithm.info().keeps_each_hit {
        16
    } else {
        4
    }
}

/// Whether the caller of a request was served. The calls of the request share it: a reply that
/// arrives after its caller has stopped waiting is refunded, unless the request passed.
#[derive(Debug, Default)]
pub(super) struct CallerStatus(Mutex<CallerState>);

#[derive(Debug)]
enum CallerState {
    /// Holds the replies that the caller has not received yet.
    Waiting(Vec<UnreadReply>),
    Served,
    /// The request was rejected, failed or cancelled.
    NotServed,
}

impl Default for CallerState {
    fn default() -> Self {
        Self::Waiting(Vec::new())
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
            CallerState::NotServed => true,
        }
    }

    /// The caller receives its results. Returns the replies to refund: late ones, unless the
    /// request passed.
    pub(super) fn finish(&self, served: bool) -> Vec<UnreadReply> {
        let mut unread =
            self.end(if served { CallerState::Served } else { CallerState::NotServed });
        if served {
            unread.clear();
        }
        unread.retain(|reply| reply.is_late);
        unread
    }

    /// The caller was cancelled. Returns the replies to refund: all of them.
    pub(super) fn cancel(&self) -> Vec<UnreadReply> {
        self.end(CallerState::NotServed)
    }

    fn end(&self, state: CallerState) -> Vec<UnreadReply> {
        match mem::replace(&mut *self.0.lock(), state) {
            CallerState::Waiting(unread) => unread,
            CallerState::Served | CallerState::NotServed => Vec::new(),
        }
    }
}
