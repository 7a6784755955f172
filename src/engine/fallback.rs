//! What is decided when the store does not answer, or not in time.

use std::{iter, sync::Arc, time::Duration};

use smallvec::SmallVec;

use crate::{
    engine::{
        decision::{Governed, Policies},
        failures::Failures,
    },
    limit::{Hits, Limit, Outcome},
    rules::spec::OnError,
    store::{
        Charge, OnTimeout, Results, Store, StoreError, StoreStats,
        enforced::Enforcement,
        memory::{Bounds, Memory},
    },
    time::Timestamp,
};

/// How long a client is told to wait where nobody can know: about as long as it
/// takes to find a server again that is back.
const AGAIN: Duration = Duration::from_secs(1);

/// What happens while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FallbackSettings {
    /// What is decided by limits that do not say; none leaves a request with
    /// such a limit without a decision.
    pub on_error: Option<OnError>,
    /// When a request is answered, counted from when it comes, if there is a
    /// decision without the store. All others wait as long as the store and the
    /// caller do.
    pub deadline: Duration,
    /// Which part of each limit this process grants by itself: above 0, at
    /// most 1.
    pub local_share: f64,
    /// How much this process keeps for that.
    pub bounds: Bounds,
}

impl Default for FallbackSettings {
    /// Nothing is decided, unless a rule says so.
    fn default() -> Self {
        let deadline = Duration::from_millis(15);
        Self { on_error: None, deadline, local_share: 1.0, bounds: Bounds::default() }
    }
}

/// Decides without the store.
#[derive(Debug)]
pub struct Fallback {
    settings: FallbackSettings,
    local: Arc<Memory>,
    failures: Failures,
}

impl Fallback {
    /// One that has counted nothing yet.
    pub fn new(settings: FallbackSettings) -> Self {
        let local = Arc::new(Memory::with_bounds(settings.bounds));
        let failures = Failures::new(
            "a call was not decided by the counter store",
            "calls were not decided by the counter store",
        );
        Self { settings, local, failures }
    }

    /// Reports the memory use of the local counters through `readings`.
    pub fn publish_usage(&self, readings: &StoreStats) {
        self.local.publish_usage(readings);
    }

    /// What decides each limit without the store, if anything does.
    pub(super) fn policies(&self, governed: &[Governed]) -> SmallVec<[Option<OnError>; 2]> {
        let default = self.settings.on_error;
        let mut policies = SmallVec::new();
        for it in governed {
            match it {
                Governed::Unmatched { .. } | Governed::Unlimited(_) => {}
                Governed::Rule(rule, limits) => {
                    let limits = limits.iter().map(|it| &rule.spec.limits[*it]);
                    policies.extend(limits.map(|it| it.on_error.or(default)));
                }
                Governed::Override(_) => policies.push(default),
            }
        }
        policies
    }

    /// How long to wait for the store, if there is something to decide without it
    /// (`decides`) or not: until a quarter is left, for the answer on its way, of the
    /// deadline or the `patience` after which the caller gives up. None is as long as
    /// the store takes.
    pub(super) fn wait(&self, decides: bool, patience: Option<Duration>) -> Option<Duration> {
        let deadline = decides.then_some(self.settings.deadline);
        deadline.into_iter().chain(patience).min().map(|it| it / 4 * 3)
    }

    /// The outcome of each charge: that of the store, or by the charge's policy where
    /// there is none. Says which policies those were.
    ///
    /// A refusal that is known refuses the request, so what is not known needs no policy
    /// then.
    ///
    /// # Errors
    ///
    /// If there is neither an outcome nor a policy for a charge that matters.
    pub(super) async fn decide(
        &self,
        charges: &[Charge],
        policies: &[Option<OnError>],
        results: Results,
        now: Timestamp,
    ) -> Result<(SmallVec<[Outcome; 4]>, Policies), StoreError> {
        if results.len() != charges.len() {
            return Err(StoreError::Failed("it left a charge unanswered".into()));
        }
        if results.iter().all(Result::is_ok) {
            return Ok((results.into_iter().flatten().collect(), Policies::new()));
        }
        if let Some(error) = results.iter().find_map(|it| it.as_ref().err()) {
            self.failures.failed(error);
        }
        let known = |result: &Result<Outcome, _>| result.as_ref().ok().map(|it| it.over);
        let known = charges.iter().zip(&results).map(|(it, result)| (it, known(result)));
        let refused = Enforcement::new(known).refuses();
        for (policy, result) in policies.iter().zip(&results) {
            if let (None, Err(error), false) = (policy, result, refused) {
                return Err(error.clone());
            }
        }
        let over = iter::zip(charges, policies).zip(&results);
        let over = over.map(|((charge, policy), result)| match (result, policy) {
            (Ok(outcome), _) => (charge, Some(outcome.over)),
            (Err(_), Some(OnError::Local)) => (charge, None),
            (Err(_), Some(OnError::Deny)) => (charge, Some(!charge.is_refund())),
            (Err(_), Some(OnError::Allow) | None) => {
                (charge, Some(charge.outcome_if_first(now).over))
            }
        });
        let enforcement = Enforcement::new(over);
        // Together, as some may depend on each other.
        let mut shares: SmallVec<[Charge; 2]> = SmallVec::new();
        for ((charge, policy), result) in iter::zip(charges, policies).zip(&results) {
            if result.is_err() && *policy == Some(OnError::Local) {
                shares.push(self.locally(charge, &enforcement));
            }
        }
        let mut shares = self.local.charge(&shares, now, None).await.into_iter();
        let mut outcomes = SmallVec::new();
        let mut used = Policies::new();
        for ((charge, policy), result) in iter::zip(charges, policies).zip(results) {
            if result.is_err() {
                used.extend(*policy);
            }
            outcomes.push(match (result, policy) {
                (Ok(outcome), _) => outcome,
                (Err(_), Some(OnError::Deny)) => deny(charge, now),
                (Err(_), Some(OnError::Local)) => {
                    let outcome = shares.next().unwrap_or_else(|| Ok(allow(charge, now)))?;
                    passes_later(charge, outcome, now)
                }
                (Err(_), Some(OnError::Allow) | None) => allow(charge, now),
            });
        }
        Ok((outcomes, used))
    }

    /// What decides `charge` by this policy if the store does not answer in time.
    pub(super) fn on_timeout(
        &self,
        charge: &Charge,
        policy: Option<OnError>,
        now: Timestamp,
    ) -> OnTimeout {
        match policy {
            None => OnTimeout::Fail,
            Some(OnError::Deny) => OnTimeout::Deny,
            Some(OnError::Allow) => OnTimeout::Allow,
            Some(OnError::Local) => match self.local.would_refuse(&self.shared(charge), now) {
                true => OnTimeout::Deny,
                false => OnTimeout::Allow,
            },
        }
    }

    /// The charge as it is made here, in the place of the store.
    fn locally(&self, charge: &Charge, enforcement: &Enforcement) -> Charge {
        let spared = enforcement.refuses() && charge.depends_on_others() && !charge.is_refund();
        Charge {
            hits: if spared { Hits::Add(0) } else { charge.hits },
            enforced: enforcement.remaining(charge.enforced),
            ..self.shared(charge)
        }
    }

    /// The charge, to this process' share of the limit.
    fn shared(&self, charge: &Charge) -> Charge {
        let limit = share(&charge.limit, self.settings.local_share);
        Charge { limit, ..charge.clone() }
    }
}

/// `share` of `limit`, to the nearest whole number and at least 1, unless the
/// limit is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is at most `it`")]
fn share(limit: &Limit, share: f64) -> Limit {
    let part = |it: u32| ((f64::from(it) * share).round() as u32).max(it.min(1));
    let algorithm = limit.algorithm.with_burst(part);
    Limit { requests: part(limit.requests), algorithm, ..limit.clone() }
}

/// Lets everything pass that may ever pass, again and again.
fn allow(charge: &Charge, now: Timestamp) -> Outcome {
    let alone = charge.outcome_if_first(now);
    let retry_after = if alone.over { alone.retry_after } else { Some(Duration::ZERO) };
    Outcome { retry_after, ..alone }
}

/// Refuses whatever asks. What is given back is never refused.
fn deny(charge: &Charge, now: Timestamp) -> Outcome {
    let over = !charge.is_refund();
    let alone = charge.outcome_if_first(now);
    let retry_after = match over {
        true if alone.over => alone.retry_after,
        true => Some(AGAIN),
        false => Some(Duration::ZERO),
    };
    Outcome {
        over,
        counted: false,
        used: 0,
        remaining: 0,
        reset_after: AGAIN,
        retry_after,
        banned: Duration::ZERO,
        cached: false,
    }
}

/// What is more than this process' share is not more than the limit: it may
/// pass once the store answers.
fn passes_later(charge: &Charge, outcome: Outcome, now: Timestamp) -> Outcome {
    match outcome.retry_after {
        None if outcome.over && !charge.outcome_if_first(now).over => {
            Outcome { retry_after: Some(AGAIN), ..outcome }
        }
        _ => outcome,
    }
}

#[cfg(test)]
mod tests;
