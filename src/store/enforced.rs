//! The charges whose outcome decides if their request is refused.

use smallvec::SmallVec;

use super::charge::{Charge, Enforced, OnTimeout};
use crate::time::Timestamp;

/// The charges of a request, as far as their outcomes are known, combined to a decision.
#[derive(Debug, Default)]
pub(crate) struct Enforcement {
    refused: bool,
    /// Set if a charge without a result leaves the request without a decision.
    failed: bool,
    /// Sorted by number, for a binary search.
    quotas: SmallVec<[Quota; 4]>,
}

#[derive(Clone, Copy, Debug)]
struct Quota {
    number: usize,
    /// `None` until all its outcomes are known, or one is over its limit.
    exhausted: Option<bool>,
}

impl Enforcement {
    /// Combines charges and whether each is over its limit, where that is known.
    pub(crate) fn new<'a>(charges: impl Iterator<Item = (&'a Charge, Option<bool>)>) -> Self {
        let mut enforcement = Self::default();
        for (charge, over) in charges {
            enforcement.add(charge, over);
        }
        enforcement
    }

    /// Adds a charge; `over` is `None` while its outcome is unknown.
    pub(crate) fn add(&mut self, charge: &Charge, over: Option<bool>) {
        self.refused |= charge.refused;
        match charge.enforced {
            Enforced::No => {}
            Enforced::Yes => self.refused |= over == Some(true),
            Enforced::Quota(number) => self.add_to_quota(number, over),
        }
    }

    /// Adds a charge that got no result in time: its policy decides in place of the store.
    pub(crate) fn add_unanswered(&mut self, charge: &Charge, now: Timestamp) {
        let over = match charge.on_timeout {
            OnTimeout::Deny => !charge.is_refund(),
            OnTimeout::Allow | OnTimeout::Fail => charge.outcome_if_first(now).over,
        };
        self.failed |= charge.on_timeout == OnTimeout::Fail;
        self.add(charge, Some(over));
    }

    fn add_to_quota(&mut self, number: usize, over: Option<bool>) {
        match self.quota_position(number) {
            Err(position) => self.quotas.insert(position, Quota { number, exhausted: over }),
            Ok(position) => {
                let exhausted = &mut self.quotas[position].exhausted;
                *exhausted = match (*exhausted, over) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (None, _) | (_, None) => None,
                    (Some(false), Some(false)) => Some(false),
                };
            }
        }
    }

    fn quota_position(&self, number: usize) -> Result<usize, usize> {
        self.quotas.binary_search_by_key(&number, |quota| quota.number)
    }

    /// Returns true if the request is refused, whatever the unknown outcomes are.
    pub(crate) fn refuses(&self) -> bool {
        if self.refused {
            return true;
        }
        for quota in &self.quotas {
            if quota.exhausted != Some(true) {
                return false;
            }
        }
        !self.quotas.is_empty()
    }

    /// Returns true if the caller is let through, all charges having been added.
    pub(crate) fn lets_through(&self) -> bool {
        !self.refuses() && !self.failed
    }

    /// The enforcement of a charge that is sent later than the charges added so far: a quota
    /// can no longer refuse the request once another has room, and need not be charged to do
    /// so once it is exhausted.
    pub(crate) fn remaining(&self, enforced: Enforced) -> Enforced {
        let Enforced::Quota(number) = enforced else { return enforced };
        for quota in &self.quotas {
            let has_room = quota.exhausted == Some(false);
            let is_exhausted = quota.number == number && quota.exhausted == Some(true);
            if has_room || is_exhausted {
                return Enforced::No;
            }
        }
        enforced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::peek_charge;
    use crate::{
        counter::{KeyFormat, KeyPart},
        limit::{Limit, Unit, Window},
    };

    use Enforced::{No, Quota, Yes};

    fn enforcement(charges: &[(Enforced, Option<bool>)]) -> Enforcement {
        let limit = Limit::fixed(1, Window::new(Unit::Minute));
        let part = KeyPart { key: b"key", value: b"value", shared: false };
        let now = Timestamp::default();
        let counter = KeyFormat::default().counter(b"domain", [part].into_iter(), &limit, now);
        let peek = peek_charge(&counter, &limit);
        let mut enforcement = Enforcement::default();
        for &(enforced, over) in charges {
            enforcement.add(&Charge { enforced, ..peek.clone() }, over);
        }
        enforcement
    }

    #[test]
    fn one_limit_or_all_quotas_refuse_a_request() {
        let (over, room) = (Some(true), Some(false));
        for (charges, refuses) in [
            (&[][..], false),
            (&[(No, over)], false),
            (&[(Yes, room), (No, over)], false),
            (&[(Yes, None)], false),
            (&[(Yes, room), (Yes, over)], true),
            (&[(Quota(0), over)], true),
            (&[(Quota(0), over), (Quota(1), room)], false),
            (&[(Quota(0), over), (Quota(1), None)], false),
            (&[(Quota(1), over), (Quota(0), over), (Yes, room)], true),
            // A quota may have several limits.
            (&[(Quota(0), over), (Quota(0), room), (Quota(1), None), (Quota(1), over)], true),
        ] {
            assert_eq!(enforcement(charges).refuses(), refuses, "{charges:?}");
        }
    }

    #[test]
    fn quotas_with_a_known_outcome_reduce_the_enforcement_of_later_charges() {
        let (over, room) = (Some(true), Some(false));
        let check = |charges: &[(Enforced, Option<bool>)], expected: [Enforced; 2]| {
            let enforcement = enforcement(charges);
            assert_eq!([Quota(0), Quota(1)].map(|quota| enforcement.remaining(quota)), expected);
            assert_eq!([No, Yes].map(|other| enforcement.remaining(other)), [No, Yes]);
        };
        check(&[(Quota(0), over), (Quota(0), None), (Quota(1), None)], [No, Quota(1)]);
        // One quota with room lets the request through, whatever the others are.
        check(&[(Quota(0), room), (Quota(1), None)], [No, No]);
        check(&[(Quota(0), room), (Quota(0), None), (Quota(1), None)], [Quota(0), Quota(1)]);
    }
}
