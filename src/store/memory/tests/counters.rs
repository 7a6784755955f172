//! Operations of operators on single counters.

use futures_util::FutureExt;

use super::{
    algorithms::{algorithms, minutely, outcomes},
    *,
};

const PENALTY: Duration = Duration::from_secs(600);

fn at_once<T, E: std::fmt::Debug>(result: impl Future<Output = Result<T, E>>) -> T {
    result.now_or_never().expect("memory replies at once").expect("memory never fails")
}

fn peek(memory: &Memory, charge: &Charge, now: Timestamp) -> Outcome {
    at_once(memory.peek(&charge.counter, &charge.limit, now))
}

fn reset(memory: &Memory, charge: &Charge) {
    let Charge { counter, limit, .. } = charge;
    at_once(memory.change(counter, limit, CounterChange::Reset, CallTime::at(NOON)));
}

fn set(memory: &Memory, charge: &Charge, used: u64, now: Timestamp) {
    let Charge { counter, limit, .. } = charge;
    at_once(memory.change(counter, limit, CounterChange::Set(used), CallTime::at(now)));
}

/// One hit on a counter of seven per minute, without and with a penalty.
fn charges() -> impl Iterator<Item = Charge> {
    algorithms().into_iter().flat_map(|algorithm| {
        [Duration::ZERO, PENALTY].map(|penalty| {
            let limit = Limit { penalty, ..minutely(7, algorithm) };
            charge(b"a", &limit, Hits::Add(1), NOON)
        })
    })
}

fn hit(memory: &Memory, charge: &Charge, hits: u64, now: Timestamp) -> Outcome {
    outcomes(memory, &[Charge { hits: Hits::Add(hits), ..charge.clone() }], now)[0]
}

#[test]
fn peek_returns_the_counter_and_changes_nothing() {
    for charge in charges() {
        let memory = Memory::new(1_000);
        assert_eq!((peek(&memory, &charge, NOON).used, memory.len()), (0, 0));
        hit(&memory, &charge, 7, NOON);
        for _ in 0..9 {
            let outcome = peek(&memory, &charge, NOON);
            assert_eq!((outcome.used, outcome.remaining, outcome.over), (7, 0, false));
        }
        hit(&memory, &charge, 1, NOON);
        let banned = peek(&memory, &charge, NOON.plus(Duration::from_secs(1))).banned;
        let left = charge.limit.penalty.saturating_sub(Duration::from_secs(1));
        assert_eq!(banned, left, "{:?}", charge.limit);
    }
}

#[test]
fn reset_removes_the_counter_and_its_ban() {
    for charge in charges() {
        let memory = Memory::new(1_000);
        reset(&memory, &charge);
        assert!(memory.is_empty());
        hit(&memory, &charge, 7, NOON);
        assert!(hit(&memory, &charge, 1, NOON).over);
        reset(&memory, &charge);
        assert!(memory.is_empty());
        let outcome = hit(&memory, &charge, 7, NOON);
        assert_eq!((outcome.over, outcome.used), (false, 7), "{:?}", charge.limit);
    }
}

#[test]
fn set_replaces_the_value_and_ends_the_ban() {
    for charge in charges() {
        let memory = Memory::new(1_000);
        let limit = &charge.limit;
        hit(&memory, &charge, 7, NOON);
        assert!(hit(&memory, &charge, 1, NOON).over);
        set(&memory, &charge, 5, NOON);
        let outcome = peek(&memory, &charge, NOON);
        assert_eq!((outcome.used, outcome.banned), (5, Duration::ZERO), "{limit:?}");
        assert!(!hit(&memory, &charge, 2, NOON).over, "{limit:?}");
        assert!(hit(&memory, &charge, 1, NOON).over, "{limit:?}");
        set(&memory, &charge, 0, NOON);
        assert!(memory.is_empty());
        assert!(!hit(&memory, &charge, 7, NOON).over, "{limit:?}");
        set(&memory, &charge, 7, NOON);
        assert!(hit(&memory, &charge, 1, NOON).over, "{limit:?}");
    }
}

#[test]
fn a_counter_that_was_set_expires_like_any_other() {
    for charge in charges() {
        let (set_, hit_) = (Memory::new(1_000), Memory::new(1_000));
        set(&set_, &charge, 7, NOON);
        hit(&hit_, &charge, 7, NOON);
        for second in [0, 1, 30, 59, 60, 61, 119, 120, 121] {
            let now = NOON.plus(Duration::from_secs(second));
            let charge = super::charge(b"a", &charge.limit, Hits::Add(0), now);
            let [set, hit] = [&set_, &hit_].map(|it| peek(it, &charge, now));
            assert_eq!(set, hit, "{:?} after {second} s", charge.limit);
        }
    }
}
