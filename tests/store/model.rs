//! A model of a store: it never expires anything, serves one call after the other, and
//! copies all data to try a call.

use std::collections::{HashMap, HashSet};

use tollgate::{
    counter::CounterKey,
    limit::{
        Algorithm, Hits, Outcome,
        step::{self, Snapshot, State, Step, StepResult},
    },
    store::{Charge, Consume, Enforced},
    time::Timestamp,
};

#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) states: HashMap<CounterKey, State>,
    /// The begin of each ban.
    bans: HashMap<CounterKey, Timestamp>,
}

struct Attempt {
    passes: bool,
    over: bool,
    banned: Timestamp,
    before: Snapshot,
    after: Snapshot,
    made: bool,
}

impl Model {
    pub(crate) fn charge(&mut self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        let mut world = self.clone();
        let attempt = |it| world.attempt(it, true, false, now);
        let mut attempts: Vec<_> = charges.iter().map(attempt).collect();
        let over: Vec<_> = charges.iter().zip(attempts.iter().map(|it| it.over)).collect();
        let refused = charges.iter().any(|it| it.refused)
            || over.iter().any(|(it, over)| it.enforced == Enforced::Yes && *over)
            || used_up(&over);
        if refused && charges.iter().any(Charge::depends_on_others) {
            world = self.clone();
            for (charge, trial) in charges.iter().zip(&mut attempts) {
                let make = match charge.consume {
                    Consume::Independent => trial.passes || counts_denied(charge),
                    Consume::AllOrNothing => false,
                    Consume::IfRefused => !trial.passes && counts_denied(charge),
                };
                let last = world.attempt(charge, make, !trial.passes, now);
                if trial.over {
                    trial.made &= make;
                } else {
                    *trial = last;
                }
            }
        }
        *self = world;
        charges.iter().zip(attempts).map(|(it, attempt)| attempt.outcome(it, now)).collect()
    }

    fn attempt(&mut self, charge: &Charge, make: bool, refuse: bool, now: Timestamp) -> Attempt {
        let (counter, limit) = (&charge.counter, &charge.limit);
        let since = self.bans.get(&counter.key).copied().unwrap_or_default();
        let banned = step::ban_end(limit, since, now);
        let state = self.states.get(&counter.key).cloned();
        let Step { passes, before, after, state } =
            step::step(limit, counter.span, state, charge.hits, now);
        let passes = passes && !refuse;
        let shut = matches!(charge.hits, Hits::Add(_)) && now < banned;
        let made = make && !shut;
        if made && let Some(state) = state {
            self.states.insert(counter.key.clone(), state);
            if banned <= now {
                // The ban has ended, also for other rules.
                self.bans.remove(&counter.key);
            }
        }
        let bans = !limit.penalty.is_zero() && !passes && charge.hits.requested() > 0;
        if bans && banned <= now {
            self.bans.insert(counter.key.clone(), now);
        }
        Attempt { passes, over: !passes || shut, banned, before, after, made }
    }
}

impl Attempt {
    fn outcome(self, charge: &Charge, now: Timestamp) -> Outcome {
        let Self { passes, banned, before, after, made, .. } = self;
        let told = if made { after } else { before };
        let answer = StepResult { passes, banned_until: banned, snapshot: told };
        let outcome = step::outcome(&charge.limit, charge.counter.span, charge.hits, answer, now);
        Outcome { counted: outcome.counted && made, ..outcome }
    }
}

fn counts_denied(charge: &Charge) -> bool {
    charge.limit.algorithm == Algorithm::FixedWindow { count_denied: true }
}

/// Whether there are quotas and all of them are exhausted.
fn used_up(over: &[(&Charge, bool)]) -> bool {
    let quotas = over.iter().filter(|(it, _)| matches!(it.enforced, Enforced::Quota(_)));
    let quotas: HashSet<_> = quotas.map(|(it, _)| it.enforced).collect();
    let is_over = |quota| over.iter().any(|(it, over)| it.enforced == quota && *over);
    !quotas.is_empty() && quotas.into_iter().all(is_over)
}
