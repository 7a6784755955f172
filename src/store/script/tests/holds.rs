//! What calls hold until they are decided.

use super::*;

#[test]
fn the_charges_of_a_call_that_holds_see_one_another() {
    for limit in limits() {
        let (whole, free) = two(&limit, 3);
        let mut kept = Kept::default();
        assert_eq!(kept.verdicts(Some(MINE), &[whole.clone(), whole.clone()]), [Passes, Refused]);
        assert_eq!(kept, Kept::default(), "{limit}");
        let both = [whole.clone(), hits(&whole, 2)];
        assert_eq!(kept.verdicts(Some(MINE), &both), [Passes, Passes]);
        assert_eq!(
            kept.of(&free).holds,
            [Hold { id: MINE.id, hits: 5, expires_at: MINE.expires_at }]
        );
        assert_eq!(kept.used(&free), (0, 5), "{limit}");
        // For sure, whatever others hold.
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[hits(&whole, 1)], NOON);
        let before = kept.of(&free);
        let more = [whole.clone(), hits(&whole, 3)];
        assert_eq!(kept.verdicts(Some(MINE), &more), [Passes, Refused], "{limit}");
        assert_eq!(kept.verdicts(Some(MINE), &both), [Undecided, Undecided], "{limit}");
        assert_eq!(kept.of(&free), before, "{limit}");
    }
}

#[test]
fn a_call_holds_all_that_its_charges_add() {
    for limit in limits() {
        let (whole, free) = two(&limit, 0);
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
            let mut kept = Kept::default();
            kept.run(Some(MINE), &charges, NOON);
            let hold = Hold { id: MINE.id, hits: sum, expires_at: MINE.expires_at };
            assert_eq!(kept.of(&free).holds, [hold], "{limit} {changes:?}");
        }
    }
}

#[test]
fn all_charges_that_a_hold_stands_for_are_counted_in_its_place() {
    for limit in limits() {
        let (whole, free) = two(&limit, 3);
        let back = Charge { hits: Hits::Refund(2), ..whole.clone() };
        let charges = [whole.clone(), back, hits(&whole, 4)];
        let mut at_once = Kept::default();
        at_once.run(None, &charges, NOON);
        let mut kept = Kept::default();
        kept.run(Some(MINE), &charges, NOON);
        let mut record = kept.of(&free);
        let mut taken = false;
        for (at, charge) in charges.iter().enumerate() {
            let how = match at {
                0 => Settlement::CountHold { id: MINE.id, hits: charge.hits },
                _ => Settlement::CountMore(charge.hits),
            };
            assert!(settle(&mut record, charge, how, NOON, &mut taken), "{limit}");
        }
        assert_eq!(record, at_once.of(&free), "{limit}");
    }
}

#[test]
fn a_call_that_holds_is_told_what_it_comes_to_if_it_is_refused_elsewhere() {
    for limit in limits() {
        let (whole, free) = two(&limit, 2);
        let charges = [free, whole];
        let evaluated = evaluate(&charges, Some(MINE), NOON, |_| Record::default());
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
fn what_has_ended_is_dropped_when_a_call_holds() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = two(&limit, 1);
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), std::slice::from_ref(&whole), NOON);
        kept.0.entry(free.counter.key.clone()).or_default().banned_since = NOON;
        let later = OTHERS.expires_at.plus(HOLD_MEMORY);
        let mine = Holder { expires_at: later.plus(SECOND), ..MINE };
        kept.run(Some(mine), std::slice::from_ref(&whole), later);
        let Record { banned_since, holds, .. } = kept.of(&free);
        let hold = Hold { id: MINE.id, hits: 1, expires_at: mine.expires_at };
        // Only what is counted puts an end to a ban that is over.
        assert_eq!((banned_since, holds), (NOON, vec![hold]), "{limit}");
    }
}

#[test]
fn all_that_a_call_holds_is_let_go_at_once() {
    for limit in limits() {
        let (whole, free) = two(&limit, 1);
        let mut kept = Kept::default();
        for _ in 0..2 {
            kept.run(Some(MINE), std::slice::from_ref(&whole), NOON);
        }
        assert!(kept.settle(&free, Settlement::ReleaseHold { id: MINE.id }, NOON), "{limit}");
        assert_eq!(kept.used(&free), (0, 0), "{limit}");
    }
}
