//! Tests of calls that hold hits.

use super::*;

#[test]
fn the_charges_of_a_holding_call_see_each_other() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 3);
        let mut counters = Counters::default();
        assert_eq!(
            counters.verdicts(Some(OWN), &[whole.clone(), whole.clone()]),
            [Passes, Refused]
        );
        assert_eq!(counters, Counters::default(), "{limit}");
        let both = [whole.clone(), hits(&whole, 2)];
        assert_eq!(counters.verdicts(Some(OWN), &both), [Passes, Passes]);
        assert_eq!(
            counters.record(&free).holds,
            [Hold { id: OWN.id, hits: 5, expires_at: OWN.expires_at }]
        );
        assert_eq!(counters.used(&free), (0, 5), "{limit}");
        // Certain refusals do not depend on the holds of others.
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[hits(&whole, 1)], NOON);
        let before = counters.record(&free);
        let more = [whole.clone(), hits(&whole, 3)];
        assert_eq!(counters.verdicts(Some(OWN), &more), [Passes, Refused], "{limit}");
        assert_eq!(counters.verdicts(Some(OWN), &both), [Undecided, Undecided], "{limit}");
        assert_eq!(counters.record(&free), before, "{limit}");
    }
}

#[test]
fn a_call_holds_the_sum_of_its_additions() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 0);
        for (changes, sum) in [
            (&[3, -2, 2][..], 5),
            (&[3, -1, 3], 6),
            (&[-2, 3], 3),
            (&[2, -2], 2),
            (&[-9 << 50, -9 << 50, -1, 3, 2], 5),
        ] {
            let change = |it: &i64| match *it {
                ..0 => Charge { hits: Hits::Refund(it.unsigned_abs()), ..whole.clone() },
                _ => hits(&whole, it.unsigned_abs()),
            };
            let charges: Vec<_> = changes.iter().map(change).collect();
            let mut counters = Counters::default();
            counters.run(Some(OWN), &charges, NOON);
            let hold = Hold { id: OWN.id, hits: sum, expires_at: OWN.expires_at };
            assert_eq!(counters.record(&free).holds, [hold], "{limit} {changes:?}");
        }
    }
}

#[test]
fn all_charges_of_a_hold_are_counted_in_its_place() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 3);
        let back = Charge { hits: Hits::Refund(2), ..whole.clone() };
        let charges = [whole.clone(), back, hits(&whole, 4)];
        let mut at_once = Counters::default();
        at_once.run(None, &charges, NOON);
        let mut counters = Counters::default();
        counters.run(Some(OWN), &charges, NOON);
        let mut record = counters.record(&free);
        let mut taken = false;
        for (at, charge) in charges.iter().enumerate() {
            let how = match at {
                0 => Settlement::CountHold { id: OWN.id, hits: charge.hits },
                _ => Settlement::CountMore(charge.hits),
            };
            assert!(settle(&mut record, charge, how, NOON, &mut taken), "{limit}");
        }
        assert_eq!(record, at_once.record(&free), "{limit}");
    }
}

#[test]
fn a_holding_call_has_outcomes_for_a_refusal_elsewhere() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 2);
        let charges = [free, whole];
        let evaluated = evaluate(&charges, Some(OWN), NOON, |_| Record::default());
        let used = |attempts: &[Evaluation]| -> Vec<_> {
            let both = attempts.iter().zip(&charges);
            both.map(|(attempt, charge)| attempt.outcome(charge, NOON).used).collect()
        };
        assert_eq!(used(&evaluated.evaluations), [2, 4], "{limit}");
        assert_eq!(used(&evaluated.if_refused.unwrap()), [2, 2], "{limit}");
        assert!(evaluate(&charges, None, NOON, |_| Record::default()).if_refused.is_none());
    }
}

#[test]
fn a_new_hold_drops_old_holds() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = dependent_and_free(&limit, 1);
        let mut counters = Counters::default();
        counters.run(Some(OTHER), std::slice::from_ref(&whole), NOON);
        counters.0.entry(free.counter.key.clone()).or_default().banned_since = NOON;
        let later = OTHER.expires_at.plus(HOLD_MEMORY);
        let mine = Holder { expires_at: later.plus(SECOND), ..OWN };
        counters.run(Some(mine), std::slice::from_ref(&whole), later);
        let Record { banned_since, holds, .. } = counters.record(&free);
        let hold = Hold { id: OWN.id, hits: 1, expires_at: mine.expires_at };
        // The record drops an ended ban only when hits are counted.
        assert_eq!((banned_since, holds), (NOON, vec![hold]), "{limit}");
    }
}

#[test]
fn one_release_removes_all_holds_of_a_call() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 1);
        let mut counters = Counters::default();
        for _ in 0..2 {
            counters.run(Some(OWN), std::slice::from_ref(&whole), NOON);
        }
        assert!(counters.settle(&free, Settlement::ReleaseHold { id: OWN.id }, NOON), "{limit}");
        assert_eq!(counters.used(&free), (0, 0), "{limit}");
    }
}
