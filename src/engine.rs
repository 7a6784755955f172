//! Decides: a request and the rules become charges, the store makes them, and
//! what became of them is the decision.

use std::{iter, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tokio::time::timeout;

use crate::{
    descriptor::{Descriptor, Request},
    rules::{
        RuleTree,
        counter_key::{KeyFormat, Part},
    },
    store::{Charge, Consume, Outcomes, Store, StoreError},
    time::{Clock, Timestamp},
};

pub mod decision;
pub mod failures;
pub mod fallback;

use self::{
    decision::{Decision, Governed, Mode, Policies},
    fallback::Fallback,
};

/// The rules in force: read once per request, replaced as a whole.
pub type SharedRules = Arc<ArcSwap<RuleTree>>;

/// Decides requests.
#[derive(Debug)]
pub struct Engine<S> {
    /// The rules in force.
    pub rules: SharedRules,
    /// Where hits are counted.
    pub store: S,
    /// Asked once per request.
    pub clock: Arc<dyn Clock>,
    /// How counters are named.
    pub keys: KeyFormat,
    /// What the whole service does whatever the rules say.
    pub mode: Mode,
    /// Decides when the store does not answer.
    pub fallback: Fallback,
}

impl<S: Store> Engine<S> {
    /// Decides one request.
    ///
    /// All of it sees one set of rules and one moment, whatever reloads or
    /// seconds pass meanwhile. `patience` is how long the caller waits, if it
    /// has said so: it is answered before that, in time to hear it.
    ///
    /// # Errors
    ///
    /// If the store did not answer, and not every limit of which it said nothing
    /// says what to decide then. Hits may have been counted all the same.
    pub async fn decide(
        &self,
        request: &Request,
        patience: Option<Duration>,
    ) -> Result<Decision, StoreError> {
        let now = self.clock.now();
        let rules = self.rules.load();
        let mut governed = govern(&rules, request);
        drop_replaced(&mut governed);

        let charges = self.charges(request, &governed, now);
        drop(rules);
        if charges.is_empty() {
            return Ok(Decision::new(governed, &mut iter::empty(), self.mode));
        }
        let policies = self.fallback.policies(&governed);
        let wait = self.fallback.wait(policies.iter().all(Option::is_some), patience);
        let (outcomes, policies) = match self.charge(&charges, now, wait).await {
            Ok(outcomes) => (outcomes, Policies::new()),
            Err(error) => self.fallback.charge(&charges, &policies, error, now).await?,
        };
        let decision = Decision::new(governed, &mut outcomes.into_iter(), self.mode);
        Ok(Decision { policies, ..decision })
    }

    async fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        wait: Option<Duration>,
    ) -> Result<Outcomes, StoreError> {
        let charge = self.store.charge(charges, now);
        let outcomes = match wait {
            None => charge.await?,
            Some(wait) => timeout(wait, charge).await.map_err(|_| StoreError::Timeout(wait))??,
        };
        if outcomes.len() != charges.len() {
            return Err(StoreError::Failed("it left a charge unanswered".into()));
        }
        Ok(outcomes)
    }

    /// A charge for each limit that applies.
    fn charges(
        &self,
        request: &Request,
        governed: &[Governed],
        now: Timestamp,
    ) -> SmallVec<[Charge; 2]> {
        let mut charges = SmallVec::new();
        for (Descriptor { entries, hits, .. }, governed) in request.descriptors.iter().zip(governed)
        {
            match governed {
                Governed::Unmatched { .. } | Governed::Unlimited(_) => {}
                Governed::Rule(rule, limits) => {
                    let quota = rule.spec.quota_mode || self.mode.quota;
                    for spec in limits.iter().map(|it| &rule.spec.limits[*it]) {
                        charges.push(Charge {
                            counter: rule.counter(&spec.limit, &self.keys, entries, now),
                            limit: spec.limit.clone(),
                            hits: *hits,
                            consume: match spec.all_or_nothing {
                                true => Consume::AllOrNothing,
                                false => Consume::Independent,
                            },
                            enforced: !rule.spec.shadow_mode && !quota,
                            refused: false,
                        });
                    }
                }
                Governed::Override(limit) => {
                    let parts = entries.iter();
                    let parts =
                        parts.map(|it| Part { key: &it.key, value: &it.value, shared: false });
                    charges.push(Charge {
                        counter: self.keys.key(&request.domain, parts, limit, now),
                        limit: limit.clone(),
                        hits: *hits,
                        consume: Consume::Independent,
                        enforced: !self.mode.quota,
                        refused: false,
                    });
                }
            }
        }
        // A charge that is alone is counted, whether it passes or is refused.
        if self.mode.stop && charges.len() > 1 {
            let free = |it: &&mut Charge| it.asks() && !it.depends();
            charges.iter_mut().filter(free).for_each(|it| it.consume = Consume::IfRefused);
        }
        charges
    }
}

/// What governs each descriptor of `request`.
fn govern(rules: &RuleTree, request: &Request) -> Vec<Governed> {
    let domain = rules.domain(&request.domain);
    let govern = |descriptor: &Descriptor| match (domain, &descriptor.limit) {
        (None, _) => Governed::Unmatched { domain_known: false },
        (Some(_), Some(limit)) => Governed::Override(limit.clone()),
        (Some(domain), None) => match domain.find(&descriptor.entries) {
            Some(rule) if rule.is_unlimited() => Governed::Unlimited(Arc::clone(rule)),
            Some(rule) => Governed::Rule(Arc::clone(rule), (0..rule.spec.limits.len()).collect()),
            None => Governed::Unmatched { domain_known: true },
        },
    };
    request.descriptors.iter().map(govern).collect()
}

/// Takes out the limits that others of the same request replace.
fn drop_replaced(governed: &mut [Governed]) {
    let replaced: SmallVec<[Arc<str>; 4]> = governed
        .iter()
        .filter_map(Governed::rule)
        .flat_map(|it| &it.spec.replaces)
        .cloned()
        .collect();
    if replaced.is_empty() {
        return;
    }
    for it in governed {
        let gone = match it {
            Governed::Unmatched { .. } | Governed::Override(_) => false,
            Governed::Unlimited(rule) => replaced.contains(&rule.spec.name),
            Governed::Rule(rule, limits) => {
                limits.retain(|limit| !replaced.contains(&rule.spec.limits[*limit].name));
                limits.is_empty()
            }
        };
        if gone {
            *it = Governed::Unmatched { domain_known: true };
        }
    }
}

#[cfg(test)]
mod tests;
