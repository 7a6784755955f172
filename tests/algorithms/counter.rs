//! One counter, kept as the store in memory keeps it.

use std::collections::BTreeMap;

use tollgate::{
    limit::{
        Algorithm, Hits, Limit, Outcome,
        step::{self, Answer, State, Step},
    },
    store::GRACE,
    time::Timestamp,
};

#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) limit: Limit,
    pub(crate) seed: u64,
    /// By the start of the window, where that is part of the name: the state,
    /// and when it is forgotten.
    pub(crate) states: BTreeMap<u64, (State, Timestamp)>,
    pub(crate) ban: Option<(Timestamp, Timestamp)>,
}

impl Counter {
    pub(crate) fn new(limit: &Limit) -> Self {
        Self { limit: limit.clone(), seed: 0, states: BTreeMap::new(), ban: None }
    }

    /// One that holds `state`, which nobody will forget.
    pub(crate) fn holding(limit: &Limit, state: State, ban: Timestamp, now: u64) -> Self {
        let mut counter = Self::new(limit);
        let for_ever = Timestamp::from_micros(u64::MAX);
        counter.states.insert(counter.name(now), (state, for_ever));
        counter.ban = (!limit.penalty.is_zero()).then_some((ban, for_ever));
        counter
    }

    fn name(&self, now: u64) -> u64 {
        match self.limit.algorithm {
            Algorithm::FixedWindow { .. } => {
                self.limit.window.span(Timestamp::from_micros(now), self.seed).start.as_micros()
            }
            _ => 0,
        }
    }

    pub(crate) fn charge(&mut self, hits: Hits, now: u64) -> Outcome {
        let name = self.name(now);
        let now = Timestamp::from_micros(now);
        let limit = &self.limit;
        let span = limit.window.span(now, self.seed);
        let banned = match self.ban {
            Some((until, kept)) if now < kept => step::ban(limit, until, now),
            _ => Timestamp::default(),
        };
        let kept = self.states.get(&name).filter(|(_, until)| now < *until);
        let Step { passes, before, after, state } =
            step::step(limit, span, kept.map(|it| it.0.clone()), hits, now);
        let make = !(matches!(hits, Hits::Add(_)) && now < banned);
        let answer = Answer { passes, banned, told: if make { after } else { before } };
        let outcome = step::describe(limit, span, hits, answer, now);
        if make && let Some(state) = state {
            let until = step::forget(limit, span, after, now).plus(GRACE);
            let until = until.max(self.states.get(&name).map(|it| it.1).unwrap_or_default());
            self.states.insert(name, (state, until));
        }
        if !limit.penalty.is_zero() && !passes && hits.asked() > 0 && banned <= now {
            let until = now.plus(limit.penalty);
            self.ban = Some((until, until.plus(GRACE)));
        }
        outcome
    }

    /// What would become of it.
    pub(crate) fn would(&self, hits: Hits, now: u64) -> Outcome {
        self.clone().charge(hits, now)
    }

    pub(crate) fn would_pass(&self, hits: u64, now: u64) -> bool {
        !self.would(Hits::Add(hits), now).over
    }
}
