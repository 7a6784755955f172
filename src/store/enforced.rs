//! Which charges refuse their call.

use smallvec::SmallVec;

use super::charge::{Charge, Enforced, OnTimeout};
use crate::time::Timestamp;

/// Whether the caller is let through at `now`, if that is what is known of its charges:
/// whether each is over its limit.
pub(crate) fn is_served<'a>(
    charges: impl Iterator<Item = (&'a Charge, Option<bool>)>,
    now: Timestamp,
) -> bool {
    let mut fails = false;
    let over = charges.map(|(charge, over)| {
        let without = match charge.on_timeout {
            OnTimeout::Deny => !charge.is_refund(),
            OnTimeout::Allow | OnTimeout::Fail => charge.outcome_if_first(now).over,
        };
        fails |= over.is_none() && charge.on_timeout == OnTimeout::Fail;
        (charge, Some(over.unwrap_or(without)))
    });
    let refused = Enforcement::of(over).refuses();
    !refused && !fails
}

/// Whether a call is refused, as far as it is known of its charges whether they are over
/// their limits.
#[derive(Debug)]
pub(crate) struct Enforcement {
    refused: bool,
    /// By their numbers, whether they are used up, where that is known.
    quotas: SmallVec<[(usize, Option<bool>); 4]>,
}

impl Enforcement {
    /// Of a call of these charges, and whether each is over its limit.
    pub(crate) fn of<'a>(charges: impl Iterator<Item = (&'a Charge, Option<bool>)>) -> Self {
        let mut all = Self { refused: false, quotas: SmallVec::new() };
        for (charge, over) in charges {
            all.refused |= charge.refused;
            match charge.enforced {
                Enforced::No => {}
                Enforced::Yes => all.refused |= over == Some(true),
                Enforced::Quota(number) => all.learn(number, over),
            }
        }
        all
    }

    fn learn(&mut self, number: usize, over: Option<bool>) {
        match self.find(number) {
            Err(at) => self.quotas.insert(at, (number, over)),
            Ok(at) => {
                let used_up = &mut self.quotas[at].1;
                *used_up = match (*used_up, over) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (None, _) | (_, None) => None,
                    (Some(false), Some(false)) => Some(false),
                };
            }
        }
    }

    fn find(&self, number: usize) -> Result<usize, usize> {
        self.quotas.binary_search_by_key(&number, |it| it.0)
    }

    /// Whether the call is known to be refused.
    pub(crate) fn refuses(&self) -> bool {
        let used_up = |it: &(usize, Option<bool>)| it.1 == Some(true);
        self.refused || !self.quotas.is_empty() && self.quotas.iter().all(used_up)
    }

    /// What is left to enforce for charges of which nothing is known, once they are asked
    /// for without the others of their call.
    pub(crate) fn left(&self, enforced: Enforced) -> Enforced {
        let Enforced::Quota(number) = enforced else { return enforced };
        let has_room = self.quotas.iter().any(|it| it.1 == Some(false));
        let used_up = self.find(number).is_ok_and(|at| self.quotas[at].1 == Some(true));
        if has_room || used_up { Enforced::No } else { enforced }
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

    fn of(charges: &[(Enforced, Option<bool>)]) -> Enforcement {
        let limit = Limit::fixed(1, Window::new(Unit::Minute));
        let part = KeyPart { key: b"key", value: b"value", shared: false };
        let now = Timestamp::default();
        let counter = KeyFormat::default().key(b"domain", [part].into_iter(), &limit, now);
        let look = peek_charge(&counter, &limit);
        let charges: Vec<_> = charges
            .iter()
            .map(|(enforced, over)| (Charge { enforced: *enforced, ..look.clone() }, *over))
            .collect();
        Enforcement::of(charges.iter().map(|(charge, over)| (charge, *over)))
    }

    #[test]
    fn a_call_is_refused_by_one_limit_or_by_all_quotas() {
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
            assert_eq!(of(charges).refuses(), refuses, "{charges:?}");
        }
    }

    #[test]
    fn what_is_known_of_quotas_leaves_the_others_less_to_enforce() {
        let (over, room) = (Some(true), Some(false));
        let known = of(&[(Quota(0), over), (Quota(0), None), (Quota(1), None)]);
        assert_eq!([No, Yes, Quota(0), Quota(1)].map(|it| known.left(it)), [No, Yes, No, Quota(1)]);
        // One has room, whatever becomes of the others.
        let known = of(&[(Quota(0), room), (Quota(1), None)]);
        assert_eq!(known.left(Quota(1)), No);
        let known = of(&[(Quota(0), room), (Quota(0), None), (Quota(1), None)]);
        assert_eq!([Quota(0), Quota(1)].map(|it| known.left(it)), [Quota(0), Quota(1)]);
    }
}
