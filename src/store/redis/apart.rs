//! Calls whose counters are on different servers.
//!
//! Charges that depend on each other are reserved and, if one of them is refused,
//! given back. So a call is never served in part; while it is under way others
//! may be refused what it gives back. If a server fails meanwhile, what was
//! reserved stays counted.

use crate::{
    limit::{Hits, Outcome},
    store::{Charge, Consume, Outcomes, StoreError},
};

/// How to make a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// As one.
    Together,
    /// Each charge on its own.
    Apart,
    /// Each charge on its own, and some are given back if others are refused.
    Reserve,
}

impl Plan {
    /// For `charges` whose counters are where `place` says.
    pub(super) fn of<P: PartialEq>(charges: &[Charge], place: impl Fn(&[u8]) -> P) -> Self {
        if charges.len() < 2 {
            return Self::Together;
        }
        if !charges.iter().any(Charge::depends) {
            return Self::Apart;
        }
        let mut places = charges.iter().map(|it| place(it.counter.key.as_bytes()));
        let first = places.next();
        if places.all(|it| Some(it) == first) {
            Self::Together
        } else if is_decided(charges) {
            Self::Apart
        } else {
            Self::Reserve
        }
    }
}

/// Whether each of `charges` knows already what the others mean for it: nothing,
/// or that it is refused.
pub(super) fn is_decided(charges: &[Charge]) -> bool {
    charges.iter().all(|it| it.refused || !it.depends())
}

/// Reserves `charges` and, if one of them is refused, gives back. `make` makes charges
/// that are independent of each other.
pub(super) async fn reserve<F>(
    charges: &[Charge],
    make: impl Fn(Vec<Charge>) -> F,
) -> Result<Outcomes, StoreError>
where
    F: Future<Output = Result<Outcomes, StoreError>>,
{
    // What is known of some of them is of no use: they depend on the others.
    let outcomes = make(reservations(charges)).await.map_err(StoreError::reason)?;
    let Some(Refunds { charges, places }) = refunds(charges, &outcomes) else {
        return Ok(outcomes);
    };
    let given = make(charges).await.map_err(StoreError::reason)?;
    Ok(given_back(outcomes, &places, &given))
}

/// `charges`, each of them independent of the others.
fn reservations(charges: &[Charge]) -> Vec<Charge> {
    charges.iter().map(|it| Charge { consume: Consume::Independent, ..it.clone() }).collect()
}

/// What is given back, and where it was reserved.
#[derive(Debug)]
struct Refunds {
    charges: Vec<Charge>,
    places: Vec<usize>,
}

/// What is to be given back of `charges`, of which these became; none if nothing
/// was refused that matters to the others.
fn refunds(charges: &[Charge], outcomes: &[Outcome]) -> Option<Refunds> {
    let mut both = charges.iter().zip(outcomes);
    if !both.any(|(charge, outcome)| charge.enforced && outcome.over) {
        return None;
    }
    let mut refunds = Refunds { charges: Vec::new(), places: Vec::new() };
    for (place, (charge, outcome)) in charges.iter().zip(outcomes).enumerate() {
        let goes = match charge.consume {
            Consume::Independent => false,
            Consume::AllOrNothing => !outcome.over || outcome.counted,
            Consume::IfRefused => !outcome.over,
        };
        if goes && charge.hits.asked() > 0 {
            let hits = Hits::Refund(charge.hits.capped().asked());
            let charge = Charge { hits, consume: Consume::Independent, ..charge.clone() };
            refunds.charges.push(charge);
            refunds.places.push(place);
        }
    }
    Some(refunds)
}

/// What became of the call of which these were reserved, if these became of what was
/// given back at `places`.
fn given_back(mut reserved: Outcomes, places: &[usize], given: &[Outcome]) -> Outcomes {
    for (place, given) in places.iter().zip(given) {
        if let Some(outcome) = reserved.get_mut(*place) {
            *outcome = Outcome {
                counted: false,
                used: given.used,
                remaining: given.remaining,
                reset_after: given.reset_after,
                retry_after: if outcome.over { outcome.retry_after } else { given.retry_after },
                ..*outcome
            };
        }
    }
    reserved
}

#[cfg(test)]
mod tests {
    use super::{Consume::*, *};
    use crate::{
        limit::{Limit, Unit, Window},
        rules::counter_key::KeyFormat,
        time::Timestamp,
    };

    fn charge(name: &[u8], consume: Consume) -> Charge {
        let limit = Limit::fixed(5, Window::of(Unit::Minute));
        let key = KeyFormat::default().key(name, [].into_iter(), &limit, Timestamp::default());
        let (counter, hits) = (key, Hits::Add(2));
        Charge { counter, limit, hits, consume, enforced: true, refused: false }
    }

    #[test]
    fn only_charges_that_depend_on_each_other_and_are_apart_are_reserved() {
        let plan = |charges: &[Charge]| Plan::of(charges, |key| key[0]);
        let free = |name| charge(name, Independent);
        assert_eq!(plan(&[free(b"a"), free(b"a")]), Plan::Apart);
        for consume in [AllOrNothing, IfRefused] {
            let tied = |name| charge(name, consume);
            assert_eq!(plan(&[tied(b"a")]), Plan::Together);
            assert_eq!(plan(&[tied(b"a"), free(b"a2")]), Plan::Together);
            assert_eq!(plan(&[tied(b"a"), free(b"b")]), Plan::Reserve);
            let refused = Charge { refused: true, ..tied(b"a") };
            assert_eq!(plan(&[refused.clone(), free(b"a2")]), Plan::Together);
            assert_eq!(plan(&[refused.clone(), free(b"b")]), Plan::Apart);
            assert_eq!(plan(&[refused, tied(b"b")]), Plan::Reserve);
        }
    }

    #[test]
    fn what_a_refused_call_reserved_is_given_back() {
        let charges =
            [charge(b"a", AllOrNothing), charge(b"b", AllOrNothing), charge(b"c", Independent)];
        let now = Timestamp::default();
        let passed = charges[0].alone(now);
        let refused = Outcome { over: true, ..passed };
        assert!(refunds(&charges, &[passed, passed, passed]).is_none());
        let refunds = refunds(&charges, &[passed, refused, passed]).expect("one is refused");
        assert_eq!(
            refunds.charges.iter().map(|it| it.hits).collect::<Vec<_>>(),
            [Hits::Refund(2); 2]
        );
        let given = Outcome { used: 0, remaining: 5, ..passed };
        let reserved = [passed, refused, passed].into_iter().collect();
        let outcomes = given_back(reserved, &refunds.places, &[given; 2]);
        let found: Vec<_> = outcomes.iter().map(|it| (it.over, it.counted, it.used)).collect();
        assert_eq!(found, [(false, false, 0), (true, false, 0), (false, true, 2)]);
    }

    #[test]
    fn what_is_refused_itself_stays_counted_where_only_that_counts() {
        let charges = [b"a", b"b"].map(|it| charge(it, IfRefused));
        let passed = charges[0].alone(Timestamp::default());
        let refused = Outcome { over: true, ..passed };
        let refunds = refunds(&charges, &[passed, refused]).expect("one is refused");
        assert_eq!(refunds.places, [0]);
    }
}
