//! Calls to one server, and what they cost it.

use std::{
    sync::{Arc, atomic::AtomicU8},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    fate::Fate,
    fixed_window::{self, Plain},
    node::NodeError,
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
pub(super) type Answers = SmallVec<[Option<Answered>; 2]>;

/// The answer for one charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
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
pub(super) type Reply = Result<Answers, NodeError>;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) charges: SmallVec<[Charge; 1]>,
    pub(super) now: Timestamp,
    /// When `now` was.
    pub(super) begun: Instant,
    /// The [pulse](super::pulse::Pulse::now) at that moment; `None` if the call was just made.
    pub(super) ran: Option<Duration>,
    pub(super) kind: Kind,
    /// What becomes of the caller; none if nobody is served by the answer.
    pub(super) fate: Option<Arc<Fate>>,
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
pub(super) enum Kind {
    /// They are made, all of them by the fast path.
    Plain(SmallVec<[Plain; 2]>),
    /// They are made, and what depends on charges elsewhere is held for somebody.
    Decide(Option<Holder>),
    /// Each of them is settled.
    Settle(SmallVec<[Settlement; 1]>),
}

impl Call {
    /// Makes `charges`.
    pub(super) fn of(charges: &[Charge], now: Timestamp) -> Self {
        let kind = match charges.iter().all(fixed_window::suffices) {
            true => Kind::Plain(charges.iter().map(|it| Plain::of(it, now)).collect()),
            false => Kind::Decide(None),
        };
        Self::with(charges.into(), now, kind)
    }

    /// Does what `kind` says with `charges`.
    pub(super) fn with(charges: SmallVec<[Charge; 1]>, now: Timestamp, kind: Kind) -> Self {
        let late = AtomicU8::new(UNDECIDED);
        Self {
            charges,
            now,
            begun: Instant::now(),
            ran: None,
            kind,
            fate: None,
            late,
            large: false,
        }
    }

    /// Makes the charges at `places` alone, by the script for all kinds.
    pub(super) fn part(&self, places: impl Iterator<Item = usize>) -> Self {
        let charges = places.map(|it| self.charges[it].clone()).collect();
        let call = Self::with(charges, self.now, Kind::Decide(None));
        let fate = self.fate.clone();
        Self { begun: self.begun, ran: self.ran, fate, large: self.large, ..call }
    }

    /// About how long a server works on it, in units of [`cost`].
    pub(super) fn cost(&self) -> usize {
        self.charges.iter().map(cost).sum()
    }

    /// Whether others should not wait for it. A call that holds hits, and the one that
    /// settles it, go the same way, or the second might come first.
    pub(super) fn is_heavy(&self) -> bool {
        let held = matches!(self.kind, Kind::Decide(Some(_)) | Kind::Settle(_));
        held || self.large || self.charges.iter().any(|it| it.limit.algorithm.info().keeps_each_hit)
    }
}

/// About how long a server works on `charge`, where 1 is a fixed window on the fast path: 2 to
/// 4 µs among others. docs/algorithms.md has figures for the rest.
pub(super) fn cost(charge: &Charge) -> usize {
    if fixed_window::suffices(charge) {
        1
    } else if charge.limit.algorithm.info().keeps_each_hit {
        16
    } else {
        4
    }
}
