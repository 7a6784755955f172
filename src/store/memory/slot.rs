//! What is kept under one name, and how much memory that takes.

use crate::{
    limit::{bucket, fixed_window, sliding_window, step::State},
    time::Timestamp,
};

/// What each counter counts as, in bytes. Tables are resized so that none takes more,
/// its share of free places included.
pub(super) const COUNTER: usize = 100;

/// A name. Two names are the same in 96 of 96 random bits, or not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) hash: u64,
    pub(super) check: u32,
}

/// A counter.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) kept: Kept,
    /// When it may be forgotten.
    pub(super) until: Timestamp,
    /// Until when another hit is refused; in the past if none is.
    pub(super) refuses: Timestamp,
}

/// A counter in its table: as long as a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    hash: u64,
    check: u32,
    /// Whose it is, by the ledger's numbers.
    pub(super) domain: u16,
    pub(super) counter: Counter,
}

const _: () = assert!(size_of::<Option<Slot>>() == 64, "tables are laid out for this");

/// What there is to know of a counter. What is rare is kept elsewhere, so that the usual
/// counter is small.
#[derive(Debug)]
pub(super) enum Kept {
    Count { state: fixed_window::State, banned: Timestamp },
    Window(sliding_window::State),
    Bucket(bucket::State),
    Other(Box<Other>),
}

#[derive(Debug)]
pub(super) struct Other {
    state: Option<State>,
    banned: Timestamp,
}

impl Kept {
    /// A state, and since when everything is refused; the epoch if nothing is.
    pub(super) fn new(state: Option<State>, banned: Timestamp) -> Self {
        match state {
            Some(State::Count(state)) => Self::Count { state, banned },
            Some(State::Window(it)) if banned == Timestamp::default() => Self::Window(it),
            Some(State::Bucket(it)) if banned == Timestamp::default() => Self::Bucket(it),
            state => Self::Other(Box::new(Other { state, banned })),
        }
    }

    /// A ban and no state, which takes no more room than any counter.
    pub(super) fn ban(banned: Timestamp) -> Self {
        Self::Count { state: fixed_window::State::default(), banned }
    }

    pub(super) fn state(&self) -> Option<State> {
        match self {
            Self::Count { state, .. } => Some(State::Count(*state)),
            Self::Window(it) => Some(State::Window(*it)),
            Self::Bucket(it) => Some(State::Bucket(*it)),
            Self::Other(it) => it.state.clone(),
        }
    }

    /// Since when everything is refused; the epoch if nothing is.
    pub(super) fn banned(&self) -> Timestamp {
        match self {
            Self::Count { banned, .. } => *banned,
            Self::Window(_) | Self::Bucket(_) => Timestamp::default(),
            Self::Other(it) => it.banned,
        }
    }

    /// What is allocated for it alone, in bytes.
    fn allocated(&self) -> usize {
        let Self::Other(other) = self else { return 0 };
        let list = match &other.state {
            Some(State::Leases(it)) => it.allocated(),
            Some(State::Count(_) | State::Window(_) | State::Bucket(_)) | None => 0,
        };
        size_of::<Other>() + list
    }
}

impl Counter {
    /// Takes the place of `kept`.
    pub(super) fn follow(&mut self, kept: &Self, now: Timestamp) {
        let banned = self.kept.banned() != Timestamp::default();
        if now < kept.until && (banned || matches!(kept.kept, Kept::Count { .. })) {
            // Rules with windows of different length may share a name, and a ban may
            // outlast a state.
            self.until = self.until.max(kept.until);
        }
    }

    /// What it counts as, in bytes.
    pub(super) fn bytes(&self) -> usize {
        COUNTER + self.kept.allocated()
    }
}

impl Slot {
    pub(super) fn new(Key { hash, check }: Key, domain: u16, counter: Counter) -> Self {
        Self { hash, check, domain, counter }
    }

    pub(super) fn key(&self) -> Key {
        Key { hash: self.hash, check: self.check }
    }
}
