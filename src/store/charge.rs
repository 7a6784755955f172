//! Charges: requests to a store to count hits.

use crate::{
    counter::CounterRef,
    limit::{
        Hits, Limit, Outcome,
        step::{self, Step, StepResult},
    },
    time::Timestamp,
};

/// A charge to one counter.
///
/// The charges of one call belong together: they are the limits that apply to one
/// request. If an [enforced](Enforced) charge is over its limit, the call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The counter and its current window.
    pub counter: CounterRef,
    /// The limit of the counter.
    pub limit: Limit,
    /// The hits to add or give back.
    pub hits: Hits,
    /// The effect on the counter if the call is refused.
    pub consume: Consume,
    /// Controls whether the charge can refuse the call.
    pub enforced: Enforced,
    /// The call is already refused, by a charge that is not part of this store call.
    pub refused: bool,
    /// The decision if the store does not reply in time.
    pub on_timeout: OnTimeout,
}

/// The decision about a charge if the store does not reply in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// The request fails, unless another charge refuses it.
    Fail,
    /// The charge counts as over its limit.
    Deny,
    /// The charge passes, unless it exceeds the capacity of its limit.
    Allow,
}

/// Controls whether a charge can refuse its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforced {
    /// The charge never refuses the call.
    No,
    /// The charge refuses the call if it is over its limit.
    Yes,
    /// The charge belongs to the quota with this number. The call is refused if each of
    /// its quotas has a charge that is over its limit.
    Quota(usize),
}

/// The effect of a charge on its counter if its call is [refused](Enforced).
///
/// If all charges of a call are [independent](Self::Independent), stores may serve other
/// calls between them. Otherwise the call is one atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consume {
    /// The same effect as in a call of its own.
    Independent,
    /// No effect: the counter stays as it is.
    AllOrNothing,
    /// The same effect as in a call of its own if the charge is over its limit, and
    /// otherwise none. Envoy's reference service does this when it is configured to stop
    /// counting.
    IfRefused,
}

impl Charge {
    /// True if the charge gives hits back. Refunds are never over a limit.
    pub const fn is_refund(&self) -> bool {
        matches!(self.hits, Hits::Refund(_))
    }

    /// The outcome of the charge if the counter is unused.
    pub fn outcome_if_first(&self, now: Timestamp) -> Outcome {
        let Step { passes, after, .. } =
            step::step(&self.limit, self.counter.span, None, self.hits, now);
        let result = StepResult { passes, banned_until: Timestamp::default(), snapshot: after };
        self.outcome(result, now)
    }

    /// True if the effect of the charge depends on the other charges of its call.
    pub fn depends_on_others(&self) -> bool {
        self.consume != Consume::Independent
    }

    /// True if the charge is applied even though its call is refused. `passes` is the
    /// algorithm's decision about the charge itself.
    pub(super) fn is_applied_if_call_refused(&self, passes: bool) -> bool {
        match self.consume {
            Consume::Independent => passes || self.counts_denied(),
            Consume::AllOrNothing => false,
            Consume::IfRefused => !passes && self.counts_denied(),
        }
    }

    /// True if refused hits are counted.
    pub(super) fn counts_denied(&self) -> bool {
        self.limit.algorithm.counts_denied()
    }

    /// The outcome of the charge, which was applied with the given result.
    pub(super) fn outcome(&self, result: StepResult, now: Timestamp) -> Outcome {
        step::outcome(&self.limit, self.counter.span, self.hits, result, now)
    }

    /// The outcome of the charge, which was computed but not applied.
    pub(super) fn skipped_outcome(&self, result: StepResult, now: Timestamp) -> Outcome {
        Outcome { counted: false, ..self.outcome(result, now) }
    }
}

/// A charge of 0 hits that reads one counter.
pub(super) fn peek_charge(counter: &CounterRef, limit: &Limit) -> Charge {
    Charge {
        counter: counter.clone(),
        limit: limit.clone(),
        hits: Hits::Add(0),
        consume: Consume::Independent,
        enforced: Enforced::No,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}
