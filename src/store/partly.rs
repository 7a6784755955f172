//! Calls of which only a part is known.

use smallvec::SmallVec;

use super::{Outcomes, StoreError};
use crate::limit::Outcome;

/// What is known of each charge of a call that was made in parts.
#[derive(Debug, Default)]
pub(super) struct Partly {
    known: SmallVec<[Option<Outcome>; 4]>,
    /// The first reason why something is not.
    why: Option<StoreError>,
}

impl Partly {
    /// Adds the next part, of so many charges.
    pub(super) fn push(&mut self, part: Result<Outcomes, StoreError>, charges: usize) {
        match part {
            Ok(outcomes) => self.known.extend(outcomes.into_iter().map(Some)),
            Err(error) => {
                self.known.extend(error.known(charges));
                self.why.get_or_insert(error.reason());
            }
        }
    }

    /// In another order: each is the one that is at that of `places` now.
    pub(super) fn in_order(self, places: impl Iterator<Item = usize>) -> Self {
        let known = places.map(|it| self.known.get(it).copied().flatten()).collect();
        Self { known, why: self.why }
    }

    /// With those that have been known before at their places between the others.
    pub(super) fn among(self, before: impl Iterator<Item = Option<Outcome>>) -> Self {
        let mut known = self.known.into_iter();
        let known = before.map(|it| it.or_else(|| known.next().flatten())).collect();
        Self { known, why: self.why }
    }

    /// What became of the call.
    pub(super) fn result(self) -> Result<Outcomes, StoreError> {
        let Self { known, why } = self;
        match why {
            None => Ok(known.into_iter().flatten().collect()),
            Some(why) if known.iter().all(Option::is_none) => Err(why),
            Some(why) => {
                Err(StoreError::Partly { known: known.into_vec().into(), why: Box::new(why) })
            }
        }
    }
}
