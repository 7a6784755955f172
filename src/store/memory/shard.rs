//! A part of the counters, and how it stays small.

use std::time::Duration;

use foldhash::quality::RandomState;
use indexmap::IndexMap;

use crate::{
    limit::step::{BACK, State},
    store::GRACE,
    time::Timestamp,
};

/// What ends within this is not looked at closer: clocks may be wrong by as much.
const USUAL: Duration = Duration::from_secs(86_400);

/// How many counters each charge looks at, to drop those that have ended.
const SWEPT: usize = 2;
/// How many counters of a full shard are compared when one has to go.
pub(super) const SAMPLED: usize = 16;

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) counters: IndexMap<Box<[u8]>, Counter, RandomState>,
    capacity: usize,
    /// Where the sweep goes on.
    swept: usize,
    /// Where the next sample begins.
    sampled: usize,
}

/// What is kept under a name.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) state: Option<State>,
    /// Since when everything is refused; the epoch if nothing is.
    pub(super) banned: Timestamp,
    /// When it may be forgotten.
    pub(super) until: Timestamp,
    /// Whether its limit is used up.
    pub(super) spent: bool,
}

impl Counter {
    pub(super) fn replace(&mut self, mut counter: Self) {
        let banned = counter.banned != Timestamp::default();
        if banned || matches!(self.state, Some(State::Count(_))) {
            // Rules with windows of different length may share a name, and a ban may
            // outlast a state.
            counter.until = counter.until.max(self.until);
        }
        *self = counter;
    }
}

impl Shard {
    pub(super) fn new(capacity: usize, hasher: RandomState) -> Self {
        Self { counters: IndexMap::with_hasher(hasher), capacity, swept: 0, sampled: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    /// The counter called `name`, unless it has ended. A clock that was far ahead may have
    /// said when that is: from now on it is no more than the `longest` life away.
    pub(super) fn live(
        &mut self,
        name: &[u8],
        now: Timestamp,
        longest: impl FnOnce() -> Duration,
    ) -> Option<&mut Counter> {
        let counter = self.counters.get_mut(name)?;
        if counter.until <= now {
            // What is written next does not share its end.
            counter.until = Timestamp::default();
            counter.state = None;
            counter.banned = Timestamp::default();
        } else if USUAL < counter.until.since(now) {
            counter.until = counter.until.min(now.plus(longest() + BACK).plus(GRACE));
        }
        Some(counter)
    }

    /// Forgets the counter called `name`, and says whether there was one.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        self.counters.swap_remove(name).is_some()
    }

    /// Drops the ended ones of a few counters.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEPT {
            match self.counters.get_index(self.swept) {
                Some((_, counter)) if counter.until <= now => {
                    self.counters.swap_remove_index(self.swept);
                }
                Some(_) => self.swept += 1,
                None => self.swept = 0,
            }
        }
    }

    /// Keeps `counter`. Says whether a live one had to go for it.
    pub(super) fn put(&mut self, name: &[u8], counter: Counter, now: Timestamp) -> bool {
        match self.counters.get_mut(name) {
            Some(kept) => {
                kept.replace(counter);
                false
            }
            None => self.add(name, counter, now),
        }
    }

    /// Keeps `counter`, whose name is new. Says whether a live one had to go for
    /// it.
    fn add(&mut self, name: &[u8], counter: Counter, now: Timestamp) -> bool {
        let evicted = self.capacity <= self.counters.len() && self.evict(now);
        self.counters.insert(name.into(), counter);
        evicted
    }

    /// Drops the counter that is missed least. Says whether it was live.
    fn evict(&mut self, now: Timestamp) -> bool {
        let length = self.counters.len();
        let sample = (0..SAMPLED.min(length)).map(|it| (self.sampled + it) % length);
        let Some((at, live)) = sample
            .map(|at| (at, &self.counters[at]))
            .min_by_key(|(_, it)| (now < it.until, it.spent, it.until))
            .map(|(at, it)| (at, now < it.until))
        else {
            return false;
        };
        self.counters.swap_remove_index(at);
        // The newest counter has moved to where the dropped one was: go on
        // behind it, or a flood would evict itself and nothing else.
        self.sampled = (at + 1) % length;
        live
    }
}
