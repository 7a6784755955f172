//! A part of the counters, and how it stays small.

use foldhash::quality::RandomState;
use indexmap::IndexMap;

use crate::{limit::step::State, time::Timestamp};

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

#[derive(Debug)]
pub(super) struct Counter {
    pub(super) kept: Kept,
    /// When it may be forgotten.
    pub(super) until: Timestamp,
    /// Whether its limit is used up.
    pub(super) spent: bool,
}

impl Counter {
    pub(super) fn replace(&mut self, mut counter: Self) {
        if let Kept::State(State::Count(_)) = self.kept {
            // Rules with windows of different length may share a name.
            counter.until = counter.until.max(self.until);
        }
        *self = counter;
    }
}

/// What is kept under a name.
#[derive(Debug)]
pub(super) enum Kept {
    /// How a counter stands.
    State(State),
    /// Until when everything is refused.
    Ban(Timestamp),
}

impl Kept {
    pub(super) fn state(&self) -> Option<State> {
        if let Self::State(it) = self { Some(it.clone()) } else { None }
    }

    pub(super) fn ban(&self) -> Option<Timestamp> {
        if let Self::Ban(it) = self { Some(*it) } else { None }
    }
}

impl Shard {
    pub(super) fn new(capacity: usize, hasher: RandomState) -> Self {
        Self { counters: IndexMap::with_hasher(hasher), capacity, swept: 0, sampled: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    pub(super) fn get(&self, name: &[u8], now: Timestamp) -> Option<&Kept> {
        self.counters.get(name).filter(|it| now < it.until).map(|it| &it.kept)
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
    pub(super) fn add(&mut self, name: &[u8], counter: Counter, now: Timestamp) -> bool {
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
