use std::{collections::HashMap, time::Duration};

use super::{
    Verdict::{Passes, Refused, Undecided},
    *,
};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Limit, Unit, Window, step::State},
    store::{Consume, Enforced, OnTimeout},
};

mod given_back;
mod holds;

const NOON: Timestamp = Timestamp::from_secs(43_200);
const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

/// Some call that holds hits for a second.
const MINE: Holder = Holder { id: 7, expires_at: Timestamp::from_secs(43_201) };
/// Another one.
const OTHERS: Holder = Holder { id: 8, ..MINE };

/// Counters by their names.
#[derive(Debug, Default, PartialEq)]
struct Kept(HashMap<CounterKey, Record>);

impl Kept {
    fn run(
        &mut self,
        holder: Option<Holder>,
        charges: &[Charge],
        now: Timestamp,
    ) -> Vec<Evaluation> {
        let read = |key: &CounterKey| self.0.get(key).cloned().unwrap_or_default();
        let evaluated = evaluate(charges, holder, now, read);
        for Write { position, record, .. } in evaluated.writes {
            self.0.insert(charges[position].counter.key.clone(), record);
        }
        evaluated.evaluations.into_vec()
    }

    fn verdicts(&mut self, holder: Option<Holder>, charges: &[Charge]) -> Vec<Verdict> {
        self.run(holder, charges, NOON).into_iter().map(|it| it.verdict).collect()
    }

    /// What becomes of a charge that nothing is held for.
    fn one(&mut self, charge: &Charge, now: Timestamp) -> (Verdict, Outcome) {
        let attempt = self.run(None, std::slice::from_ref(charge), now)[0];
        (attempt.verdict, attempt.outcome(charge, now))
    }

    fn settle(&mut self, charge: &Charge, settlement: Settlement, now: Timestamp) -> bool {
        let record = self.0.entry(charge.counter.key.clone()).or_default();
        settle(record, charge, settlement, now, &mut false)
    }

    /// What is kept of the counter of `charge`.
    fn of(&self, charge: &Charge) -> Record {
        self.0.get(&charge.counter.key).cloned().unwrap_or_default()
    }

    /// How many hits are counted, and how many are held.
    fn used(&self, charge: &Charge) -> (u64, u64) {
        let mut record = self.of(charge);
        let held = record.holds.drain(..).map(|it| it.hits).sum();
        let mut alone = Self::default();
        alone.0.insert(charge.counter.key.clone(), record);
        (alone.one(&hits(charge, 0), NOON).1.used, held)
    }
}

fn minutely(requests: u32, algorithm: Algorithm) -> Limit {
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) }
}

/// Five per minute, by every algorithm.
fn limits() -> [Limit; 7] {
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 5 },
        Algorithm::LeakyBucket { burst: 5 },
        Algorithm::Concurrency { lease: Duration::from_secs(10) },
    ]
    .map(|it| minutely(5, it))
}

fn charge(name: &str, limit: &Limit, hits: u64, consume: Consume) -> Charge {
    let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
    Charge {
        counter: KeyFormat::default().key(b"a", [part].into_iter(), limit, NOON),
        limit: limit.clone(),
        hits: Hits::Add(hits),
        consume,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn hits(charge: &Charge, hits: u64) -> Charge {
    Charge { hits: Hits::Add(hits), ..charge.clone() }
}

/// A charge that is all or nothing, and one to the same counter that depends on none.
fn two(limit: &Limit, hits: u64) -> (Charge, Charge) {
    let charge = |consume| charge("a", limit, hits, consume);
    (charge(Consume::AllOrNothing), charge(Consume::Independent))
}

#[test]
fn a_hold_takes_room_but_is_no_reason_to_refuse() {
    for limit in limits() {
        let (whole, free) = two(&limit, 3);
        let mut kept = Kept::default();
        assert_eq!(kept.verdicts(Some(OTHERS), std::slice::from_ref(&whole)), [Passes]);
        assert_eq!((kept.used(&free), kept.of(&free).state), ((0, 3), None), "{limit}");
        // Who looks is told that there is less room.
        assert_eq!(kept.one(&hits(&free, 0), NOON).1.used, 3, "{limit}");
        let held = kept.of(&free);
        for (hits_, verdict) in [(3, Undecided), (5, Undecided), (6, Refused)] {
            let (found, outcome) = kept.one(&hits(&free, hits_), NOON);
            assert_eq!((found, outcome.over), (verdict, verdict == Refused), "{limit} {hits_}");
            if verdict == Undecided {
                assert_eq!(kept.of(&free), held, "{limit} {hits_}");
            }
        }
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[whole], NOON);
        let (verdict, outcome) = kept.one(&hits(&free, 2), NOON);
        assert_eq!((verdict, outcome.used, outcome.remaining), (Passes, 5, 0), "{limit}");
        assert_eq!(kept.used(&free), (2, 3), "{limit}");
    }
}

#[test]
fn a_hold_that_has_ended_takes_no_room_and_can_be_counted() {
    for limit in limits() {
        let (whole, free) = two(&limit, 5);
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[whole], NOON);
        let before = Timestamp::from_micros(OTHERS.expires_at.as_micros() - 1);
        assert_eq!(kept.one(&free, before).0, Undecided, "{limit}");
        let (verdict, outcome) = kept.one(&free, OTHERS.expires_at);
        assert_eq!((verdict, outcome.used), (Passes, 5), "{limit}");
        // Whoever has been let through because of it counts all the same, once.
        let count = Settlement::CountHold { id: OTHERS.id, hits: Hits::Add(5) };
        assert!(kept.settle(&free, count, OTHERS.expires_at), "{limit}");
        assert!(!kept.settle(&free, count, OTHERS.expires_at), "{limit}");
        assert_eq!(kept.of(&free).holds, [], "{limit}");
        // A bucket that is full has no room for more.
        use Algorithm::{LeakyBucket, TokenBucket};
        let bucket = matches!(limit.algorithm, TokenBucket { .. } | LeakyBucket { .. });
        let used = kept.one(&hits(&free, 0), OTHERS.expires_at).1.used;
        assert!(used == 10 || bucket && 5 <= used, "{limit}");
        // Until it is not known any more.
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[two(&limit, 5).0], NOON);
        kept.one(&free, OTHERS.expires_at.plus(HOLD_MEMORY));
        assert!(!kept.settle(&free, count, OTHERS.expires_at.plus(HOLD_MEMORY)), "{limit}");
    }
}

#[test]
fn what_is_held_is_counted_once_or_let_go_once() {
    for limit in limits() {
        let (whole, free) = two(&limit, 3);
        let held = || {
            let mut kept = Kept::default();
            kept.run(Some(MINE), std::slice::from_ref(&whole), NOON);
            kept.run(Some(OTHERS), &[hits(&whole, 1)], NOON);
            kept
        };
        let count = Settlement::CountHold { id: MINE.id, hits: Hits::Add(3) };
        let release = Settlement::ReleaseHold { id: MINE.id };
        for (first, used) in [(count, (3, 1)), (release, (0, 1))] {
            let mut kept = held();
            assert!(kept.settle(&free, first, NOON), "{limit}");
            for again in [first, count, release] {
                let before = kept.of(&free);
                assert!(!kept.settle(&free, again, NOON), "{limit} {again:?}");
                assert_eq!(kept.of(&free), before, "{limit} {again:?}");
            }
            assert_eq!(kept.used(&free), used, "{limit} {first:?}");
        }
    }
}

/// The limit may have been lowered meanwhile, or a clock be behind.
#[test]
fn what_is_held_is_counted_whatever_the_limit_says_now() {
    for limit in limits() {
        let (whole, free) = two(&limit, 5);
        let mut kept = Kept::default();
        kept.run(Some(MINE), &[whole], NOON);
        let algorithm = limit.algorithm.with_burst(|_| 5);
        let lower = Limit { requests: 1, algorithm, ..limit.clone() };
        let lower = Charge { limit: lower, ..free.clone() };
        assert!(
            kept.settle(&lower, Settlement::CountHold { id: MINE.id, hits: Hits::Add(5) }, NOON),
            "{limit}"
        );
        assert_eq!(kept.used(&free), (5, 0), "{limit}");
    }
}

/// What is counted and held after a call of `charges`.
fn after(charges: &[Charge], holder: Option<Holder>) -> Vec<(u64, u64)> {
    let mut kept = Kept::default();
    kept.run(holder, charges, NOON);
    charges.iter().map(|it| kept.used(it)).collect()
}

#[test]
fn a_call_that_passes_holds_what_depends_on_others_and_counts_the_rest() {
    for limit in limits() {
        for consume in [Consume::AllOrNothing, Consume::IfRefused] {
            let whole = charge("whole", &limit, 3, consume);
            let free = charge("free", &limit, 2, Consume::Independent);
            let look = hits(&charge("look", &limit, 0, consume), 0);
            let back = Charge { hits: Hits::Refund(2), ..charge("back", &limit, 0, consume) };
            let charges = [whole, free, look, back];
            assert_eq!(after(&charges, Some(MINE)), [(0, 3), (2, 0), (0, 0), (0, 0)], "{limit}");
            assert_eq!(after(&charges, None), [(3, 0), (2, 0), (0, 0), (0, 0)], "{limit}");
        }
    }
}

#[test]
fn a_call_that_is_refused_holds_nothing() {
    for limit in limits() {
        let counts = if limit.algorithm.counts_denied() { 9 } else { 0 };
        for refused_anyway in [false, true] {
            let full = match refused_anyway {
                false => charge("full", &limit, 9, Consume::Independent),
                true => {
                    let look = charge("full", &limit, 0, Consume::Independent);
                    Charge { refused: true, ..look }
                }
            };
            let counted = if refused_anyway { 0 } else { counts };
            let charges = [
                charge("whole", &limit, 3, Consume::AllOrNothing),
                charge("spared", &limit, 3, Consume::IfRefused),
                charge("over", &limit, 9, Consume::IfRefused),
                full,
            ];
            let expected = [(0, 0), (0, 0), (counts, 0), (counted, 0)];
            assert_eq!(after(&charges, Some(MINE)), expected, "{limit}");
            assert_eq!(after(&charges, None), expected, "{limit}");
        }
    }
}

/// One that refuses no call is counted with it if it counts what it refuses.
#[test]
fn what_is_refused_and_refuses_no_call_is_held_if_it_is_all_or_nothing() {
    for limit in limits() {
        let counts = if limit.algorithm.counts_denied() { 9 } else { 0 };
        for (consume, expected) in
            [(Consume::AllOrNothing, (0, counts)), (Consume::IfRefused, (counts, 0))]
        {
            let watched =
                Charge { enforced: Enforced::No, ..charge("watched", &limit, 9, consume) };
            let whole = charge("whole", &limit, 3, Consume::AllOrNothing);
            assert_eq!(after(&[watched, whole], Some(MINE)), [expected, (0, 3)], "{limit}");
        }
    }
}

#[test]
fn a_call_that_depends_on_what_others_hold_makes_nothing_unless_it_is_refused_for_sure() {
    for limit in limits() {
        let counts = limit.algorithm.counts_denied();
        let of = |name, hits, consume| charge(name, &limit, hits, consume);
        let held = || {
            let mut kept = Kept::default();
            kept.run(Some(OTHERS), &[of("held", 5, Consume::AllOrNothing)], NOON);
            kept
        };
        let whole = of("whole", 1, Consume::AllOrNothing);
        let unsure = of("held", 1, Consume::AllOrNothing);
        let mut kept = held();
        let call = [whole.clone(), unsure.clone()];
        assert_eq!(kept.verdicts(Some(MINE), &call), [Undecided, Undecided], "{limit}");
        assert_eq!(kept, held(), "{limit}");
        // Another charge refuses it, so it does not matter.
        let full = of("full", 9, Consume::Independent);
        let call = [whole.clone(), unsure, full.clone()];
        assert_eq!(kept.verdicts(Some(MINE), &call), [Passes, Passes, Refused], "{limit}");
        assert_eq!(kept.used(&whole), (0, 0), "{limit}");
        assert_eq!(kept.used(&full).0, if counts { 9 } else { 0 }, "{limit}");
        assert_eq!(kept.used(&call[1]), (0, 5), "{limit}");
        // Charges that depend on nothing are made, each by itself.
        let mut kept = held();
        let call = ["free", "held"].map(|it| of(it, 1, Consume::Independent));
        assert_eq!(kept.verdicts(None, &call), [Passes, Undecided], "{limit}");
        assert_eq!(call.each_ref().map(|it| kept.used(it)), [(1, 0), (0, 5)], "{limit}");
    }
}

#[test]
fn nobody_is_banned_because_of_what_others_hold() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = two(&limit, 5);
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), std::slice::from_ref(&whole), NOON);
        let before = kept.of(&free);
        assert_eq!(kept.one(&hits(&free, 1), NOON).0, Undecided, "{limit}");
        // Nor by a charge that is refused for sure, in a call that is not decided.
        let watched = charge("watched", &limit, 9, Consume::AllOrNothing);
        let watched = Charge { enforced: Enforced::No, ..watched };
        let call = [watched.clone(), hits(&whole, 1)];
        assert_eq!(kept.verdicts(Some(MINE), &call), [Undecided, Undecided], "{limit}");
        assert_eq!((kept.of(&free), kept.of(&watched)), (before, Record::default()), "{limit}");
        // Once it is known.
        let mut counted = Kept(kept.0.clone());
        assert!(counted.settle(
            &free,
            Settlement::CountHold { id: OTHERS.id, hits: Hits::Add(5) },
            NOON
        ));
        assert_eq!(counted.one(&hits(&free, 1), NOON).1.banned, SECOND, "{limit}");
        assert_eq!(counted.of(&free).banned_since, NOON, "{limit}");
        assert!(kept.settle(&free, Settlement::ReleaseHold { id: OTHERS.id }, NOON));
        let (verdict, outcome) = kept.one(&hits(&free, 1), NOON);
        assert_eq!((verdict, outcome.over), (Passes, false), "{limit}");
    }
}

#[test]
fn a_ban_refuses_for_sure_whatever_others_hold() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = two(&limit, 4);
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[whole], NOON);
        assert_eq!(kept.one(&hits(&free, 6), NOON).0, Refused);
        let later = NOON.plus(MICRO);
        let (verdict, outcome) = kept.one(&hits(&free, 2), later);
        assert_ne!(verdict, Undecided, "{limit}");
        assert_eq!((outcome.over, outcome.counted), (true, false), "{limit}");
        assert_eq!(outcome.banned, SECOND - MICRO, "{limit}");
    }
}

/// The rule may be changed at any time.
#[test]
fn a_ban_that_has_ended_does_not_come_back_with_a_longer_penalty() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (_, free) = two(&limit, 9);
        let mut kept = Kept::default();
        assert_eq!(kept.one(&free, NOON).1.banned, SECOND, "{limit}");
        // Another window, where the refused hits do not count.
        let later = NOON.plus(60 * SECOND);
        let next = |limit: &Limit| {
            let part = KeyPart { key: b"name", value: b"a", shared: false };
            let counter = KeyFormat::default().key(b"a", [part].into_iter(), limit, later);
            Charge { counter, limit: limit.clone(), ..hits(&free, 1) }
        };
        assert!(!kept.one(&next(&limit), later).1.over, "{limit}");
        let longer = Limit { penalty: 3_600 * SECOND, ..limit.clone() };
        assert!(!kept.one(&next(&longer), later).1.over, "{limit}");
    }
}

#[test]
fn a_counter_that_is_set_holds_that_and_nothing_else() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = two(&limit, 2);
        let mut kept = Kept::default();
        kept.run(Some(OTHERS), &[whole], NOON);
        kept.one(&hits(&free, 1), NOON);
        kept.one(&hits(&free, 9), NOON);
        assert_ne!(kept.of(&free).banned_since, Timestamp::default());
        let mut set = |used| {
            assert!(kept.settle(&free, Settlement::Set(used), NOON), "{limit}");
            let Record { banned_since, holds, .. } = kept.of(&free);
            assert_eq!((banned_since, holds), (Timestamp::default(), vec![]), "{limit}");
            kept.used(&free).0
        };
        assert_eq!([set(4), set(0), set(5)], [4, 0, 5], "{limit}");
        let bucket = matches!(
            limit.algorithm,
            Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. }
        );
        // A bucket holds no more than its burst.
        assert_eq!(set(9), if bucket { 5 } else { 9 }, "{limit}");
        set(4);
        assert_eq!(kept.one(&hits(&free, 1), NOON).0, Passes, "{limit}");
        assert_eq!(kept.one(&hits(&free, 1), NOON).0, Refused, "{limit}");
    }
}

#[test]
fn a_counter_never_goes_beyond_what_lua_counts() {
    for limit in limits() {
        let (_, free) = two(&limit, 1);
        let mut record = Record::default();
        settle(&mut record, &free, Settlement::Set(Hits::MAX), NOON, &mut false);
        for later in 0..3 {
            let now = NOON.plus(later * MICRO);
            let how = Settlement::CountHold { id: MINE.id, hits: Hits::Add(Hits::MAX) };
            settle(&mut record, &free, how, now, &mut true);
            let look = hits(&free, 0);
            let charges = std::slice::from_ref(&look);
            let used = evaluate(charges, None, now, |_| record.clone()).evaluations[0];
            assert!(used.outcome(&look, now).used <= Hits::MAX, "{limit}");
        }
    }
}
