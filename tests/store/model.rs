//! What a store is to do, in the plainest words: it forgets nothing, serves one
//! call after the other, and copies everything to try a call.

use std::collections::HashMap;

use tollgate::{
    limit::{
        Algorithm, Hits, Outcome,
        step::{self, Answer, State, Step, Told},
    },
    rules::counter_key::CounterKey,
    store::{Charge, Consume},
    time::Timestamp,
};

#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) states: HashMap<CounterKey, State>,
    /// Since when.
    bans: HashMap<CounterKey, Timestamp>,
}

struct Attempt {
    passes: bool,
    over: bool,
    banned: Timestamp,
    before: Told,
    after: Told,
    made: bool,
}

impl Model {
    pub(crate) fn charge(&mut self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        let mut world = self.clone();
        let attempt = |it| world.attempt(it, true, false, now);
        let mut attempts: Vec<_> = charges.iter().map(attempt).collect();
        let refuses = |(it, trial): (&Charge, &Attempt)| it.refused || it.enforced && trial.over;
        let refused = charges.iter().zip(&attempts).any(refuses);
        if refused && charges.iter().any(Charge::depends) {
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
        let banned = step::ban(limit, since, now);
        let state = self.states.get(&counter.key).cloned();
        let Step { passes, before, after, state } =
            step::step(limit, counter.span, state, charge.hits, now);
        let passes = passes && !refuse;
        let shut = matches!(charge.hits, Hits::Add(_)) && now < banned;
        let made = make && !shut;
        if made && let Some(state) = state {
            self.states.insert(counter.key.clone(), state);
            if banned <= now {
                // It is over, whatever another rule says later.
                self.bans.remove(&counter.key);
            }
        }
        let bans = !limit.penalty.is_zero() && !passes && charge.hits.asked() > 0;
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
        let answer = Answer { passes, banned, told };
        let outcome = step::describe(&charge.limit, charge.counter.span, charge.hits, answer, now);
        Outcome { counted: outcome.counted && made, ..outcome }
    }
}

fn counts_denied(charge: &Charge) -> bool {
    charge.limit.algorithm == Algorithm::FixedWindow { count_denied: true }
}
