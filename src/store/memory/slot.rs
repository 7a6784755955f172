//! The representation of a counter in memory, and its size.

use crate::{
    limit::{bucket, fixed_window, sliding_window, step::State},
    time::Timestamp,
};

/// The bytes that each counter counts as. Tables are resized so that a counter never takes
/// more, including its share of free slots.
pub(super) const COUNTER_BYTES: usize = 100;

/// The key that stands for a name: two names have the same key only if all 96 bits collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) hash: u64,
    pub(super) check: u32,
}

#[derive(Debug)]
pub(super) struct Counter {
    pub(super) state: CounterState,
    /// The counter can be removed after this.
    pub(super) expires_at: Timestamp,
    /// The moment until which another hit is refused; in the past if a hit passes.
    pub(super) refuses_until: Timestamp,
}

/// A counter in its table. A slot is one cache line of the processor.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    hash: u64,
    check: u32,
    /// The ledger's number for the counter's domain.
    pub(super) domain: u16,
    pub(super) counter: Counter,
}

const _: () = assert!(size_of::<Option<Slot>>() == 64, "a slot is one cache line");

/// The state of a counter and its ban. Rare kinds are boxed, so that the usual counter is
/// small.
#[derive(Debug)]
pub(super) enum CounterState {
    Count { state: fixed_window::State, banned_since: Timestamp },
    Window(sliding_window::State),
    Bucket(bucket::State),
    Boxed(Box<BoxedState>),
}

#[derive(Debug)]
pub(super) struct BoxedState {
    state: Option<State>,
    banned_since: Timestamp,
}

impl CounterState {
    /// `banned_since` is the epoch if there is no ban.
    pub(super) fn new(state: Option<State>, banned_since: Timestamp) -> Self {
        let has_ban = banned_since != Timestamp::default();
        match state {
            Some(State::Count(state)) => Self::Count { state, banned_since },
            Some(State::Window(state)) if !has_ban => Self::Window(state),
            Some(State::Bucket(state)) if !has_ban => Self::Bucket(state),
            state => Self::Boxed(Box::new(BoxedState { state, banned_since })),
        }
    }

    /// A ban without a state, which allocates nothing.
    pub(super) fn ban(banned_since: Timestamp) -> Self {
        Self::Count { state: fixed_window::State::default(), banned_since }
    }

    pub(super) fn state(&self) -> Option<State> {
        match self {
            Self::Count { state, .. } => Some(State::Count(*state)),
            Self::Window(state) => Some(State::Window(*state)),
            Self::Bucket(state) => Some(State::Bucket(*state)),
            Self::Boxed(boxed) => boxed.state.clone(),
        }
    }

    /// The start of the ban; the epoch if there is no ban.
    pub(super) fn banned_since(&self) -> Timestamp {
        match self {
            Self::Count { banned_since, .. } => *banned_since,
            Self::Window(_) | Self::Bucket(_) => Timestamp::default(),
            Self::Boxed(boxed) => boxed.banned_since,
        }
    }

    pub(super) fn has_ban(&self) -> bool {
        self.banned_since() != Timestamp::default()
    }

    /// The bytes allocated outside the slot.
    fn allocated(&self) -> usize {
        let Self::Boxed(boxed) = self else { return 0 };
        let list = match &boxed.state {
            Some(State::Permits(permits)) => permits.allocated(),
            Some(State::Count(_) | State::Window(_) | State::Bucket(_)) | None => 0,
        };
        size_of::<BoxedState>() + list
    }
}

impl Counter {
    /// Extends the expiry to that of the counter `replaced`, where that may have to last
    /// longer.
    pub(super) fn inherit_expiry(&mut self, replaced: &Self, now: Timestamp) {
        // Rules with windows of different lengths may share a name, and a ban may outlast a
        // state.
        let is_count = matches!(replaced.state, CounterState::Count { .. });
        if now < replaced.expires_at && (self.state.has_ban() || is_count) {
            self.expires_at = self.expires_at.max(replaced.expires_at);
        }
    }

    /// The bytes that the counter counts as.
    pub(super) fn bytes(&self) -> usize {
        COUNTER_BYTES + self.state.allocated()
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
