//! Turns matches into charges.

use std::iter;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    decision::{Match, Mode},
    fallback::{Fallback, LimitPolicies},
};
use crate::{
    counter::{CounterRef, KeyFormat, KeyPart},
    descriptor::{Descriptor, Entry, Request},
    limit::{Hits, Limit},
    store::{Charge, Consume, Enforced, OnTimeout},
    time::Timestamp,
};

/// The charges of one request.
pub(super) type Charges = SmallVec<[Charge; 2]>;

/// Builds the charges of a request.
pub(super) struct ChargeBuilder<'a> {
    pub(super) domain: &'a Bytes,
    pub(super) keys: &'a KeyFormat,
    pub(super) mode: Mode,
    pub(super) fallback: &'a Fallback,
    pub(super) now: Timestamp,
}

impl ChargeBuilder<'_> {
    /// One charge for each limit that applies, in order.
    pub(super) fn build(
        &self,
        request: &Request,
        matches: &[Match],
        policies: &LimitPolicies,
    ) -> Charges {
        let mut charges = Charges::new();
        let quota_has_room = has_quota_without_end(matches, self.mode);
        for (position, (descriptor, found)) in iter::zip(&request.descriptors, matches).enumerate()
        {
            let enforced = if found.is_shadow() {
                Enforced::No
            } else if !found.is_quota(self.mode) {
                Enforced::Yes
            } else if quota_has_room {
                Enforced::No
            } else {
                Enforced::Quota(position)
            };
            self.add(&mut charges, descriptor, found, enforced);
        }
        for (charge, policy) in iter::zip(&mut charges, policies) {
            charge.on_timeout = match self.fallback.on_timeout(charge, *policy, self.now) {
                OnTimeout::Deny if self.mode.shadow => OnTimeout::Allow,
                on_timeout => on_timeout,
            };
        }
        // A single charge is counted whether or not it passes.
        if self.mode.stop_counting && charges.len() > 1 {
            for charge in &mut charges {
                if !charge.is_refund() && !charge.depends_on_others() {
                    charge.consume = Consume::IfRefused;
                }
            }
        }
        charges
    }

    fn add(
        &self,
        charges: &mut Charges,
        descriptor: &Descriptor,
        found: &Match,
        enforced: Enforced,
    ) {
        match found {
            Match::UnknownDomain | Match::None | Match::Replaced(_) | Match::Unlimited(_) => {}
            Match::Override(limit) => {
                let Descriptor { entries, .. } = descriptor;
                let counter = override_counter(self.keys, self.domain, entries, limit, self.now);
                charges.push(new_charge(counter, limit, descriptor.hits, enforced));
            }
            Match::Rule(rule, limits) => {
                let has_permits =
                    limits.iter().any(|limit| rule.spec.limits[*limit].limit.releases_permits());
                for limit in limits {
                    let spec = &rule.spec.limits[*limit];
                    let hits = match descriptor.hits {
                        // The end of a call returns its permit. It does not refund the call.
                        Hits::Refund(_) if has_permits && !spec.limit.releases_permits() => {
                            Hits::Refund(0)
                        }
                        hits => hits,
                    };
                    let counter =
                        rule.counter(&spec.limit, self.keys, &descriptor.entries, self.now);
                    let mut charge = new_charge(counter, &spec.limit, hits, enforced);
                    if spec.all_or_nothing {
                        charge.consume = Consume::AllOrNothing;
                    }
                    charges.push(charge);
                }
            }
        }
    }
}

/// The counter of a limit that the request brought along.
pub(super) fn override_counter(
    keys: &KeyFormat,
    domain: &[u8],
    entries: &[Entry],
    limit: &Limit,
    now: Timestamp,
) -> CounterRef {
    let parts =
        entries.iter().map(|entry| KeyPart { key: &entry.key, value: &entry.value, shared: false });
    keys.counter(domain, parts, limit, now)
}

fn new_charge(counter: CounterRef, limit: &Limit, hits: Hits, enforced: Enforced) -> Charge {
    Charge {
        counter,
        limit: limit.clone(),
        hits,
        consume: Consume::Independent,
        enforced,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

/// Returns true if a quota of the request can never be exhausted, so that the others
/// never refuse.
fn has_quota_without_end(matches: &[Match], mode: Mode) -> bool {
    for found in matches {
        if found.is_quota(mode) && (found.is_shadow() || found.limit_count() == 0) {
            return true;
        }
    }
    false
}
