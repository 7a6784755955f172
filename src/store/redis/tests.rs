use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    limit::{Algorithm, Hits, Limit, Unit, Window},
    rules::counter_key::KeyFormat,
    store::Consume,
};

fn limits() -> Vec<Limit> {
    let limit = |algorithm| Limit { algorithm, ..Limit::fixed(5, Window::of(Unit::Minute)) };
    [
        Algorithm::FixedWindow { count_denied: true },
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 3 },
        Algorithm::LeakyBucket { burst: 9 },
        Algorithm::Concurrency { lease: Duration::from_secs(9) },
    ]
    .map(limit)
    .into()
}

fn charge(limit: &Limit) -> Charge {
    let counter = KeyFormat::default().key(b"a", [].into_iter(), limit, Timestamp::default());
    let hits = Hits::Add(1);
    Charge {
        counter,
        limit: limit.clone(),
        hits,
        consume: Consume::Independent,
        enforced: true,
        refused: false,
    }
}

fn list(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().copied().map(Value::Int).collect())
}

fn used(outcomes: Result<Outcomes, StoreError>) -> String {
    match outcomes {
        Ok(outcomes) => format!("{:?}", outcomes.iter().map(|it| it.used).collect::<Vec<_>>()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_answer_says_what_became_of_the_charge_or_is_an_error() {
    let check = |numbers: &[i64], expected: &str| {
        let outcomes = plain(list(numbers), Timestamp::default());
        assert_eq!(used(outcomes), expected);
    };
    let failed = "the counter store failed: ";
    check(&[5], "[6]");
    check(&[], &format!("{failed}the answer has 0 counters, expected 1"));
    check(&[1, 2], &format!("{failed}the answer has 2 counters, expected 1"));
    let not_a_counter = format!("{failed}`a|60s@0` is not a counter; expected an integer there");
    check(&[-1], &not_a_counter);
    check(&[i64::MAX], &not_a_counter);
    let answer = plain(Value::Okay, Timestamp::default());
    assert_eq!(used(answer), format!("{failed}the answer is not a list of counters"));
    let answer = plain(Value::Array(vec![Value::Nil]), Timestamp::default());
    assert_eq!(used(answer), not_a_counter);
}

/// What `answer` says of one hit on the fast path.
fn plain(answer: Value, now: Timestamp) -> Result<Outcomes, StoreError> {
    let counts = [number(&elements(answer, 1)?[0])];
    fixed_window::read(&[charge(&limits()[0])], &counts, now)
}

#[test]
fn an_answer_says_of_each_charge_what_became_of_it_or_is_an_error() {
    let limits = limits();
    let check = |limit: &Limit, numbers: &[i64], expected: &str| {
        let answer = [list(numbers)];
        let outcomes = charge::read(&[charge(limit)], &answer, Timestamp::default());
        assert_eq!(used(outcomes), expected);
    };
    for (limit, numbers) in limits.iter().zip([&[4][..], &[4], &[0, 0, 4], &[4, 0, 9]]) {
        check(limit, &[&[1, 1, 0], numbers].concat(), "[4]");
        let name = charge(limit).counter.key.as_bytes().escape_ascii().to_string();
        let error = format!(
            "the counter store failed: the answer for `{name}` does not say what became of it"
        );
        check(limit, &[&[1, 1, 0, 0], numbers].concat(), &error);
        check(limit, &[&[1, 1, -1], numbers].concat(), &error);
        check(limit, &[1, 1], &error);
    }
    // Of a bucket, 12 s for each hit; a foreign server may say anything.
    check(&limits[4], &[1, 1, 0, 0, 24_000_000], "[2]");
    check(&limits[4], &[1, 1, 0, 0, 1 << 52], "[3]");
}

fn answers() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => (0..=1_i64).prop_map(Value::Int),
        3 => (0..=1_i64 << 53).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => Just(Value::Nil),
        1 => vec(any::<u8>(), 0..4).prop_map(Value::BulkString),
    ];
    let list = vec(leaf.clone(), 0..7).prop_map(Value::Array);
    let list = prop_oneof![list, leaf.clone()];
    prop_oneof![8 => vec(list, 0..3).prop_map(Value::Array), 1 => leaf]
}

proptest! {
    #[test]
    fn no_answer_is_taken_for_more_than_it_says(answer in answers(), now in 0..1_u64 << 53) {
        let now = Timestamp::from_micros(now);
        for limit in limits() {
            if let Ok(answer) = elements(answer.clone(), 1) {
                let _ = charge::read(&[charge(&limit)], &answer, now);
            }
        }
        if let Ok(outcomes) = plain(answer.clone(), now) {
            let before = i64::try_from(outcomes[0].used).unwrap() - 1;
            let most = i64::try_from(Hits::MAX).unwrap();
            let full = Value::Array(vec![Value::Int(most)]);
            prop_assert!(answer == list(&[before]) || answer == full && before == most - 1);
        }
    }

    /// Lua divides where Rust does, and its numbers are these.
    #[test]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn a_quotient_of_whole_numbers_rounds_as_it_should(
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
