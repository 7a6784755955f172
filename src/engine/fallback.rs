//! Decides when the store does not answer in time.

use std::{fmt, iter, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::decision::{Match, Outcomes, UsedPolicies};
use crate::{
    counter::CounterRef,
    limit::{Hits, Limit, Outcome},
    rules::spec::OnError,
    store::{
        CallTime, Charge, CounterChange, Counters as _, OnTimeout, Results, Store, StoreError,
        StoreStats,
        enforced::Enforcement,
        memory::{Bounds, Memory},
    },
    time::Timestamp,
    warnings::WarningLimiter,
};

/// The wait sent to clients during an outage: about the time to reconnect to a
/// server that is back.
const OUTAGE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decisions while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FallbackSettings {
    /// The policy of limits without their own; `None` fails requests with such a
    /// limit.
    pub on_error: Option<OnError>,
    /// The time from a request to its answer, if every limit has a policy. Other
    /// requests wait for as long as the store and the caller do.
    pub deadline: Duration,
    /// The fraction of each limit that this process grants on its own: above 0, at
    /// most 1.
    pub local_share: f64,
    /// Bounds on the counters for that.
    pub bounds: Bounds,
}

impl Default for FallbackSettings {
    /// No policy: requests fail unless a rule has one.
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
    failures: WarningLimiter,
}

/// The policy of each limit of a request; `None` fails the request.
pub(super) type LimitPolicies = SmallVec<[Option<OnError>; 2]>;

/// The outcomes of all charges.
pub(super) struct Decided {
    pub(super) outcomes: Outcomes,
    /// One policy for each charge without an answer.
    pub(super) used: UsedPolicies,
}

impl Fallback {
    /// Starts with unused counters.
    pub fn new(settings: FallbackSettings) -> Self {
        let local = Arc::new(Memory::with_bounds(settings.bounds));
        let failures = WarningLimiter::new(
            "a call was not decided by the counter store",
            "calls were not decided by the counter store",
        );
        Self { settings, local, failures }
    }

    /// The policy of limits without their own; `None` fails requests with such a limit.
    pub fn default_policy(&self) -> Option<OnError> {
        self.settings.on_error
    }

    /// Publishes the memory use of the local counters to `stats`.
    pub fn publish_usage(&self, stats: &StoreStats) {
        self.local.publish_usage(stats);
    }

    /// The local counters. While they are held, their memory use is published.
    pub fn local_counters(&self) -> Arc<Memory> {
        Arc::clone(&self.local)
    }

    /// The policy of each limit that applies, in order.
    pub(super) fn policies(&self, matches: &[Match]) -> LimitPolicies {
        let default = self.settings.on_error;
        let mut policies = LimitPolicies::new();
        for found in matches {
            match found {
                Match::UnknownDomain | Match::None | Match::Replaced(_) | Match::Unlimited(_) => {}
                Match::Override(_) => policies.push(default),
                Match::Rule(rule, limits) => {
                    for limit in limits {
                        policies.push(rule.spec.limits[*limit].on_error.or(default));
                    }
                }
            }
        }
        policies
    }

    /// The time for which the store is waited for: three quarters of the deadline, if
    /// every limit has a policy, and of the caller's timeout. The rest is for the way
    /// of the answer. `None` waits for as long as the store takes.
    pub(super) fn store_timeout(
        &self,
        has_policies: bool,
        timeout: Option<Duration>,
    ) -> Option<Duration> {
        let deadline = self.settings.deadline;
        let total = match timeout {
            Some(timeout) if has_policies => timeout.min(deadline),
            Some(timeout) => timeout,
            None if has_policies => deadline,
            None => return None,
        };
        Some(total / 4 * 3)
    }

    /// Completes the results of the store: each charge without an outcome gets one by
    /// its policy. If the known outcomes refuse the request, the others need no
    /// policy.
    ///
    /// # Errors
    ///
    /// If a charge that matters has neither an outcome nor a policy.
    pub(super) async fn decide(
        &self,
        charges: &[Charge],
        policies: &LimitPolicies,
        results: Results,
        now: Timestamp,
    ) -> Result<Decided, StoreError> {
        if results.len() != charges.len() {
            return Err(StoreError::Failed("it left a charge unanswered".into()));
        }
        let mut first_error = None;
        let mut outcomes = Outcomes::new();
        for result in &results {
            match result {
                Ok(outcome) => outcomes.push(*outcome),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let Some(error) = first_error else {
            return Ok(Decided { outcomes, used: UsedPolicies::new() });
        };
        self.failures.warn(&Undecided { error, policies, results: &results });
        if !is_refused(charges, &results) {
            for (policy, result) in iter::zip(policies, &results) {
                if policy.is_none()
                    && let Err(error) = result
                {
                    return Err(error.clone());
                }
            }
        }
        let mut local = self.charge_locally(charges, policies, &results, now).await.into_iter();
        let mut decided = Decided { outcomes: Outcomes::new(), used: UsedPolicies::new() };
        for (position, result) in results.into_iter().enumerate() {
            let (charge, policy) = (&charges[position], policies[position]);
            if result.is_err() {
                decided.used.extend(policy);
            }
            decided.outcomes.push(match (result, policy) {
                (Ok(outcome), _) => outcome,
                (Err(_), Some(OnError::Deny)) => deny(charge, now),
                (Err(_), Some(OnError::Local)) => match local.next() {
                    Some(outcome) => retry_when_store_is_back(charge, outcome?, now),
                    None => allow(charge, now),
                },
                (Err(_), Some(OnError::Allow) | None) => allow(charge, now),
            });
        }
        Ok(decided)
    }

    /// Makes the unanswered charges with the policy `local` in this process, in one
    /// call because they may depend on each other.
    async fn charge_locally(
        &self,
        charges: &[Charge],
        policies: &LimitPolicies,
        results: &Results,
        now: Timestamp,
    ) -> Results {
        let mut over = SmallVec::<[Option<bool>; 4]>::new();
        for (position, result) in results.iter().enumerate() {
            let charge = &charges[position];
            over.push(match (result, policies[position]) {
                (Ok(outcome), _) => Some(outcome.over),
                (Err(_), Some(OnError::Local)) => None,
                (Err(_), Some(OnError::Deny)) => Some(!charge.is_refund()),
                (Err(_), Some(OnError::Allow) | None) => Some(charge.outcome_if_first(now).over),
            });
        }
        let enforcement = Enforcement::new(iter::zip(charges, over));
        let mut local: SmallVec<[Charge; 2]> = SmallVec::new();
        for (position, result) in results.iter().enumerate() {
            if result.is_err() && policies[position] == Some(OnError::Local) {
                local.push(self.local_charge(&charges[position], &enforcement));
            }
        }
        self.local.charge(&local, now, None).await
    }

    /// Forgets what this process has counted locally. Other instances keep their counts.
    pub(super) async fn forget(&self, counter: &CounterRef, limit: &Limit, now: Timestamp) {
        let limit = share(limit, self.settings.local_share);
        // Memory always deletes.
        let _ = self.local.change(counter, &limit, CounterChange::Reset, CallTime::at(now)).await;
    }

    /// The effect of `policy` on `charge` if the store does not answer in time.
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
            Some(OnError::Local) => {
                if self.local.would_refuse(&self.local_share(charge), now) {
                    OnTimeout::Deny
                } else {
                    OnTimeout::Allow
                }
            }
        }
    }

    /// The charge as it is made here.
    fn local_charge(&self, charge: &Charge, enforcement: &Enforcement) -> Charge {
        let looks_only = enforcement.refuses() && charge.depends_on_others() && !charge.is_refund();
        Charge {
            hits: if looks_only { Hits::Add(0) } else { charge.hits },
            enforced: enforcement.remaining(charge.enforced),
            ..self.local_share(charge)
        }
    }

    /// The charge with this process's share of its limit.
    fn local_share(&self, charge: &Charge) -> Charge {
        let limit = share(&charge.limit, self.settings.local_share);
        Charge { limit, ..charge.clone() }
    }
}

/// A failure of the store, and its effect on the call, for the log.
struct Undecided<'a> {
    error: &'a StoreError,
    policies: &'a LimitPolicies,
    results: &'a Results,
}

impl fmt::Display for Undecided<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: SmallVec<[&str; 2]> = SmallVec::new();
        for (policy, result) in iter::zip(self.policies, self.results) {
            let name = policy.map_or("error", OnError::name);
            if result.is_err() && !names.contains(&name) {
                names.push(name);
            }
        }
        write!(f, "{}; on_error decides: {}", self.error, names.join(" and "))
    }
}

fn is_refused(charges: &[Charge], results: &Results) -> bool {
    let over = results.iter().map(|result| result.as_ref().ok().map(|outcome| outcome.over));
    Enforcement::new(iter::zip(charges, over)).refuses()
}

/// The fraction `share` of `limit`, to the nearest whole number and at least 1,
/// unless the limit is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the limit")]
fn share(limit: &Limit, share: f64) -> Limit {
    let part = |hits: u32| ((f64::from(hits) * share).round() as u32).max(hits.min(1));
    let algorithm = limit.algorithm.with_burst(part);
    Limit { requests: part(limit.requests), algorithm, ..limit.clone() }
}

/// Allows all hits that an unused counter allows.
fn allow(charge: &Charge, now: Timestamp) -> Outcome {
    let first = charge.outcome_if_first(now);
    let retry_after = if first.over { first.retry_after } else { Some(Duration::ZERO) };
    Outcome { retry_after, ..first }
}

/// Refuses all hits, and no refund.
fn deny(charge: &Charge, now: Timestamp) -> Outcome {
    let first = charge.outcome_if_first(now);
    let retry_after = if charge.is_refund() {
        Some(Duration::ZERO)
    } else if first.over {
        first.retry_after
    } else {
        Some(OUTAGE_RETRY_AFTER)
    };
    Outcome {
        over: !charge.is_refund(),
        counted: false,
        used: 0,
        remaining: 0,
        reset_after: OUTAGE_RETRY_AFTER,
        retry_after,
        banned: Duration::ZERO,
        cached: false,
    }
}

/// Hits beyond the local share may still be within the whole limit, so a retry can
/// pass once the store answers.
fn retry_when_store_is_back(charge: &Charge, outcome: Outcome, now: Timestamp) -> Outcome {
    let may_pass = !charge.outcome_if_first(now).over;
    if outcome.over && outcome.retry_after.is_none() && may_pass {
        return Outcome { retry_after: Some(OUTAGE_RETRY_AFTER), ..outcome };
    }
    outcome
}

#[cfg(test)]
mod tests;
