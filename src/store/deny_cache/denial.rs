//! One refusal.

use std::time::Duration;

use super::MAX_TTL;
use crate::{
    limit::{
        Denial, Limit, Outcome,
        fixed_window::State,
        step::{Snapshot, StepResult},
    },
    store::{Charge, Consume, Enforced},
    time::Timestamp,
};

/// What was refused, and until when it is.
#[derive(Debug)]
pub(super) struct CachedDenial {
    limit: Limit,
    /// When the window began.
    start: Timestamp,
    hits: u64,
    at: Timestamp,
    pub(super) until: Timestamp,
    outcome: Outcome,
}

impl CachedDenial {
    /// What `charge` teaches, of which this became at `now`.
    pub(super) fn of(charge: &Charge, outcome: &Outcome, now: Timestamp) -> Option<Self> {
        let hits = charge.hits.requested();
        let limit = &charge.limit;
        if !outcome.over {
            return None;
        }
        let lasts = match limit.algorithm.info().denial {
            Denial::Never => return None,
            Denial::UntilWindowEnds if limit.penalty.is_zero() => {
                charge.counter.span.end.since(now)
            }
            Denial::UntilWindowEnds | Denial::UntilOneFits => {
                if hits == 0 {
                    return None;
                } else if !limit.penalty.is_zero() {
                    outcome.banned
                } else if hits == 1 && outcome.remaining == 0 {
                    outcome.retry_after?
                } else {
                    return None;
                }
            }
        };
        let until = now.plus(lasts.min(MAX_TTL));
        let start = charge.counter.span.start;
        Some(Self { limit: limit.clone(), start, hits, at: now, until, outcome: *outcome })
    }

    /// Whether it is of use at `now`. A clock that has stepped back proves
    /// nothing.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        self.at <= now && now < self.until
    }

    /// What the store would say of `charge`, if this tells.
    pub(super) fn answer(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        if !self.holds(now) || self.limit != charge.limit {
            return None;
        }
        let asked = charge.hits.requested();
        let window = self.limit.algorithm.info().denial == Denial::UntilWindowEnds;
        if window && self.start != charge.counter.span.start {
            return None;
        }
        let outcome = if window && self.limit.penalty.is_zero() {
            let used = self.outcome.used;
            // One that is not over its limit yet may have to count what it refuses, but
            // not if the call then costs nothing.
            let costs =
                !(charge.enforced == Enforced::Yes && charge.consume == Consume::AllOrNothing);
            let needed = if charge.counts_denied() && costs { 0 } else { asked };
            if used.saturating_add(needed) <= self.limit.requests.into() {
                return None;
            }
            let told = Snapshot::Count(State { start: Timestamp::default(), count: used });
            charge.outcome(
                StepResult { passes: false, banned_until: now, snapshot: told },
                false,
                now,
            )
        } else if asked == self.hits {
            let passed = now.since(self.at);
            let left = |it: Duration| it.saturating_sub(passed);
            Outcome {
                reset_after: left(self.outcome.reset_after),
                retry_after: self.outcome.retry_after.map(left),
                banned: left(self.outcome.banned),
                ..self.outcome
            }
        } else {
            return None;
        };
        Some(Outcome { counted: false, cached: true, ..outcome })
    }
}
