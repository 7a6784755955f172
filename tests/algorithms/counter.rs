//! One counter with the semantics of the store in memory.

use std::collections::BTreeMap;

use tollgate::{
    limit::{
        Hits, Limit, Outcome,
        step::{self, State, Step, StepResult},
    },
    store::EXPIRY_SLACK,
    time::Timestamp,
};

#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) limit: Limit,
    pub(crate) seed: u64,
    /// The states, by the start of the window if the key contains it.
    pub(crate) kept: BTreeMap<u64, Kept>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    state: Option<State>,
    /// The begin of the ban.
    banned: Timestamp,
    /// The expiry.
    until: Timestamp,
}

impl Counter {
    pub(crate) fn new(limit: &Limit) -> Self {
        Self { limit: limit.clone(), seed: 0, kept: BTreeMap::new() }
    }

    /// A counter with this state and a ban that began at `banned`, without an expiry.
    pub(crate) fn holding(limit: &Limit, state: State, banned: Timestamp, now: u64) -> Self {
        let mut counter = Self::new(limit);
        let until = Timestamp::from_micros(u64::MAX);
        counter.kept.insert(counter.name(now), Kept { state: Some(state), banned, until });
        counter
    }

    fn name(&self, now: u64) -> u64 {
        if !self.limit.has_window_in_key() {
            return 0;
        }
        self.limit.window.span(Timestamp::from_micros(now), self.seed).start.as_micros()
    }

    pub(crate) fn charge(&mut self, hits: Hits, now: u64) -> Outcome {
        self.charge_by(hits, now, now)
    }

    /// [`Self::charge`] where the state expires by the clock of the store.
    pub(crate) fn charge_by(&mut self, hits: Hits, now: u64, keeper: u64) -> Outcome {
        let name = self.name(now);
        let (now, keeper) = (Timestamp::from_micros(now), Timestamp::from_micros(keeper));
        let limit = &self.limit;
        let span = limit.window.span(now, self.seed);
        let kept = self.kept.entry(name).or_default();
        if kept.until <= keeper {
            *kept = Kept::default();
        }
        kept.until = kept.until.min(keeper.plus(step::max_ttl(limit, span)).plus(EXPIRY_SLACK));
        let banned = step::ban_end(limit, kept.banned, now);
        let Step { passes, before, after, state } =
            step::step(limit, span, kept.state.clone(), hits, now);
        let make = !(matches!(hits, Hits::Add(_)) && now < banned);
        let answer = StepResult {
            passes,
            banned_until: banned,
            snapshot: if make { after } else { before },
        };
        let outcome = step::outcome(limit, span, hits, answer, now);
        if make && let Some(state) = state {
            let until = keeper.plus(step::ttl(limit, span, after, now)).plus(EXPIRY_SLACK);
            kept.until = kept.until.max(until);
            kept.state = Some(state);
        }
        if !limit.penalty.is_zero() && !passes && hits.requested() > 0 && banned <= now {
            kept.banned = now;
            kept.until = kept.until.max(keeper.plus(limit.penalty).plus(EXPIRY_SLACK));
        }
        outcome
    }

    /// The stored states, by the names of their counters.
    pub(crate) fn states(&self) -> Vec<(u64, &State)> {
        self.kept.iter().filter_map(|(name, it)| Some((*name, it.state.as_ref()?))).collect()
    }

    /// The outcome of a charge, without making it.
    pub(crate) fn would(&self, hits: Hits, now: u64) -> Outcome {
        self.clone().charge(hits, now)
    }

    pub(crate) fn would_pass(&self, hits: u64, now: u64) -> bool {
        !self.would(Hits::Add(hits), now).over
    }
}
