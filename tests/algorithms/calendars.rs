//! Windows cover time without gaps or overlaps, in any time zone.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use jiff::{
    Timestamp as Instant,
    civil::Date,
    tz::{TimeZone, TimeZoneDatabase},
};
use proptest::{prelude::*, sample::select};
use tollgate::{
    limit::{
        Unit, Window,
        window::{Calendar, Phase},
    },
    time::Timestamp,
};

/// Most of these zones skip or repeat a midnight; one skipped a whole day.
const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
];

fn tiles(window: &Window, now: u64, seed: u64) {
    let span = |at: Timestamp| window.span(at, seed);
    let own = span(Timestamp::from_micros(now));
    assert!(own.start.as_micros() <= now && now < own.end.as_micros(), "{own:?}");
    assert_eq!(span(own.start), own);
    assert_eq!(span(Timestamp::from_micros(own.end.as_micros() - 1)), own);
    assert_eq!(span(own.end).start, own.end);
}

fn date(at: u64, zone: &TimeZone) -> Date {
    Instant::from_microsecond(at as i64).unwrap().to_zoned(zone.clone()).date()
}

/// Moments from 1971 to 2200, many of them close to a midnight.
fn moments() -> impl Strategy<Value = u64> {
    let edge = |hours: u64, micros: i64| (hours * 3_600_000_000).saturating_add_signed(micros);
    prop_oneof![
        31_536_000_000_000..7_258_118_400_000_000_u64,
        (10_000..600_000_u64, -2..=2_i64).prop_map(move |(hours, micros)| edge(hours, micros)),
        // Around the day that Samoa skipped.
        1_325_000_000_000_000..1_325_500_000_000_000_u64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn windows_of_a_fixed_length_cover_time(
        now in moments(), unit in select(&Unit::ALL[..]), multiplier in 1..100_u32,
        phase in 0..10_000_000_u64, kind in 0..3, seed in any::<u64>(),
    ) {
        let multiplier = NonZeroU32::new(multiplier).unwrap();
        let mut window = Window::times(unit, multiplier).unwrap_or(Window::new(unit));
        window.phase = match kind {
            0 => Phase::Epoch,
            1 => Phase::Shifted(Duration::from_secs(phase)),
            _ => Phase::Spread,
        };
        tiles(&window, now, seed);
        let span = window.span(Timestamp::from_micros(now), seed);
        let begins = match kind { 0 => 0, 1 => phase, _ => seed } % window.seconds();
        if window.seconds() < now / 1_000_000 {
            prop_assert_eq!(span.start.as_secs() % window.seconds(), begins);
            prop_assert_eq!(span.end.since(span.start).as_secs(), window.seconds());
        }
    }

    #[test]
    fn calendar_windows_cover_time(
        now in moments(), unit in select(vec![Unit::Day, Unit::Week, Unit::Month]),
        zone in select(&ZONES[..]), first in 1..=28_i8,
    ) {
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        let first_day = if unit == Unit::Week { (first - 1) % 7 + 1 } else { first };
        let calendar = Calendar { time_zone: zone.clone(), first_day };
        let mut window = Window::new(unit);
        window.phase = Phase::Calendar(Arc::new(calendar));
        tiles(&window, now, 0);
        let span = window.span(Timestamp::from_micros(now), 0);
        let (start, end) = (span.start.as_micros(), span.end.as_micros());
        let (begins, ends) = (date(start, &zone), date(end, &zone));
        prop_assert!(date(start - 1, &zone) < begins, "it begins when a day does");
        let days = (ends - begins).get_days();
        // The first day may be a skipped one.
        let apia = zone.iana_name() == Some("Pacific/Apia");
        let skipped = |it: Date| apia && it == jiff::civil::date(2011, 12, 31);
        match unit {
            Unit::Day => prop_assert_eq!(days, 1 + i32::from(skipped(ends))),
            Unit::Week => {
                let weekday = begins.weekday().to_monday_one_offset();
                prop_assert!(weekday == first_day || skipped(begins));
                prop_assert!((6..=8).contains(&days));
            }
            _ => {
                prop_assert_eq!(begins.day(), first_day);
                prop_assert_eq!(ends.day(), first_day);
                prop_assert!((28..=31).contains(&days));
            }
        }
    }
}
