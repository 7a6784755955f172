//! Arbitrary values of keys, correct or not.

use ::redis::cmd;
use proptest::{collection::vec, prelude::*};
use tollgate::{
    counter::CounterKey,
    limit::{
        bucket::{self, Scale},
        permits, sliding_window,
        step::State,
    },
};

use super::*;
use crate::{
    model_store::ModelStore,
    random_calls::hits,
    random_tests::{TestStore, config},
};

/// Numbers of all magnitudes below 2^53.
fn number() -> impl Strategy<Value = u64> {
    (0..=53_u32, 0..=Hits::MAX).prop_map(|(bits, number)| number & ((1 << bits) - 1))
}

fn window() -> impl Strategy<Value = Window> {
    // Up to ten years.
    prop_oneof![1..100_u32, 1..315_360_000_u32].prop_map(seconds)
}

fn seconds(count: u32) -> Window {
    Window::times(Unit::Second, count.try_into().expect("it is not 0")).expect("it is short")
}

fn requests() -> impl Strategy<Value = u32> {
    prop_oneof![0..10_u32, any::<u32>()]
}

fn new_charge(
    algorithm: Algorithm,
    requests: u32,
    window: Window,
    hits: Hits,
    now: Timestamp,
) -> Charge {
    let limit = Limit { algorithm, ..Limit::fixed(requests, window) };
    let counter = KeyFormat::default().counter(b"d", [].into_iter(), &limit, now);
    Charge {
        counter,
        limit,
        hits,
        consume: Consume::Independent,
        enforced: Enforced::Yes,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

/// Sets a counter to `text`, charges it twice, and compares a model that begins with
/// `state`.
fn check(
    test: &TestStore,
    charge: &Charge,
    (text, state): (&str, Option<State>),
    now: Timestamp,
) -> Result<(), TestCaseError> {
    let key: &CounterKey = &charge.counter.key;
    test.query::<()>(cmd("SET").arg(key.as_bytes()).arg(text));
    let mut model = ModelStore::default();
    if let Some(state) = state {
        model.states.insert(key.clone(), state);
    }
    for _ in 0..2 {
        let expected = model.charge(std::slice::from_ref(charge), now);
        let found = test.charge(std::slice::from_ref(charge), now);
        prop_assert_eq!(found, expected);
    }
    Ok(())
}

fn now() -> impl Strategy<Value = u64> {
    1_u64 << 40..1 << 52
}

#[test]
fn any_sliding_window_is_weighed_exactly() {
    let test = TestStore::new();
    let ahead = prop_oneof![Just(0_i64), -2..=2_i64, any::<i32>().prop_map(i64::from)];
    proptest!(config(6_000, "tests/store/states.regressions"), |(
        window in window(), limit in requests(), hits in hits(), now in now(), windows in -3..=3_i64,
        off in prop_oneof![4 => Just(0_i64), 1 => ahead], before in number(), near in -2..=2_i64,
        (exactly, current) in (any::<bool>(), prop_oneof![0..20_u64, number()]),
    )| {
        let now = Timestamp::from_micros(now);
        let charge = new_charge(Algorithm::SlidingWindow, limit, window, hits, now);
        let span = charge.counter.span;
        let length = u64::try_from(span.end.since(span.start).as_micros()).unwrap();
        let length = i64::try_from(length).unwrap();
        let start = span.start.as_micros().saturating_add_signed(windows * length + off);
        let start = start.min(Hits::MAX);
        let mut before = before;
        let room = u64::from(limit).saturating_sub(current.saturating_add(hits.requested()));
        if exactly {
            // The largest number that fits, or one close to it.
            let left = span.end.since(now).as_micros().max(1);
            let fit = u128::from(room) * u128::try_from(length).unwrap() / left;
            before = u64::try_from(fit).unwrap_or(Hits::MAX).saturating_add_signed(near);
            before = before.min(Hits::MAX);
        }
        let state =
            sliding_window::State { start: Timestamp::from_micros(start), before, current };
        let text = format!("{start}:{before}:{current}");
        check(&test, &charge, (&text, Some(State::Window(state))), now)?;
    });
}

#[test]
fn any_bucket_is_drained_exactly() {
    let test = TestStore::new();
    proptest!(config(6_000, "tests/store/states.regressions"), |(
        window in window(), limit in requests(), burst in requests(), hits in hits(), now in now(),
        back in prop_oneof![-200_000_000..200_000_000_i64, -5..5_i64, any::<i64>()],
        level in number(), (near, kind) in (-2..=2_i64, 0..5_u8), other in number(),
    )| {
        let now = Timestamp::from_micros(now);
        let charge = new_charge(Algorithm::TokenBucket { burst }, limit, window, hits, now);
        let scale = Scale::new(&charge.limit);
        let tick = scale.tick_at(now).saturating_add_signed(back).min(Hits::MAX);
        let asked = hits.requested().saturating_mul(scale.cost);
        let drained = scale.tick_at(now).saturating_sub(tick).saturating_mul(scale.drain);
        let level = match kind {
            0 => scale.capacity.saturating_sub(asked).saturating_add(drained),
            1 => drained,
            _ => level,
        };
        let level = level.saturating_add_signed(near).min(Hits::MAX);
        let cost = if kind < 3 { scale.cost } else { other };
        let at = (tick.saturating_mul(scale.tick)).min(Hits::MAX);
        let text = format!("{at}:{level}:{cost}");
        let at = Timestamp::from_micros(at);
        let state = State::Bucket(bucket::State { at, level, cost });
        check(&test, &charge, (&text, Some(state)), now)?;
    });
}

#[test]
fn any_permits_are_counted_exactly() {
    let test = TestStore::new();
    let end = prop_oneof![
        3 => -5_000_000..20_000_000_i64,
        1 => -2..=2_i64,
        1 => 69_999_998..=70_000_002_i64,
        1 => -1_000_000_000..1_000_000_000_i64,
    ];
    proptest!(config(3_000, "tests/store/states.regressions"), |(
        limit in 0..40_u32, hits in hits(), now in now(), ends in vec((end, 1..5_u64), 0..12),
        before in any::<bool>(),
    )| {
        let now = Timestamp::from_micros(now);
        let lifetime = Duration::from_secs(10);
        let window = Window::new(Unit::Second);
        let charge = new_charge(Algorithm::Concurrency { lifetime }, limit, window, hits, now);
        let (mut text, mut permits) = (String::new(), Vec::new());
        for (offset, hits) in ends {
            let end = now.as_micros().saturating_add_signed(offset);
            // An older format with the end of each permit, and the current one with its begin.
            text += &if before {
                format!("{}:{hits},", end + 10_000_000)
            } else {
                format!("{end}@{hits},")
            };
            permits.push(permits::Grant { granted_at: Timestamp::from_micros(end), hits });
        }
        let state = State::Permits(permits::State(std::sync::Arc::new(permits)));
        check(&test, &charge, (&text, Some(state)), now)?;
    });
}

#[test]
fn lists_of_an_older_version_are_read_and_converted() {
    let test = TestStore::new();
    let lifetime = Duration::from_secs(60);
    let window = Window::new(Unit::Minute);
    for (mark, until) in [('@', 0), (':', 60_000_000)] {
        for algorithm in [Algorithm::SlidingLog, Algorithm::Concurrency { lifetime }] {
            let charge = new_charge(algorithm, 1_000, window.clone(), Hits::Add(1), NOON);
            let key = charge.counter.key.as_bytes();
            let moments = NOON.as_micros() - 500 + until..NOON.as_micros() + until;
            let mut text = String::new();
            for moment in moments {
                text += &format!("{moment}{mark}1,");
            }
            test.query::<()>(cmd("SET").arg(key).arg(text));
            for used in 501..=502 {
                assert_eq!(test.charge(std::slice::from_ref(&charge), NOON)[0].used, used);
                let kept: Vec<u8> = test.query(cmd("GET").arg(key));
                assert!(kept[0] == b'#' && kept.len() < 4_200, "{} bytes", kept.len());
            }
        }
    }
}

#[test]
fn an_invalid_state_is_ignored_and_overwritten() {
    let test = TestStore::new();
    let window = Window::new(Unit::Minute);
    for algorithm in [
        Algorithm::FixedWindow { count_denied: false },
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: 5 },
    ] {
        let charge = new_charge(algorithm, 5, window.clone(), Hits::Add(2), NOON);
        for text in [
            "",
            "text",
            "1e3",
            "1.5",
            " 1",
            "1:2",
            "1:2:",
            "1:2:3:4",
            "-1:2:3",
            "1:2:3\n",
            ",",
            "1:0,",
            "9007199254740992:1:1",
            "1:9007199254740992:1",
            "43200000000:1:9007199254740992",
            "43200000000:9007199254740992:1",
            "43210000000:1",
            "43210000000:1,x",
            "43210000000:9007199254740991,43210000000:1,",
            "#",
            "#\0\0\0",
            "#\0\0\0\x13\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            // A permit without a hit.
            "#\0\0\0\x1b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            check(&test, &charge, (text, None), NOON).expect(text);
        }
        let key = charge.counter.key.as_bytes();
        test.query::<()>(cmd("DEL").arg(key));
        test.query::<()>(cmd("RPUSH").arg(key).arg("1"));
        assert_eq!(test.charge(std::slice::from_ref(&charge), NOON)[0].used, 2);
        let kind: String = test.query(cmd("TYPE").arg(key));
        assert_eq!(kind, "string");
    }
}

#[test]
fn only_a_valid_suffix_of_the_state_is_a_ban() {
    let test = TestStore::new();
    for (text, over) in [
        ("43200000000:0!43199000000", true),
        ("!43199000000", true),
        ("!43190000001", true),
        ("!43190000000", false),
        // Written by a clock that is ahead.
        ("!43200000001", true),
        ("!9007199254740991", true),
        ("!9007199254740992", false),
        ("!", false),
        ("!-1", false),
        ("!43199000000&", false),
        ("43199000000", false),
    ] {
        test.clear();
        let limit = Limit { penalty: Duration::from_secs(10), ..minutely(5) };
        let charge = charge("a", limit, Hits::Add(1), NOON);
        test.query::<()>(cmd("SET").arg(charge.counter.key.as_bytes()).arg(text));
        assert_eq!(test.charge(&[charge], NOON)[0].over, over, "{text}");
    }
}

/// Another client may leave a negative integer, which counts as 0 for concurrent calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_hits_on_a_negative_integer_are_counted_once_each() {
    let server = testkit::redis::RedisServer::start();
    let first = store(&server.url(), PATIENT);
    let second = store(&server.url(), PATIENT);
    let third = store(&server.url(), PATIENT);
    let stores = [&first, &second, &third];
    for store in stores {
        hit(store, "warm").await.expect("the server runs");
    }
    let mut client = server.client();
    for below in [1, 2, 3, 1_000] {
        for round in 0..20 {
            let name = format!("{below} {round}");
            let one = charge(&name, minutely(9), Hits::Add(1), NOON);
            let key = one.counter.key.as_bytes();
            cmd("SET").arg(key).arg(-below).exec(&mut client).expect("it runs");
            let mut calls = Vec::new();
            for store in [stores, stores].concat() {
                calls.push(hit(store, &name));
            }
            let mut found = Vec::new();
            for value in futures_util::future::join_all(calls).await {
                found.push(value.expect("the server runs"));
            }
            found.sort_unstable();
            let kept: u64 = cmd("GET").arg(key).query(&mut client).expect("it runs");
            assert_eq!((found, kept), ((1..=6).collect(), 6), "{below}");
        }
    }
}
