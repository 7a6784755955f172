//! A model of a store: it never expires anything, serves one call after the other, and
//! copies all data to try a call.

use std::collections::{HashMap, HashSet};

use tollgate::{
    counter::CounterKey,
    limit::{
        Algorithm, Hits, Outcome,
        hits::{Amount, LimitCheck},
        step::{self, Snapshot, State, Step, StepResult},
    },
    store::{Charge, Consume, CounterChange, Enforced},
    time::Timestamp,
};

#[derive(Clone, Default)]
pub(crate) struct ModelStore {
    pub(crate) states: HashMap<CounterKey, State>,
    /// The begin of each ban.
    bans: HashMap<CounterKey, Timestamp>,
}

/// One charge that is tried on a copy of the data.
struct Attempt {
    passes: bool,
    /// The limit is exceeded, or the counter is banned.
    over: bool,
    banned_until: Timestamp,
    before: Snapshot,
    after: Snapshot,
    /// Whether the state was written.
    written: bool,
}

impl ModelStore {
    pub(crate) fn charge(&mut self, charges: &[Charge], now: Timestamp) -> Vec<Outcome> {
        let mut trial = self.clone();
        let mut attempts = Vec::new();
        for charge in charges {
            attempts.push(trial.attempt(charge, true, false, now));
        }
        if is_refused(charges, &attempts) && depend_on_each_other(charges) {
            trial = self.clone();
            for (charge, attempt) in charges.iter().zip(&mut attempts) {
                let write = match charge.consume {
                    Consume::Independent => attempt.passes || counts_denied(charge),
                    Consume::AllOrNothing => false,
                    Consume::IfRefused => !attempt.passes && counts_denied(charge),
                };
                let last = trial.attempt(charge, write, !attempt.passes, now);
                if attempt.over {
                    attempt.written &= write;
                } else {
                    *attempt = last;
                }
            }
        }
        *self = trial;
        let mut outcomes = Vec::new();
        for (charge, attempt) in charges.iter().zip(attempts) {
            outcomes.push(attempt.outcome(charge, now));
        }
        outcomes
    }

    /// Changes the counter of a charge, unless `change` is `None`, and looks at it.
    pub(crate) fn operate(
        &mut self,
        charge: &Charge,
        change: Option<CounterChange>,
        now: Timestamp,
    ) -> Outcome {
        let (counter, limit) = (&charge.counter, &charge.limit);
        if change.is_some() {
            self.states.remove(&counter.key);
            self.bans.remove(&counter.key);
        }
        if let Some(CounterChange::Set(used)) = change {
            let amount = Amount { hits: Hits::Add(used), check: LimitCheck::Skip };
            let step = step::step_with(limit, counter.span, None, amount, now);
            if let Some(state) = step.state {
                self.states.insert(counter.key.clone(), state);
            }
        }
        let look = Charge {
            hits: Hits::Add(0),
            consume: Consume::Independent,
            enforced: Enforced::No,
            refused: false,
            ..charge.clone()
        };
        self.charge(&[look], now)[0]
    }

    fn attempt(&mut self, charge: &Charge, write: bool, refuse: bool, now: Timestamp) -> Attempt {
        let (counter, limit) = (&charge.counter, &charge.limit);
        let since = self.bans.get(&counter.key).copied().unwrap_or_default();
        let banned_until = step::ban_end(limit, since, now);
        let state = self.states.get(&counter.key).cloned();
        let Step { passes, before, after, state } =
            step::step(limit, counter.span, state, charge.hits, now);
        let passes = passes && !refuse;
        let is_banned = matches!(charge.hits, Hits::Add(_)) && now < banned_until;
        let written = write && !is_banned;
        if written && let Some(state) = state {
            self.states.insert(counter.key.clone(), state);
            if banned_until <= now {
                // The ban has ended, also for other rules.
                self.bans.remove(&counter.key);
            }
        }
        let starts_ban = !limit.penalty.is_zero() && !passes && charge.hits.requested() > 0;
        if starts_ban && banned_until <= now {
            self.bans.insert(counter.key.clone(), now);
        }
        Attempt { passes, over: !passes || is_banned, banned_until, before, after, written }
    }
}

impl Attempt {
    fn outcome(self, charge: &Charge, now: Timestamp) -> Outcome {
        let snapshot = if self.written { self.after } else { self.before };
        let (passes, banned_until) = (self.passes, self.banned_until);
        let result = StepResult { passes, banned_until, snapshot };
        let outcome = step::outcome(&charge.limit, charge.counter.span, charge.hits, result, now);
        Outcome { counted: outcome.counted && self.written, ..outcome }
    }
}

fn counts_denied(charge: &Charge) -> bool {
    charge.limit.algorithm == Algorithm::FixedWindow { count_denied: true }
}

fn depend_on_each_other(charges: &[Charge]) -> bool {
    charges.iter().any(Charge::depends_on_others)
}

/// Whether an enforced limit or all quotas refuse the call, or another limit has refused it.
fn is_refused(charges: &[Charge], attempts: &[Attempt]) -> bool {
    let (mut quotas, mut exhausted) = (HashSet::new(), HashSet::new());
    for (charge, attempt) in charges.iter().zip(attempts) {
        if charge.refused || charge.enforced == Enforced::Yes && attempt.over {
            return true;
        }
        if let Enforced::Quota(quota) = charge.enforced {
            quotas.insert(quota);
            if attempt.over {
                exhausted.insert(quota);
            }
        }
    }
    !quotas.is_empty() && quotas == exhausted
}
