use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use redis::Value;

use super::{
    batch::{Batch, ScriptScope},
    replies::PartReply,
    *,
};
use crate::{
    counter::KeyFormat,
    limit::{Algorithm, Hits, Unit, Window},
    store::{Consume, Enforced, OnTimeout, script::Holder},
};

fn limits() -> Vec<Limit> {
    let limit = |algorithm| Limit { algorithm, ..Limit::fixed(5, Window::new(Unit::Minute)) };
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 3 },
        Algorithm::LeakyBucket { burst: 9 },
        Algorithm::Concurrency { lifetime: Duration::from_secs(9) },
    ]
    .map(limit)
    .into()
}

fn charge(limit: &Limit) -> Charge {
    let counter = KeyFormat::default().counter(b"a", [].into_iter(), limit, Timestamp::default());
    let hits = Hits::Add(1);
    Charge {
        counter,
        limit: limit.clone(),
        hits,
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

fn list(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().copied().map(Value::Int).collect())
}

/// Parses the `reply` to a call with one charge. Returns `None` if the outcome depends on hits
/// that other calls hold.
fn parse(call: &Call, reply: Value) -> Result<Option<Outcome>, StoreError> {
    let batch = Batch::new(&[call]);
    let mut replies = batch.call_results(
        &[call],
        &batch.parts(ScriptScope::AllKeys),
        vec![Ok(PartReply::Value(reply))],
    );
    let [reply] = replies.remove(0)?[..] else { panic!("the call has one charge") };
    Ok(reply.map(|reply| reply.if_granted.outcome(&call.charges[0], call.now)))
}

/// One hit on the fast path.
fn plain(now: Timestamp) -> Call {
    let call = Call::new(&[charge(&limits()[0])], now);
    assert!(matches!(call.kind, CallKind::Count(_)));
    call
}

/// One hit that the script decides, or holds if `holds` is set.
fn decided(limit: &Limit, now: Timestamp, holds: bool) -> Call {
    let holder = Holder { id: 1, expires_at: now.plus(Duration::from_secs(1)) };
    Call::with_kind(smallvec![charge(limit)], now, CallKind::Decide(holds.then_some(holder)))
}

fn used(outcome: Result<Option<Outcome>, StoreError>) -> String {
    match outcome {
        Ok(Some(outcome)) => outcome.used.to_string(),
        Ok(None) => "held".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_reply_of_the_fast_path_is_a_count_or_an_error() {
    let check = |reply: Value, expected: &str| {
        assert_eq!(used(parse(&plain(Timestamp::default()), reply)), expected);
    };
    let failed = "the counter store failed: ";
    check(Value::Int(5), "6");
    check(Value::Int(-1), "held");
    let not_a_counter = format!("{failed}`a|60s@0` is not a counter; expected an integer there");
    check(list(&[]), &not_a_counter);
    check(list(&[1]), &not_a_counter);
    check(Value::Int(-2), &not_a_counter);
    check(Value::Int(i64::MAX), &not_a_counter);
    check(Value::Nil, &not_a_counter);
    check(Value::Okay, &not_a_counter);
}

#[test]
fn a_reply_of_the_script_has_a_valid_state_for_each_charge_or_is_an_error() {
    let limits = limits();
    let check = |limit: &Limit, holds, numbers: &[i64], expected: &str| {
        let call = decided(limit, Timestamp::default(), holds);
        assert_eq!(used(parse(&call, Value::Array(vec![list(numbers)]))), expected);
    };
    for (limit, state) in limits.iter().zip([&[0, 4][..], &[0, 4], &[0, 0, 4], &[4, 0, 9]]) {
        check(limit, false, &[&[1, 1, 0], state].concat(), "4");
        check(limit, true, &[&[1, 1, 0], state, &[1], state].concat(), "4");
        check(limit, false, &[&[2, 0, 0], state].concat(), "held");
        let name = charge(limit).counter.key.as_bytes().escape_ascii().to_string();
        let error = format!("the counter store failed: the reply for `{name}` is malformed");
        check(limit, false, &[&[1, 1, 0, 0], state].concat(), &error);
        check(limit, false, &[&[1, 1, -1], state].concat(), &error);
        check(limit, false, &[&[3, 1, 0], state].concat(), &error);
        check(limit, false, &[1, 1], &error);
        check(limit, true, &[&[1, 1, 0], state].concat(), &error);
    }
    // A hit takes 12 s of a bucket. A level above the burst is possible if the limit was larger.
    check(&limits[4], false, &[1, 1, 0, 0, 24_000_000], "2");
    check(&limits[4], false, &[1, 1, 0, 0, 1 << 52], "3");
}

#[test]
fn a_ban_in_a_reply_is_not_longer_than_the_penalty() {
    let now = Timestamp::from_secs(1_000);
    for penalty in [Duration::ZERO, Duration::from_secs(90)] {
        let limit = Limit { penalty, ..limits()[0].clone() };
        let call = decided(&limit, now, false);
        let reply = Value::Array(vec![list(&[1, 0, 1 << 52, 960_000_000, 4])]);
        let outcome = parse(&call, reply).unwrap().unwrap();
        assert_eq!((outcome.banned, outcome.over), (penalty, !penalty.is_zero()));
    }
}

fn replies() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => (0..=1_i64).prop_map(Value::Int),
        3 => (0..=1_i64 << 53).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => Just(Value::Nil),
        1 => vec(any::<u8>(), 0..4).prop_map(Value::BulkString),
    ];
    let list = vec(leaf.clone(), 0..10).prop_map(Value::Array);
    let list = prop_oneof![list, leaf.clone()];
    prop_oneof![8 => vec(list, 0..3).prop_map(Value::Array), 1 => leaf]
}

proptest! {
    #[test]
    fn any_reply_is_parsed_without_a_panic_and_only_integers_count(reply in replies(), now in 0..1_u64 << 53) {
        let now = Timestamp::from_micros(now);
        for limit in limits() {
            for holds in [false, true] {
                let _ = parse(&decided(&limit, now, holds), reply.clone());
            }
        }
        if let Ok(Some(outcome)) = parse(&plain(now), reply.clone()) {
            let before = i64::try_from(outcome.used).unwrap() - 1;
            let max = i64::try_from(Hits::MAX).unwrap();
            let full = Value::Int(max);
            prop_assert!(reply == Value::Int(before) || reply == full && before == max - 1);
        }
    }

    /// The scripts divide `f64` numbers where Rust divides integers.
    #[test]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn the_quotient_of_two_integers_as_f64_rounds_exactly(
        quotient in 0..=Hits::MAX,
        divisor in 1..=Hits::MAX,
        off in -2..=2_i64,
    ) {
        let near = (quotient / divisor * divisor).saturating_add_signed(off).min(Hits::MAX);
        let product = (quotient % (Hits::MAX / divisor + 1) * divisor).saturating_add_signed(off);
        for dividend in [quotient, near, product.min(Hits::MAX)] {
            let (exact, found) = (dividend.div_ceil(divisor), dividend as f64 / divisor as f64);
            prop_assert_eq!(found.ceil() as u64, exact);
            prop_assert_eq!(found.floor() as u64, dividend / divisor);
        }
    }
}
