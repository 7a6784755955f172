use std::{collections::HashMap, time::Duration};

use super::{
    ChargeVerdict::{Passes, Refused, Undecided},
    *,
};
use crate::{
    counter::{KeyFormat, KeyPart},
    limit::{Algorithm, Limit, Unit, Window, step::State},
    store::{Consume, Enforced, OnTimeout},
};

mod refunds;
mod holds;

const NOON: Timestamp = Timestamp::from_secs(43_200);
const SECOND: Duration = Duration::from_secs(1);
const MICRO: Duration = Duration::from_micros(1);

/// The holder of the tested calls, for a second.
const OWN: Holder = Holder { id: 7, expires_at: Timestamp::from_secs(43_201) };
/// The holder of another call.
const OTHER: Holder = Holder { id: 8, ..OWN };

#[derive(Debug, Default, PartialEq)]
struct Counters(HashMap<CounterKey, Record>);

impl Counters {
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

    fn verdicts(&mut self, holder: Option<Holder>, charges: &[Charge]) -> Vec<ChargeVerdict> {
        self.run(holder, charges, NOON).into_iter().map(|evaluation| evaluation.verdict).collect()
    }

    /// Makes one charge, without a holder.
    fn charge(&mut self, charge: &Charge, now: Timestamp) -> (ChargeVerdict, Outcome) {
        let attempt = self.run(None, std::slice::from_ref(charge), now)[0];
        (attempt.verdict, attempt.outcome(charge, now))
    }

    fn settle(&mut self, charge: &Charge, settlement: Settlement, now: Timestamp) -> bool {
        let record = self.0.entry(charge.counter.key.clone()).or_default();
        settle(record, charge, settlement, now, &mut false)
    }

    /// The record of the counter of `charge`.
    fn record(&self, charge: &Charge) -> Record {
        self.0.get(&charge.counter.key).cloned().unwrap_or_default()
    }

    /// The numbers of counted and of held hits.
    fn used(&self, charge: &Charge) -> (u64, u64) {
        let mut record = self.record(charge);
        let held = record.holds.drain(..).map(|hold| hold.hits).sum();
        let mut alone = Self::default();
        alone.0.insert(charge.counter.key.clone(), record);
        (alone.charge(&hits(charge, 0), NOON).1.used, held)
    }
}

fn minutely(requests: u32, algorithm: Algorithm) -> Limit {
    Limit { algorithm, ..Limit::fixed(requests, Window::new(Unit::Minute)) }
}

/// Limits of five hits per minute, one for each algorithm.
fn limits() -> [Limit; 7] {
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 5 },
        Algorithm::LeakyBucket { burst: 5 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(10) },
    ]
    .map(|algorithm| minutely(5, algorithm))
}

fn charge(name: &str, limit: &Limit, hits: u64, consume: Consume) -> Charge {
    let part = KeyPart { key: b"name", value: name.as_bytes(), shared: false };
    Charge {
        counter: KeyFormat::default().counter(b"a", [part].into_iter(), limit, NOON),
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

/// A charge that is all or nothing, and an independent one to the same counter.
fn dependent_and_free(limit: &Limit, hits: u64) -> (Charge, Charge) {
    let charge = |consume| charge("a", limit, hits, consume);
    (charge(Consume::AllOrNothing), charge(Consume::Independent))
}

#[test]
fn a_hold_takes_room_but_refuses_no_hits() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 3);
        let mut counters = Counters::default();
        assert_eq!(counters.verdicts(Some(OTHER), std::slice::from_ref(&whole)), [Passes]);
        assert_eq!((counters.used(&free), counters.record(&free).state), ((0, 3), None), "{limit}");
        // A read reports less room.
        assert_eq!(counters.charge(&hits(&free, 0), NOON).1.used, 3, "{limit}");
        let held = counters.record(&free);
        for (hits_, verdict) in [(3, Undecided), (5, Undecided), (6, Refused)] {
            let (found, outcome) = counters.charge(&hits(&free, hits_), NOON);
            assert_eq!((found, outcome.over), (verdict, verdict == Refused), "{limit} {hits_}");
            if verdict == Undecided {
                assert_eq!(counters.record(&free), held, "{limit} {hits_}");
            }
        }
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[whole], NOON);
        let (verdict, outcome) = counters.charge(&hits(&free, 2), NOON);
        assert_eq!((verdict, outcome.used, outcome.remaining), (Passes, 5, 0), "{limit}");
        assert_eq!(counters.used(&free), (2, 3), "{limit}");
    }
}

#[test]
fn an_expired_hold_takes_no_room_and_can_be_counted() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 5);
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[whole], NOON);
        let before = Timestamp::from_micros(OTHER.expires_at.as_micros() - 1);
        assert_eq!(counters.charge(&free, before).0, Undecided, "{limit}");
        let (verdict, outcome) = counters.charge(&free, OTHER.expires_at);
        assert_eq!((verdict, outcome.used), (Passes, 5), "{limit}");
        // Its hits can still be counted, once.
        let count = Settlement::CountHold { id: OTHER.id, hits: Hits::Add(5) };
        assert!(counters.settle(&free, count, OTHER.expires_at), "{limit}");
        assert!(!counters.settle(&free, count, OTHER.expires_at), "{limit}");
        assert_eq!(counters.record(&free).holds, [], "{limit}");
        // A bucket that is full has no room for more.
        use Algorithm::{LeakyBucket, TokenBucket};
        let bucket = matches!(limit.algorithm, TokenBucket { .. } | LeakyBucket { .. });
        let used = counters.charge(&hits(&free, 0), OTHER.expires_at).1.used;
        assert!(used == 10 || bucket && 5 <= used, "{limit}");
        // Until the record drops the hold.
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[dependent_and_free(&limit, 5).0], NOON);
        counters.charge(&free, OTHER.expires_at.plus(HOLD_MEMORY));
        assert!(!counters.settle(&free, count, OTHER.expires_at.plus(HOLD_MEMORY)), "{limit}");
    }
}

#[test]
fn a_hold_is_counted_or_released_once() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 3);
        let held = || {
            let mut counters = Counters::default();
            counters.run(Some(OWN), std::slice::from_ref(&whole), NOON);
            counters.run(Some(OTHER), &[hits(&whole, 1)], NOON);
            counters
        };
        let count = Settlement::CountHold { id: OWN.id, hits: Hits::Add(3) };
        let release = Settlement::ReleaseHold { id: OWN.id };
        for (first, used) in [(count, (3, 1)), (release, (0, 1))] {
            let mut counters = held();
            assert!(counters.settle(&free, first, NOON), "{limit}");
            for again in [first, count, release] {
                let before = counters.record(&free);
                assert!(!counters.settle(&free, again, NOON), "{limit} {again:?}");
                assert_eq!(counters.record(&free), before, "{limit} {again:?}");
            }
            assert_eq!(counters.used(&free), used, "{limit} {first:?}");
        }
    }
}

/// The limit may have been lowered meanwhile, or a clock may be behind.
#[test]
fn a_hold_is_counted_even_beyond_the_limit() {
    for limit in limits() {
        let (whole, free) = dependent_and_free(&limit, 5);
        let mut counters = Counters::default();
        counters.run(Some(OWN), &[whole], NOON);
        let algorithm = limit.algorithm.with_burst(|_| 5);
        let lower = Limit { requests: 1, algorithm, ..limit.clone() };
        let lower = Charge { limit: lower, ..free.clone() };
        assert!(
            counters.settle(&lower, Settlement::CountHold { id: OWN.id, hits: Hits::Add(5) }, NOON),
            "{limit}"
        );
        assert_eq!(counters.used(&free), (5, 0), "{limit}");
    }
}

/// The counted and held hits of each counter after a call.
fn after(charges: &[Charge], holder: Option<Holder>) -> Vec<(u64, u64)> {
    let mut counters = Counters::default();
    counters.run(holder, charges, NOON);
    charges.iter().map(|charge| counters.used(charge)).collect()
}

#[test]
fn a_granted_call_holds_dependent_charges_and_counts_the_rest() {
    for limit in limits() {
        for consume in [Consume::AllOrNothing, Consume::IfRefused] {
            let whole = charge("whole", &limit, 3, consume);
            let free = charge("free", &limit, 2, Consume::Independent);
            let look = hits(&charge("look", &limit, 0, consume), 0);
            let back = Charge { hits: Hits::Refund(2), ..charge("back", &limit, 0, consume) };
            let charges = [whole, free, look, back];
            assert_eq!(after(&charges, Some(OWN)), [(0, 3), (2, 0), (0, 0), (0, 0)], "{limit}");
            assert_eq!(after(&charges, None), [(3, 0), (2, 0), (0, 0), (0, 0)], "{limit}");
        }
    }
}

#[test]
fn a_refused_call_holds_nothing() {
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
            assert_eq!(after(&charges, Some(OWN)), expected, "{limit}");
            assert_eq!(after(&charges, None), expected, "{limit}");
        }
    }
}

/// A charge that is not enforced is counted with its call if its limit counts refused hits.
#[test]
fn refused_hits_that_refuse_no_call_are_held_if_all_or_nothing() {
    for limit in limits() {
        let counts = if limit.algorithm.counts_denied() { 9 } else { 0 };
        for (consume, expected) in
            [(Consume::AllOrNothing, (0, counts)), (Consume::IfRefused, (counts, 0))]
        {
            let watched =
                Charge { enforced: Enforced::No, ..charge("watched", &limit, 9, consume) };
            let whole = charge("whole", &limit, 3, Consume::AllOrNothing);
            assert_eq!(after(&[watched, whole], Some(OWN)), [expected, (0, 3)], "{limit}");
        }
    }
}

#[test]
fn an_undecided_call_makes_no_dependent_charge_unless_another_refuses_it() {
    for limit in limits() {
        let counts = limit.algorithm.counts_denied();
        let of = |name, hits, consume| charge(name, &limit, hits, consume);
        let held = || {
            let mut counters = Counters::default();
            counters.run(Some(OTHER), &[of("held", 5, Consume::AllOrNothing)], NOON);
            counters
        };
        let whole = of("whole", 1, Consume::AllOrNothing);
        let unsure = of("held", 1, Consume::AllOrNothing);
        let mut counters = held();
        let call = [whole.clone(), unsure.clone()];
        assert_eq!(counters.verdicts(Some(OWN), &call), [Undecided, Undecided], "{limit}");
        assert_eq!(counters, held(), "{limit}");
        // Another charge refuses the call, so the holds do not matter.
        let full = of("full", 9, Consume::Independent);
        let call = [whole.clone(), unsure, full.clone()];
        assert_eq!(counters.verdicts(Some(OWN), &call), [Passes, Passes, Refused], "{limit}");
        assert_eq!(counters.used(&whole), (0, 0), "{limit}");
        assert_eq!(counters.used(&full).0, if counts { 9 } else { 0 }, "{limit}");
        assert_eq!(counters.used(&call[1]), (0, 5), "{limit}");
        // Independent charges are made, each by itself.
        let mut counters = held();
        let call = ["free", "held"].map(|name| of(name, 1, Consume::Independent));
        assert_eq!(counters.verdicts(None, &call), [Passes, Undecided], "{limit}");
        assert_eq!(
            call.each_ref().map(|charge| counters.used(charge)),
            [(1, 0), (0, 5)],
            "{limit}"
        );
    }
}

#[test]
fn holds_of_others_start_no_ban() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = dependent_and_free(&limit, 5);
        let mut counters = Counters::default();
        counters.run(Some(OTHER), std::slice::from_ref(&whole), NOON);
        let before = counters.record(&free);
        assert_eq!(counters.charge(&hits(&free, 1), NOON).0, Undecided, "{limit}");
        // A certain refusal in an undecided call does not ban, either.
        let watched = charge("watched", &limit, 9, Consume::AllOrNothing);
        let watched = Charge { enforced: Enforced::No, ..watched };
        let call = [watched.clone(), hits(&whole, 1)];
        assert_eq!(counters.verdicts(Some(OWN), &call), [Undecided, Undecided], "{limit}");
        assert_eq!(
            (counters.record(&free), counters.record(&watched)),
            (before, Record::default()),
            "{limit}"
        );
        // Once the hold is settled.
        let mut counted = Counters(counters.0.clone());
        assert!(counted.settle(
            &free,
            Settlement::CountHold { id: OTHER.id, hits: Hits::Add(5) },
            NOON
        ));
        assert_eq!(counted.charge(&hits(&free, 1), NOON).1.banned, SECOND, "{limit}");
        assert_eq!(counted.record(&free).banned_since, NOON, "{limit}");
        assert!(counters.settle(&free, Settlement::ReleaseHold { id: OTHER.id }, NOON));
        let (verdict, outcome) = counters.charge(&hits(&free, 1), NOON);
        assert_eq!((verdict, outcome.over), (Passes, false), "{limit}");
    }
}

#[test]
fn a_ban_decides_despite_holds() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = dependent_and_free(&limit, 4);
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[whole], NOON);
        assert_eq!(counters.charge(&hits(&free, 6), NOON).0, Refused);
        let later = NOON.plus(MICRO);
        let (verdict, outcome) = counters.charge(&hits(&free, 2), later);
        assert_ne!(verdict, Undecided, "{limit}");
        assert_eq!((outcome.over, outcome.counted), (true, false), "{limit}");
        assert_eq!(outcome.banned, SECOND - MICRO, "{limit}");
    }
}

/// The penalty of the rule may change at any time.
#[test]
fn an_ended_ban_does_not_resume_with_a_longer_penalty() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (_, free) = dependent_and_free(&limit, 9);
        let mut counters = Counters::default();
        assert_eq!(counters.charge(&free, NOON).1.banned, SECOND, "{limit}");
        // Another window, where the refused hits do not count.
        let later = NOON.plus(60 * SECOND);
        let next = |limit: &Limit| {
            let part = KeyPart { key: b"name", value: b"a", shared: false };
            let counter = KeyFormat::default().counter(b"a", [part].into_iter(), limit, later);
            Charge { counter, limit: limit.clone(), ..hits(&free, 1) }
        };
        assert!(!counters.charge(&next(&limit), later).1.over, "{limit}");
        let longer = Limit { penalty: 3_600 * SECOND, ..limit.clone() };
        assert!(!counters.charge(&next(&longer), later).1.over, "{limit}");
    }
}

#[test]
fn setting_a_counter_replaces_its_record() {
    for limit in limits() {
        let limit = Limit { penalty: SECOND, ..limit };
        let (whole, free) = dependent_and_free(&limit, 2);
        let mut counters = Counters::default();
        counters.run(Some(OTHER), &[whole], NOON);
        counters.charge(&hits(&free, 1), NOON);
        counters.charge(&hits(&free, 9), NOON);
        assert_ne!(counters.record(&free).banned_since, Timestamp::default());
        let mut set = |used| {
            assert!(counters.settle(&free, Settlement::Set(used), NOON), "{limit}");
            let Record { banned_since, holds, .. } = counters.record(&free);
            assert_eq!((banned_since, holds), (Timestamp::default(), vec![]), "{limit}");
            counters.used(&free).0
        };
        assert_eq!([set(4), set(0), set(5)], [4, 0, 5], "{limit}");
        let bucket = matches!(
            limit.algorithm,
            Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. }
        );
        // A bucket holds no more than its burst.
        assert_eq!(set(9), if bucket { 5 } else { 9 }, "{limit}");
        set(4);
        assert_eq!(counters.charge(&hits(&free, 1), NOON).0, Passes, "{limit}");
        assert_eq!(counters.charge(&hits(&free, 1), NOON).0, Refused, "{limit}");
    }
}

#[test]
fn a_counter_stays_within_the_whole_numbers_of_lua() {
    for limit in limits() {
        let (_, free) = dependent_and_free(&limit, 1);
        let mut record = Record::default();
        settle(&mut record, &free, Settlement::Set(Hits::MAX), NOON, &mut false);
        for later in 0..3 {
            let now = NOON.plus(later * MICRO);
            let how = Settlement::CountHold { id: OWN.id, hits: Hits::Add(Hits::MAX) };
            settle(&mut record, &free, how, now, &mut true);
            let look = hits(&free, 0);
            let charges = std::slice::from_ref(&look);
            let used = evaluate(charges, None, now, |_| record.clone()).evaluations[0];
            assert!(used.outcome(&look, now).used <= Hits::MAX, "{limit}");
        }
    }
}
