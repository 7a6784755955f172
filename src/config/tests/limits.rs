use std::{num::NonZeroU32, time::Duration};

use super::*;
use crate::{
    limit::{
        Algorithm,
        window::{Calendar, Phase},
    },
    rules::spec::{LimitSpec, OnError},
    time_zones::TimeZones,
};

/// The only limit of a descriptor with `rate_limit: { text }`.
#[track_caller]
fn limit(text: &str) -> LimitSpec {
    rule(&format!("  rate_limit: {{ {text} }}")).spec.limits[0].clone()
}

fn times(unit: Unit, multiplier: u32) -> Window {
    Window::times(unit, NonZeroU32::new(multiplier).unwrap()).unwrap()
}

fn calendar(unit: Unit, zone: &str, first_day: i8) -> Window {
    let time_zone = TimeZones::built_in().get(zone).unwrap();
    phased(Window::new(unit), Phase::Calendar(Arc::new(Calendar { time_zone, first_day })))
}

fn phased(mut window: Window, phase: Phase) -> Window {
    window.phase = phase;
    window
}

fn spec(limit: Limit) -> LimitSpec {
    LimitSpec { limit, name: Arc::default(), all_or_nothing: false, on_error: None }
}

#[test]
fn the_example_of_the_reference_gives_these_limits() {
    let reference = include_str!("../../../docs/rules.md");
    let text = reference.split("```yaml\n").find(|example| example.contains("login_ip")).unwrap();
    let rules = rules(text.split("```").next().unwrap());
    let limits: Vec<_> = rules.iter().map(|rule| rule.spec.limits.clone()).collect();

    let minute = || Window::new(Unit::Minute);
    let bucket =
        Limit { algorithm: Algorithm::TokenBucket { burst: 20 }, ..Limit::fixed(100, minute()) };
    let login = Limit {
        algorithm: Algorithm::SlidingWindow,
        penalty: Duration::from_secs(600),
        ..Limit::fixed(5, minute())
    };
    let month = Limit::fixed(1000, calendar(Unit::Month, "Europe/Berlin", 1));
    let lifetime = Duration::from_secs(30);
    let export = Limit {
        algorithm: Algorithm::Concurrency { lifetime },
        ..Limit::fixed(4, Window::new(Unit::Second))
    };
    let report = Limit {
        algorithm: Algorithm::FixedWindow { count_denied: false },
        ..Limit::fixed(10, times(Unit::Second, 90))
    };
    let report = LimitSpec { on_error: Some(OnError::Local), ..spec(report) };
    let expected =
        [vec![spec(bucket)], vec![spec(login), spec(month)], vec![spec(export)], vec![report]];
    assert_eq!(format!("{limits:#?}"), format!("{expected:#?}"));
}

#[test]
fn each_algorithm_is_read_by_its_name() {
    let minute = "requests_per_unit: 7, unit: minute";
    let lifetime = Duration::from_millis(1500);
    for (text, expected) in [
        (minute.to_owned(), Algorithm::FixedWindow { count_denied: true }),
        (format!("{minute}, count_denied: true"), Algorithm::FixedWindow { count_denied: true }),
        (format!("{minute}, count_denied: "), Algorithm::FixedWindow { count_denied: true }),
        (format!("{minute}, count_denied: no"), Algorithm::FixedWindow { count_denied: false }),
        (format!("{minute}, algorithm: "), Algorithm::FixedWindow { count_denied: true }),
        (format!("{minute}, algorithm: 'sliding_window'"), Algorithm::SlidingWindow),
        (format!("{minute}, algorithm: sliding_log"), Algorithm::SlidingLog),
        (format!("{minute}, algorithm: token_bucket"), Algorithm::TokenBucket { burst: 7 }),
        (
            format!("{minute}, algorithm: token_bucket, burst: 1, count_denied: false"),
            Algorithm::TokenBucket { burst: 1 },
        ),
        (
            format!("{minute}, algorithm: leaky_bucket, burst: 4294967295"),
            Algorithm::LeakyBucket { burst: u32::MAX },
        ),
        (
            "requests_per_unit: 1000, algorithm: concurrency, lease: 1.5s".into(),
            Algorithm::Concurrency { lifetime },
        ),
    ] {
        assert_eq!(limit(&text).limit.algorithm, expected, "{text}");
    }
}

#[test]
fn the_window_follows_from_its_keys() {
    let shifted = |window, secs| phased(window, Phase::Shifted(Duration::from_secs(secs)));
    for (text, expected) in [
        ("unit: minute, unit_multiplier: 5", times(Unit::Minute, 5)),
        ("unit: second, unit_multiplier: 3153600000", times(Unit::Second, 3_153_600_000)),
        ("unit: year, unit_multiplier: 100", times(Unit::Year, 100)),
        ("period: 1s", Window::new(Unit::Second)),
        ("period: 1h30m", times(Unit::Second, 5400)),
        ("period: 876000h", times(Unit::Second, 3_153_600_000)),
        ("unit: hour, phase: 15m", shifted(Window::new(Unit::Hour), 900)),
        ("unit: hour, phase: 0s", Window::new(Unit::Hour)),
        ("period: 90s, phase: 89s", shifted(times(Unit::Second, 90), 89)),
        ("unit: day, phase: spread", phased(Window::new(Unit::Day), Phase::Spread)),
        ("unit: day, calendar: {time_zone: UTC}", calendar(Unit::Day, "UTC", 1)),
        (
            "unit: week, calendar: {time_zone: europe/berlin, first_day: 7}",
            calendar(Unit::Week, "Europe/Berlin", 7),
        ),
        (
            "unit: month, calendar: {time_zone: Asia/Tokyo, first_day: 28}",
            calendar(Unit::Month, "Asia/Tokyo", 28),
        ),
    ] {
        let limit = limit(&format!("requests_per_unit: 1, {text}")).limit;
        assert_eq!(limit.window, expected, "{text}");
    }
}

#[test]
fn the_remaining_keys_are_read() {
    let day = "requests_per_unit: 1, unit: day";
    for (text, expected) in [("1ms", 1), ("10m", 600_000), ("87600h", 315_360_000_000)] {
        let limit = limit(&format!("{day}, penalty: {text}")).limit;
        assert_eq!(limit.penalty, Duration::from_millis(expected));
    }
    for (text, expected) in
        [("allow", OnError::Allow), ("deny", OnError::Deny), ("local", OnError::Local)]
    {
        assert_eq!(limit(&format!("{day}, on_error: {text}")).on_error, Some(expected));
    }
    for (text, expected) in [("exact", 0), ("{lease: 1%}", 10), ("{lease: 0.05}", 50)] {
        let limit = limit(&format!("unit: day, requests_per_unit: 1000, accuracy: {text}")).limit;
        assert_eq!(limit.max_prefetch, expected);
    }
    assert!(!limit(&format!("{day}, consume: independent")).all_or_nothing);
    assert!(limit(&format!("{day}, consume: all_or_nothing, count_denied: no")).all_or_nothing);
    let limit = limit(&format!("{day}, name: x"));
    assert_eq!((&*limit.name, limit.on_error, limit.all_or_nothing), ("x", None, false));
}

#[test]
fn several_limits_keep_their_names_and_replace_together() {
    let rules = rules(
        "
domain: d
descriptors:
- key: a
  shadow_mode: true
  rate_limits:
  - { name: x, unit: day, requests_per_unit: 1, replaces: [{ name: y }] }
  - { unit: minute, requests_per_unit: 2, consume: all_or_nothing, replaces: [{ name: z }] }
- { key: b, rate_limits: [{ name: y, unit: day, requests_per_unit: 1 }] }
- { key: c, rate_limits: null, rate_limit: { name: z, unit: day, requests_per_unit: 1 } }
",
    );
    let spec = &rules[0].spec;
    let limits: Vec<_> = spec
        .limits
        .iter()
        .map(|limit| (&*limit.name, limit.limit.requests, limit.all_or_nothing))
        .collect();
    assert_eq!(limits, [("x", 1, false), ("", 2, true)]);
    assert_eq!(spec.replaces, [Arc::from("y"), Arc::from("z")]);
    assert!(spec.shadow_mode && *spec.location == *"r.yaml:4");
    assert_eq!((&*rules[1].spec.limits[0].name, &*rules[2].spec.limits[0].name), ("y", "z"));
}

#[test]
fn rate_limits_has_one_to_eight_limits() {
    let many: String = (1..=9)
        .map(|multiplier| format!("  - {{ unit: day, unit_multiplier: {multiplier}, requests_per_unit: 1, count_denied: no }}\n"))
        .collect();
    check_errors(
        &format!(
            "
domain: d
descriptors:
- {{ key: a, rate_limits: [] }}
- {{ key: b, rate_limits: {{ unit: day }} }}
- {{ key: c, rate_limit: {{ unlimited: true }}, rate_limits: [{{ unit: day, requests_per_unit: 1 }}] }}
- {{ key: d, rate_limits: [day, {{ requests_per_unit: 1 }}, {{ unlimited: false, unit: day, requests_per_unit: 1 }}] }}
- key: e
  rate_limits:
{many}"
        ),
        &[
            "4:13: `rate_limits` is empty, expected 1 to 8 limits",
            "5:26: `rate_limits` is a map, expected a list of 1 to 8 maps, each like `rate_limit`",
            "6:46: `rate_limits` is combined with `rate_limit`, expected one of the two",
            "7:27: an element of `rate_limits` is `day`, expected a map like `rate_limit`",
            "7:32: the limit has no `unit`, expected one or a `period` (expected one of second, minute, hour, day, week, month, year)",
            "7:60: `unlimited` is in an element of `rate_limits`, expected a limit (write `rate_limit: { unlimited: true }` instead of `rate_limits`)",
            "18:5: there are 9 limits, expected at most 8",
        ],
    );
}

#[test]
fn a_rule_cannot_replace_its_own_limits() {
    check_errors(
        "
domain: d
descriptors:
- key: a
  rate_limits:
  - { name: x, unit: day, requests_per_unit: 1, replaces: [{ name: y }] }
  - { name: y, unit: minute, requests_per_unit: 1 }
",
        &["6:68: the rule replaces itself: `y` is its own name"],
    );
}

#[test]
fn limits_of_one_descriptor_never_share_a_counter() {
    let limits = |list: &[&str]| {
        let list: String =
            list.iter().map(|keys| format!("  - {{ requests_per_unit: 9, {keys} }}\n")).collect();
        format!("domain: d\ndescriptors:\n- key: a\n  rate_limits:\n{list}")
    };
    let month = "unit: month, calendar: {time_zone: UTC, first_day: 2}";
    for (first, second) in [
        ("unit: minute", "period: 60s, count_denied: false"),
        ("unit: hour", "unit: minute, unit_multiplier: 60, phase: 0s"),
        ("unit: day, phase: spread", "unit: day, phase: spread"),
        ("unit: day, algorithm: token_bucket", "unit: day, algorithm: token_bucket, burst: 1"),
        ("algorithm: concurrency, lease: 1s", "algorithm: concurrency, lease: 2s"),
        (month, month),
    ] {
        check_errors(
            &limits(&[first, "unit: year, algorithm: sliding_log", second]),
            &[
                "7:5: the limit has the algorithm and the window of the one at r.yaml:5, expected another (the two would share a counter: keep the tighter one)",
            ],
        );
    }
    rules(&limits(&[
        "unit: month, consume: all_or_nothing",
        month,
        "unit: month, phase: spread",
        "unit: month, phase: 1h",
        "unit: month, algorithm: sliding_window",
        "unit: month, algorithm: token_bucket",
        "unit: month, algorithm: leaky_bucket",
        "algorithm: concurrency, lease: 1s",
    ]));
}

#[test]
fn a_limit_that_another_limit_implies_is_reported() {
    let check = |first: &str, second: &str, expected: &[&str]| {
        let text = format!("- key: a\n  rate_limits:\n  - {{ {first} }}\n  - {{ {second} }}\n");
        check_warnings(&text, expected);
    };
    let hour = "unit: hour, requests_per_unit: 100";
    let minute = "unit: minute, requests_per_unit: 100";
    let message = "this limit refuses nothing that the limit at r.yaml:5 allows";
    check(hour, minute, &[&format!("6:5: {message}")]);
    check(
        hour,
        &format!("{minute}, name: x, consume: all_or_nothing"),
        &[&format!("6:5: {message}")],
    );
    check(minute, hour, &[&format!("5:5: {}", message.replace(":5", ":6"))]);
    for (first, second) in [
        (hour, "unit: minute, requests_per_unit: 99"),
        (hour, "unit: second, unit_multiplier: 7, requests_per_unit: 100"),
        ("unit: hour, requests_per_unit: 100, name: x", minute),
        ("unit: hour, requests_per_unit: 100, count_denied: no", minute),
        ("unit: hour, requests_per_unit: 100, consume: all_or_nothing", minute),
        ("unit: hour, requests_per_unit: 100, phase: 1m", minute),
        ("unit: hour, requests_per_unit: 100, algorithm: sliding_window", minute),
        (hour, "unit: minute, requests_per_unit: 100, penalty: 1h"),
        (hour, "unit: minute, requests_per_unit: 100, on_error: deny"),
    ] {
        check(first, second, &[]);
    }
}

#[test]
fn flags_apply_to_several_limits() {
    check_warnings(
        "- { key: a, shadow_mode: yes, metadata: {}, rate_limits: [{ unit: day, requests_per_unit: 1 }] }\n",
        &[],
    );
}
