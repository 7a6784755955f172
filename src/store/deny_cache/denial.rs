//! A cached denial: a charge that was over its limit.

use std::time::Duration;

use crate::{
    limit::{
        Limit, Outcome, RefusalEnd,
        fixed_window::State,
        step::{Snapshot, StepResult},
    },
    store::{Charge, Consume, Enforced},
    time::Timestamp,
};

/// The longest time for which a denial is cached.
pub const MAX_TTL: Duration = Duration::from_secs(1);

/// A charge that was over its limit.
#[derive(Debug)]
pub(super) struct CachedDenial {
    limit: Limit,
    window_start: Timestamp,
    hits: u64,
    denied_at: Timestamp,
    pub(super) expires_at: Timestamp,
    outcome: Outcome,
}

impl CachedDenial {
    /// The denial to cache for a charge with this outcome. `None` if the charge passed, or
    /// may pass at any time.
    pub(super) fn new(charge: &Charge, outcome: &Outcome, now: Timestamp) -> Option<Self> {
        if !outcome.over {
            return None;
        }
        let ttl = ttl(charge, outcome, now)?;
        Some(Self {
            limit: charge.limit.clone(),
            window_start: charge.counter.span.start,
            hits: charge.hits.requested(),
            denied_at: now,
            expires_at: now.plus(ttl.min(MAX_TTL)),
            outcome: *outcome,
        })
    }

    /// True from the denial until it expires. After a clock has stepped back to before the
    /// denial it is unusable.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.denied_at <= now && now < self.expires_at
    }

    /// The outcome that the store would return for `charge`, if it follows from the denial.
    pub(super) fn outcome_for(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        if !self.is_valid(now) || self.limit != charge.limit {
            return None;
        }
        let fixed_window = self.limit.algorithm.info().refusal_end == RefusalEnd::WindowEnd;
        if fixed_window && self.window_start != charge.counter.span.start {
            return None;
        }
        let outcome = if fixed_window && self.limit.penalty.is_zero() {
            self.fixed_window_outcome(charge, now)?
        } else if charge.hits.requested() == self.hits {
            self.repeated_outcome(now)
        } else {
            return None;
        };
        Some(Outcome { counted: false, cached: true, ..outcome })
    }

    /// The outcome of a fixed window without a penalty, if it has no room for the charge.
    fn fixed_window_outcome(&self, charge: &Charge, now: Timestamp) -> Option<Outcome> {
        let used = self.outcome.used;
        let costs_nothing =
            charge.enforced == Enforced::Yes && charge.consume == Consume::AllOrNothing;
        // A window that is not over its limit yet may have to count the denied hits.
        let must_count = charge.counts_denied() && !costs_nothing;
        let hits = if must_count { 0 } else { charge.hits.requested() };
        if used.saturating_add(hits) <= self.limit.requests.into() {
            return None;
        }
        let result = StepResult {
            passes: false,
            banned_until: now,
            snapshot: Snapshot::Count(State { start: Timestamp::default(), count: used }),
        };
        Some(charge.outcome(result, now))
    }

    /// The same outcome, with the time that has passed subtracted.
    fn repeated_outcome(&self, now: Timestamp) -> Outcome {
        let elapsed = now.since(self.denied_at);
        Outcome {
            reset_after: self.outcome.reset_after.saturating_sub(elapsed),
            retry_after: self.outcome.retry_after.map(|wait| wait.saturating_sub(elapsed)),
            banned: self.outcome.banned.saturating_sub(elapsed),
            ..self.outcome
        }
    }
}

/// The time for which the denial holds. `None` if it may be lifted at any time.
fn ttl(charge: &Charge, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
    let hits = charge.hits.requested();
    let has_penalty = !charge.limit.penalty.is_zero();
    match charge.limit.algorithm.info().refusal_end {
        RefusalEnd::AnyTime => None,
        RefusalEnd::WindowEnd if !has_penalty => Some(charge.counter.span.end.since(now)),
        RefusalEnd::WindowEnd | RefusalEnd::OneFits => {
            if hits == 0 {
                None
            } else if has_penalty {
                Some(outcome.banned)
            } else if hits == 1 && outcome.remaining == 0 {
                outcome.retry_after
            } else {
                None
            }
        }
    }
}
