use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

/// `2024-03-31T00:00:00+01:00`.
fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("a moment");
    Timestamp::from_micros(u64::try_from(instant.as_microsecond()).expect("after 1970"))
}

fn window(unit: Unit, zone: &str, first_day: i8) -> Window {
    let time_zone = TimeZone::get(zone).expect("a time zone");
    let phase = Phase::Calendar(Arc::new(Calendar { time_zone, first_day }));
    Window { phase, ..Window::new(unit) }
}

/// Checks both ends of the window, and the moments just outside.
#[track_caller]
fn check(window: &Window, start: &str, end: &str) {
    let expected = Span { start: at(start), end: at(end) };
    let last = Timestamp::from_micros(expected.end.as_micros() - 1);
    assert_eq!(window.span(expected.start, 0), expected, "{start}");
    assert_eq!(window.span(last, 0), expected, "{end}");
    assert_eq!(window.span(expected.end, 0).start, expected.end);
    let before = Timestamp::from_micros(expected.start.as_micros() - 1);
    assert_eq!(window.span(before, 0).end, expected.start);
}

#[test]
fn windows_begin_at_multiples_of_their_length_plus_the_offset() {
    let minute = Window::new(Unit::Minute);
    check(&minute, "2024-02-29T12:34:00Z", "2024-02-29T12:35:00Z");
    check(&Window::new(Unit::Week), "2024-02-29T00:00:00Z", "2024-03-07T00:00:00Z");
    let shifted = Window { phase: Phase::Shifted(Duration::from_secs(15)), ..minute.clone() };
    check(&shifted, "2024-02-29T12:34:15Z", "2024-02-29T12:35:15Z");
    let spread = Window { phase: Phase::Spread, ..minute };
    let span = spread.span(at("2024-02-29T12:34:00Z"), 61);
    assert_eq!(span.start, at("2024-02-29T12:33:01Z"));
    let five = Window::times(Unit::Minute, NonZeroU32::new(5).expect("not zero")).expect("short");
    check(&five, "2024-02-29T12:30:00Z", "2024-02-29T12:35:00Z");
}

#[test]
fn the_first_window_after_the_epoch_may_have_begun_before_it() {
    let shifted =
        Window { phase: Phase::Shifted(Duration::from_secs(15)), ..Window::new(Unit::Minute) };
    let span = shifted.span(Timestamp::from_secs(14), 0);
    assert_eq!(span, Span { start: Timestamp::default(), end: Timestamp::from_secs(15) });
    let berlin = window(Unit::Month, "Europe/Berlin", 1);
    let span = berlin.span(Timestamp::default(), 0);
    assert_eq!(span, Span { start: Timestamp::default(), end: at("1970-02-01T00:00:00+01:00") });
}

#[test]
fn days_and_months_of_berlin_follow_its_clocks() {
    let day = window(Unit::Day, "Europe/Berlin", 1);
    // Of 23, 24 and 25 hours.
    check(&day, "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00");
    check(&day, "2024-07-01T00:00:00+02:00", "2024-07-02T00:00:00+02:00");
    check(&day, "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00");
    let month = window(Unit::Month, "Europe/Berlin", 1);
    check(&month, "2024-02-01T00:00:00+01:00", "2024-03-01T00:00:00+01:00");
    check(&month, "2024-03-01T00:00:00+01:00", "2024-04-01T00:00:00+02:00");
    check(&month, "2024-10-01T00:00:00+02:00", "2024-11-01T00:00:00+01:00");
    check(&month, "2024-12-01T00:00:00+01:00", "2025-01-01T00:00:00+01:00");
    // An hour that occurs twice belongs to the same day both times.
    let twice = ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00"];
    assert_eq!(day.span(at(twice[0]), 0), day.span(at(twice[1]), 0));
}

#[test]
fn a_day_without_a_midnight_begins_at_its_first_moment() {
    let paulo = window(Unit::Day, "America/Sao_Paulo", 1);
    check(&paulo, "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00");
    check(&paulo, "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00");
    let cairo = window(Unit::Month, "Africa/Cairo", 26);
    check(&cairo, "2024-03-26T00:00:00+02:00", "2024-04-26T01:00:00+03:00");
    check(&cairo, "2024-04-26T01:00:00+03:00", "2024-05-26T00:00:00+03:00");
}

#[test]
fn a_day_with_two_midnights_begins_at_the_first() {
    // Clocks went back from midnight to 23:00 of the day before, which has 25
    // hours; and in Havana from 01:00 to a second midnight.
    let paulo = window(Unit::Day, "America/Sao_Paulo", 1);
    check(&paulo, "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00");
    let havana = window(Unit::Day, "America/Havana", 1);
    check(&havana, "2023-11-05T00:00:00-04:00", "2023-11-06T00:00:00-05:00");
}

#[test]
fn a_skipped_day_has_no_window() {
    let apia = window(Unit::Day, "Pacific/Apia", 1);
    check(&apia, "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00");
    check(&apia, "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00");
}

#[test]
fn a_week_begins_on_its_first_day() {
    // 2024-02-29 was a Thursday.
    check(&window(Unit::Week, "UTC", 1), "2024-02-26T00:00:00Z", "2024-03-04T00:00:00Z");
    check(&window(Unit::Week, "UTC", 4), "2024-02-29T00:00:00Z", "2024-03-07T00:00:00Z");
    check(&window(Unit::Week, "UTC", 7), "2024-02-25T00:00:00Z", "2024-03-03T00:00:00Z");
    let york = window(Unit::Week, "America/New_York", 7);
    check(&york, "2024-03-10T00:00:00-05:00", "2024-03-17T00:00:00-04:00");
}

#[test]
fn a_month_begins_on_its_first_day() {
    let month = window(Unit::Month, "UTC", 28);
    check(&month, "2023-01-28T00:00:00Z", "2023-02-28T00:00:00Z");
    check(&month, "2023-02-28T00:00:00Z", "2023-03-28T00:00:00Z");
    check(&month, "2023-12-28T00:00:00Z", "2024-01-28T00:00:00Z");
    check(&window(Unit::Month, "UTC", 15), "2024-02-15T00:00:00Z", "2024-03-15T00:00:00Z");
}

#[test]
fn the_last_timestamp_has_a_window() {
    let last = Timestamp::from_micros(u64::MAX);
    let windows = Unit::ALL.map(Window::new);
    let zoned = ["Pacific/Kiritimati", "Pacific/Niue"]
        .map(|zone| [Unit::Day, Unit::Week, Unit::Month].map(|unit| window(unit, zone, 1)));
    for window in windows.iter().chain(zoned.iter().flatten()) {
        let span = window.span(last, 0);
        assert!(span.start <= last && span.start <= span.end, "{window:?} {span:?}");
    }
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
];

fn windows() -> impl Strategy<Value = Window> {
    let lengths = (prop::sample::select(&Unit::ALL[..]), 1_u32..200)
        .prop_filter_map("too long", |(unit, it)| Window::times(unit, NonZeroU32::new(it)?));
    let phases = prop_oneof![
        Just(Phase::Epoch),
        Just(Phase::Spread),
        any::<u32>().prop_map(|it| Phase::Shifted(Duration::from_secs(it.into()))),
    ];
    let plain = (lengths, phases).prop_map(|(window, phase)| Window { phase, ..window });
    let calendar = (prop::sample::select(&ZONES[..]), 1_i8..=28, 0_usize..3);
    let calendar = calendar.prop_map(|(zone, first, unit)| match unit {
        0 => window(Unit::Day, zone, 1),
        1 => window(Unit::Week, zone, (first - 1) % 7 + 1),
        _ => window(Unit::Month, zone, first),
    });
    prop_oneof![plain, calendar]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn windows_tile_time_without_gaps(
        window in windows(),
        seed: u64,
        now in 0..4_102_444_800_000_000_u64,
    ) {
        let now = Timestamp::from_micros(now);
        let span = window.span(now, seed);
        prop_assert!(span.start <= now && now < span.end);
        prop_assert_eq!(window.span(span.start, seed), span);
        prop_assert_eq!(window.span(Timestamp::from_micros(span.end.as_micros() - 1), seed), span);
        prop_assert_eq!(window.span(span.end, seed).start, span.end);
        if !matches!(window.phase, Phase::Calendar(_)) && span.start > Timestamp::default() {
            let length = span.end.since(span.start);
            prop_assert_eq!(length, Duration::from_secs(window.seconds()));
        }
    }

    #[test]
    fn a_window_of_a_calendar_begins_on_its_first_day(
        zone in prop::sample::select(&["UTC", "Europe/Berlin", "Asia/Tokyo"][..]),
        first in 1_i8..=28,
        now in 100_000_000_u64..4_102_444_800,
    ) {
        let local = |it: Timestamp| -> DateTime {
            let micros = i64::try_from(it.as_micros()).expect("in range");
            let instant = jiff::Timestamp::from_microsecond(micros).expect("in range");
            TimeZone::get(zone).expect("a zone").to_datetime(instant)
        };
        let now = Timestamp::from_secs(now);
        let month = window(Unit::Month, zone, first).span(now, 0);
        for it in [local(month.start), local(month.end)] {
            prop_assert_eq!((it.day(), it.hour(), it.minute()), (first, 0, 0));
        }
        let weekday = (first - 1) % 7 + 1;
        let week = window(Unit::Week, zone, weekday).span(now, 0);
        for it in [local(week.start), local(week.end)] {
            prop_assert_eq!((it.weekday().to_monday_one_offset(), it.hour()), (weekday, 0));
        }
        prop_assert!(week.end.since(week.start) <= Duration::from_secs(169 * 3600));
    }
}
