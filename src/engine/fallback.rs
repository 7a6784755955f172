//! What is decided when the store does not answer, or not in time.

use std::{iter, time::Duration};

use smallvec::SmallVec;

use crate::{
    engine::{
        decision::{Governed, Policies},
        failures::Failures,
    },
    limit::{Algorithm, Hits, Limit, Outcome},
    rules::spec::OnError,
    store::{Charge, Outcomes, Store, StoreError, memory::Memory},
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
    /// About how many counters this process keeps for that.
    pub max_keys: usize,
}

impl Default for FallbackSettings {
    /// Nothing is decided, unless a rule says so.
    fn default() -> Self {
        let deadline = Duration::from_millis(15);
        Self { on_error: None, deadline, local_share: 1.0, max_keys: 256 }
    }
}

/// Decides without the store.
#[derive(Debug)]
pub struct Fallback {
    settings: FallbackSettings,
    local: Memory,
    failures: Failures,
}

impl Fallback {
    /// One that has counted nothing yet.
    pub fn new(settings: FallbackSettings) -> Self {
        let local = Memory::new(settings.max_keys);
        Self { settings, local, failures: Failures::default() }
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

    /// Decides each charge of which `error` leaves open what became of it by its
    /// policy. Says which policies those were.
    pub(super) async fn charge(
        &self,
        charges: &[Charge],
        policies: &[Option<OnError>],
        error: StoreError,
        now: Timestamp,
    ) -> Result<(Outcomes, Policies), StoreError> {
        self.failures.failed(&error);
        let known = error.known(charges.len());
        let mut open: SmallVec<[(&Charge, OnError); 2]> = SmallVec::new();
        let mut denied = false;
        for ((charge, policy), known) in iter::zip(charges, policies).zip(&known) {
            match (known, policy) {
                (Some(outcome), _) => denied |= charge.enforced && outcome.over,
                (None, None) => return Err(error),
                (None, Some(policy)) => {
                    denied |= *policy == OnError::Deny && charge.enforced && charge.asks();
                    open.push((charge, *policy));
                }
            }
        }
        let local = open.iter().filter(|(_, policy)| *policy == OnError::Local);
        let local: SmallVec<[Charge; 2]> =
            local.map(|(charge, _)| self.locally(charge, denied)).collect();
        let mut local = self.local.charge(&local, now).await?.into_iter();
        let mut decided = open.iter().map(|(charge, policy)| {
            Some(match policy {
                OnError::Allow => charge.alone(now),
                OnError::Deny => deny(charge, now),
                OnError::Local => passes_later(charge, local.next()?, now),
            })
        });
        let outcome = |known: Option<Outcome>| known.or_else(|| decided.next().flatten());
        let outcomes = known.into_iter().filter_map(outcome).collect();
        Ok((outcomes, open.iter().map(|(_, policy)| *policy).collect()))
    }

    /// The charge to this process' share.
    fn locally(&self, charge: &Charge, denied: bool) -> Charge {
        let spared = denied && charge.depends() && charge.asks();
        Charge {
            limit: share(&charge.limit, self.settings.local_share),
            hits: if spared { Hits::Add(0) } else { charge.hits },
            ..charge.clone()
        }
    }
}

/// `share` of `limit`, to the nearest whole number and at least 1, unless the
/// limit is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is at most `it`")]
fn share(limit: &Limit, share: f64) -> Limit {
    let part = |it: u32| ((f64::from(it) * share).round() as u32).max(it.min(1));
    let algorithm = match limit.algorithm {
        Algorithm::TokenBucket { burst } => Algorithm::TokenBucket { burst: part(burst) },
        Algorithm::LeakyBucket { burst } => Algorithm::LeakyBucket { burst: part(burst) },
        other => other,
    };
    Limit { requests: part(limit.requests), algorithm, ..limit.clone() }
}

/// Refuses whatever asks. What is given back is never refused.
fn deny(charge: &Charge, now: Timestamp) -> Outcome {
    let over = charge.asks();
    let alone = charge.alone(now);
    let retry_after = if alone.over { alone.retry_after } else { Some(AGAIN) };
    let retry_after = retry_after.filter(|_| over);
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
        None if outcome.over && !charge.alone(now).over => {
            Outcome { retry_after: Some(AGAIN), ..outcome }
        }
        _ => outcome,
    }
}

#[cfg(test)]
mod tests;
