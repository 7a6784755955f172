use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::limit::{Algorithm, Unit, window::Calendar};

fn key(format: &KeyFormat, entries: &[(&[u8], &[u8], bool)], unit: Unit, now: u64) -> Vec<u8> {
    let parts = entries.iter().map(|&(key, value, shared)| KeyPart { key, value, shared });
    let limit = Limit::fixed(1, Window::new(unit));
    format.counter(b"domain", parts, &limit, Timestamp::from_secs(now)).key.name
}

#[track_caller]
fn check(format: &KeyFormat, entries: &[(&str, &str)], unit: Unit, now: u64, expected: &str) {
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes(), false)).collect();
    assert_eq!(String::from_utf8_lossy(&key(format, &entries, unit, now)), expected);
}

#[test]
fn the_reference_format_is_byte_exact() {
    let reference = KeyFormat { style: KeyStyle::Reference, ..KeyFormat::default() };
    check(&reference, &[("key", "value")], Unit::Second, 1234, "domain_key_value_1234");
    let two = [("key2", "value2"), ("subkey2", "subvalue2")];
    check(&reference, &two, Unit::Minute, 1234, "domain_key2_value2_subkey2_subvalue2_1200");
    check(&reference, &[("key3", "value3")], Unit::Hour, 1_000_000, "domain_key3_value3_997200");
    check(&reference, &[("key3", "value3")], Unit::Day, 1_000_000, "domain_key3_value3_950400");
    check(&reference, &[("files", "files/*")], Unit::Second, 1234, "domain_files_files/*_1234");
    let prefixed = KeyFormat { prefix: "prefix:".into(), ..reference };
    check(&prefixed, &[("key", "value")], Unit::Second, 1234, "prefix:domain_key_value_1234");
}

#[test]
fn the_unambiguous_style_is_readable() {
    let ours = KeyFormat::default();
    check(
        &ours,
        &[("user", "ann"), ("path", "/a_b")],
        Unit::Minute,
        1234,
        "domain|user=ann|path=/a_b|60s@1200",
    );
    check(&ours, &[("a{b}", "c|d=100%")], Unit::Second, 9, "domain|a%7bb%7d=c%7cd%3d100%25|1s@9");
}

fn limit(algorithm: Algorithm, window: Window) -> Limit {
    Limit { algorithm, ..Limit::fixed(5, window) }
}

fn phased(unit: Unit, phase: Phase) -> Window {
    let mut window = Window::new(unit);
    window.phase = phase;
    window
}

/// Limits that differ in their algorithm or window.
fn limits() -> Vec<(Limit, &'static str)> {
    let fixed = Algorithm::FixedWindow { count_denied: true };
    let minute = || Window::new(Unit::Minute);
    let five = Window::times(Unit::Minute, NonZeroU32::new(5).expect("it is 5"));
    let time_zone = TimeZone::get("Europe/Berlin").expect("a time zone");
    let calendar = Phase::Calendar(Arc::new(Calendar { time_zone, first_day: 1 }));
    let shifted = Phase::Shifted(Duration::from_secs(15));
    let lifetime = Duration::from_secs(9);
    vec![
        (limit(fixed, minute()), "60s@1234500"),
        (limit(fixed, five.expect("it is short")), "300s@1234500"),
        (limit(fixed, phased(Unit::Minute, shifted)), "60s+15@1234515"),
        (limit(fixed, phased(Unit::Minute, Phase::Spread)), "60s+*@"),
        (limit(fixed, phased(Unit::Day, calendar.clone())), "day:Europe/Berlin:1@1206000"),
        (limit(fixed, phased(Unit::Month, calendar)), "month:Europe/Berlin:1@0"),
        (limit(Algorithm::SlidingWindow, minute()), "sliding_window:60s"),
        (limit(Algorithm::SlidingLog, minute()), "sliding_log:60s"),
        (limit(Algorithm::TokenBucket { burst: 1 }, minute()), "token_bucket:60s"),
        (limit(Algorithm::LeakyBucket { burst: 1 }, minute()), "leaky_bucket:60s"),
        (limit(Algorithm::Concurrency { lifetime }, minute()), "concurrency"),
    ]
}

#[test]
fn a_name_ends_with_the_algorithm_or_the_window() {
    for (limit, expected) in limits() {
        let parts = [KeyPart { key: b"a", value: b"b", shared: false }];
        let now = Timestamp::from_secs(1_234_520);
        let name = KeyFormat::default().counter(b"d", parts.into_iter(), &limit, now).key;
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        assert!(name.starts_with(&format!("d|a=b|{expected}")), "{name}");
    }
}

#[test]
fn limits_of_one_descriptor_never_share_a_name() {
    for style in [KeyStyle::Unambiguous, KeyStyle::Reference] {
        let format = KeyFormat { style, ..KeyFormat::default() };
        let mut names = HashSet::new();
        for (limit, _) in limits() {
            for penalty in [Duration::ZERO, Duration::from_secs(1)] {
                let limit = Limit { penalty, ..limit.clone() };
                let part = KeyPart { key: b"a", value: b"b", shared: false };
                let now = Timestamp::from_secs(1_234_520);
                let named = format.counter_of_several(b"d", [part].into_iter(), &limit, now);
                assert!(names.insert(named.key), "{limit:?}");
            }
        }
    }
}

#[test]
fn a_penalty_outlasts_the_window_of_its_counter() {
    let window = Window::new(Unit::Second);
    let limit = Limit { penalty: Duration::from_secs(1), ..Limit::fixed(1, window) };
    for style in [KeyStyle::Unambiguous, KeyStyle::Reference] {
        let format = KeyFormat { style, ..KeyFormat::default() };
        let named =
            |limit, now| format.counter(b"d", [].into_iter(), limit, Timestamp::from_secs(now));
        let (first, second) = (named(&limit, 1), named(&limit, 2));
        assert_eq!(first.key, second.key);
        assert_ne!(first.span, second.span);
        let limit = Limit { penalty: Duration::ZERO, ..limit.clone() };
        assert_ne!(named(&limit, 1).key, named(&limit, 2).key);
    }
    let name = KeyFormat::default().counter(b"d", [].into_iter(), &limit, Timestamp::default()).key;
    assert_eq!(String::from_utf8_lossy(&name.name), "d|penalty:fixed_window:1s");
}

#[test]
fn spread_windows_of_different_counters_begin_at_different_times() {
    let limit =
        limit(Algorithm::FixedWindow { count_denied: true }, phased(Unit::Hour, Phase::Spread));
    let mut starts = HashSet::new();
    for user in 0..100_u32 {
        let value = user.to_string();
        let part = KeyPart { key: b"user", value: value.as_bytes(), shared: false };
        let now = Timestamp::from_secs(1_000_000);
        let counter = KeyFormat::default().counter(b"d", [part].into_iter(), &limit, now);
        starts.insert(counter.span.start);
    }
    assert!(starts.len() > 90, "{}", starts.len());
}

#[test]
fn a_long_list_of_entries_is_hashed() {
    let long = vec![b'x'; 1 << 20];
    let name = key(&KeyFormat::default(), &[(b"key", &long, false)], Unit::Day, 0);
    assert!(name.len() < 100, "{}", String::from_utf8_lossy(&name));
}

fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, bool)>> {
    let text = || vec(prop::sample::select(&b"a|=~#%{_\xff"[..]), 0..3);
    vec((text(), text(), any::<bool>()), 0..3)
}

proptest! {
    #[test]
    fn different_descriptors_never_share_a_name(a in entries(), b in entries()) {
        let name = |entries: &[(Vec<u8>, Vec<u8>, bool)]| {
            let entries: Vec<_> = entries.iter().map(|(k, v, s)| (&k[..], &v[..], *s)).collect();
            key(&KeyFormat::default(), &entries, Unit::Minute, 60)
        };
        prop_assert_eq!(a == b, name(&a) == name(&b));
    }
}

#[test]
fn different_windows_never_share_a_name() {
    let entries: [(&[u8], &[u8], bool); 1] = [(b"a", b"b", false)];
    let mut names: Vec<_> =
        Unit::ALL.into_iter().map(|unit| key(&KeyFormat::default(), &entries, unit, 0)).collect();
    names.dedup();
    assert_eq!(names.len(), Unit::ALL.len());
}

#[test]
fn a_name_begins_with_its_domain() {
    let limit = Limit::fixed(1, Window::new(Unit::Minute));
    for (style, domain) in [(KeyStyle::Unambiguous, "p:a%7cb"), (KeyStyle::Reference, "p:a|b")] {
        let format = KeyFormat { prefix: "p:".into(), style };
        let part = KeyPart { key: b"c", value: b"d", shared: false };
        let named = format.counter(b"a|b", [part].into_iter(), &limit, Timestamp::default());
        assert_eq!(named.key.domain(), domain.as_bytes());
    }
}
