//! Decides: a request and the rules become charges, the store makes them, and
//! what became of them is the decision.

use std::{iter, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::{
    counter::{KeyFormat, KeyPart},
    descriptor::{Descriptor, Request},
    limit::Hits,
    rules::{RuleTree, spec::OnError},
    store::{Charge, Consume, Enforced, OnTimeout, Store, StoreError},
    time::{Clock, Timestamp},
};

pub mod decision;
pub mod failures;
pub mod fallback;

use self::{
    decision::{Decision, Governed, Mode},
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

        let policies = self.fallback.policies(&governed);
        let charges = self.charges(request, &governed, &policies, now);
        drop(rules);
        if charges.is_empty() {
            return Ok(Decision::new(governed, &mut iter::empty(), self.mode));
        }
        let wait = self.fallback.wait(policies.iter().all(Option::is_some), patience);
        let deadline = wait.map(|it| Instant::now() + it);
        let results = self.store.charge(&charges, now, deadline).await;
        let (outcomes, policies) = self.fallback.decide(&charges, &policies, results, now).await?;
        let decision = Decision::new(governed, &mut outcomes.into_iter(), self.mode);
        Ok(Decision { policies, ..decision })
    }

    /// A charge for each limit that applies.
    fn charges(
        &self,
        request: &Request,
        governed: &[Governed],
        policies: &[Option<OnError>],
        now: Timestamp,
    ) -> SmallVec<[Charge; 2]> {
        let mut charges: SmallVec<[Charge; 2]> = SmallVec::new();
        let enforced = self.enforced(governed);
        let descriptors = request.descriptors.iter().zip(governed).zip(enforced);
        for ((Descriptor { entries, hits, .. }, governed), enforced) in descriptors {
            match governed {
                Governed::Unmatched { .. } | Governed::Unlimited(_) => {}
                Governed::Rule(rule, limits) => {
                    let limits = limits.iter().map(|it| &rule.spec.limits[*it]);
                    let slots = limits.clone().any(|it| it.limit.has_slots());
                    for spec in limits {
                        let kept = slots && !spec.limit.has_slots();
                        charges.push(Charge {
                            counter: rule.counter(&spec.limit, &self.keys, entries, now),
                            limit: spec.limit.clone(),
                            hits: match hits {
                                // A call that ends gives back its slot, and has been made.
                                Hits::Refund(_) if kept => Hits::Refund(0),
                                hits => *hits,
                            },
                            consume: match spec.all_or_nothing {
                                true => Consume::AllOrNothing,
                                false => Consume::Independent,
                            },
                            enforced,
                            refused: false,
                            on_timeout: OnTimeout::Fail,
                        });
                    }
                }
                Governed::Override(limit) => {
                    let parts = entries.iter();
                    let parts =
                        parts.map(|it| KeyPart { key: &it.key, value: &it.value, shared: false });
                    charges.push(Charge {
                        counter: self.keys.key(&request.domain, parts, limit, now),
                        limit: limit.clone(),
                        hits: *hits,
                        consume: Consume::Independent,
                        enforced,
                        refused: false,
                        on_timeout: OnTimeout::Fail,
                    });
                }
            }
        }
        for (charge, policy) in charges.iter_mut().zip(policies) {
            charge.on_timeout = match self.fallback.on_timeout(charge, *policy, now) {
                // Whatever is denied passes then.
                OnTimeout::Deny if self.mode.shadow => OnTimeout::Allow,
                on_timeout => on_timeout,
            };
        }
        // A charge that is alone is counted, whether it passes or is refused.
        if self.mode.stop && charges.len() > 1 {
            let free = |it: &&mut Charge| !it.is_refund() && !it.depends_on_others();
            charges.iter_mut().filter(free).for_each(|it| it.consume = Consume::IfRefused);
        }
        charges
    }

    /// What the limits of each descriptor enforce.
    fn enforced(&self, governed: &[Governed]) -> impl Iterator<Item = Enforced> {
        let mode = self.mode;
        // A quota that never refuses has room for ever.
        let room = |it: &Governed| it.is_quota(mode) && (it.watches() || it.limits() == 0);
        let room = governed.iter().any(room);
        governed.iter().enumerate().map(move |(number, it)| match it.is_quota(mode) {
            _ if it.watches() => Enforced::No,
            false => Enforced::Yes,
            true if room => Enforced::No,
            true => Enforced::Quota(number),
        })
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
