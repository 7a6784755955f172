//! Decides a request: finds the limits that apply, charges them in the store, and
//! concludes from the outcomes.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;

use crate::{
    counter::KeyFormat,
    descriptor::Request,
    rules::RuleTree,
    store::{Store, StoreError},
    time::Clock,
};

mod charges;
pub mod counters;
pub mod decision;
pub mod fallback;
mod matching;

use self::{
    charges::ChargeBuilder,
    decision::{Decision, Mode, Outcomes},
    fallback::{Decided, Fallback},
};

/// Why a request has no decision.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// No rules have been loaded since the start.
    #[error("no rate limit configuration loaded")]
    NoRules,
    /// The counters could not be reached in time, and no policy decides without them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The active rules. A decision loads them once; a reload replaces all of them.
pub type SharedRules = Arc<ArcSwap<RuleTree>>;

/// The rules that were active at one time. Not to be kept while waiting.
pub type LoadedRules = Guard<Arc<RuleTree>>;

/// Decides requests.
#[derive(Debug)]
pub struct Engine<S> {
    /// The active rules.
    pub rules: SharedRules,
    /// The counters.
    pub store: S,
    /// Read once for each request.
    pub clock: Arc<dyn Clock>,
    /// The format of the counters' names.
    pub keys: KeyFormat,
    /// Modes that apply to all rules.
    pub mode: Mode,
    /// Decides when the store does not answer.
    pub fallback: Fallback,
}

impl<S: Store> Engine<S> {
    /// Decides one request by the active rules: see [`Self::decide_by`].
    ///
    /// # Errors
    ///
    /// As [`Self::decide_by`].
    pub async fn decide(
        &self,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<Decision, DecideError> {
        self.decide_by(self.rules.load(), request, timeout).await
    }

    /// Decides one request by `rules` alone, and at one time.
    ///
    /// `timeout` is the time for which the caller waits. The decision comes early
    /// enough to reach the caller within it.
    ///
    /// # Errors
    ///
    /// If no rules are loaded, or if the store does not answer in time and a limit has no
    /// policy for that. Hits may have been counted in the second case.
    pub async fn decide_by(
        &self,
        rules: LoadedRules,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<Decision, DecideError> {
        let now = self.clock.now();
        if !rules.is_loaded() {
            return Err(DecideError::NoRules);
        }
        let matches = matching::find(&rules, request);
        let policies = self.fallback.policies(&matches);
        let builder = ChargeBuilder {
            domain: &request.domain,
            keys: &self.keys,
            mode: self.mode,
            fallback: &self.fallback,
            now,
        };
        let charges = builder.build(request, &matches, &policies);
        drop(rules);
        if charges.is_empty() {
            return Ok(Decision::new(matches, Outcomes::new(), self.mode, now));
        }
        let has_policies = policies.iter().all(Option::is_some);
        let store_timeout = self.fallback.store_timeout(has_policies, timeout);
        let deadline = store_timeout.map(|timeout| Instant::now() + timeout);
        let results = self.store.charge(&charges, now, deadline).await;
        let decided = self.fallback.decide(&charges, &policies, results, now).await?;
        let Decided { outcomes, used } = decided;
        let decision = Decision::new(matches, outcomes, self.mode, now);
        Ok(Decision { policies: used, ..decision })
    }
}

#[cfg(test)]
mod tests;
