//! Windows: the periods of time over which hits are counted.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use jiff::{ToSpan, Zoned, civil, tz::TimeZone};

use crate::time::Timestamp;

/// The definition of windows that follow one another without gaps.
///
/// A window is at least one second and at most 100 years long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    unit: Unit,
    multiplier: NonZeroU32,
    /// The moments at which windows begin.
    pub phase: Phase,
}

/// The moments at which windows begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// At multiples of their length since the Unix epoch, as those of Envoy's
    /// reference service do.
    #[default]
    Epoch,
    /// This much later than [`Self::Epoch`], modulo the length.
    Shifted(Duration),
    /// Each counter has an offset derived from its key, so that not all counters reset
    /// at the same time.
    Spread,
    /// With the days, weeks or months of a calendar. The window is one unit long.
    Calendar(Arc<Calendar>),
}

/// A time zone, and the first day of weeks or months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The time zone in which days begin.
    pub time_zone: TimeZone,
    /// The day on which the window begins: 1 to 28 for months, 1 (Monday) to 7 for weeks.
    /// Unused for days.
    pub first_day: i8,
}

/// One window: from its first moment to the first moment of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first moment of the window.
    pub start: Timestamp,
    /// The first moment of the next window.
    pub end: Timestamp,
}

impl Window {
    /// The longest window in seconds: 100 years of 365 days.
    pub const MAX_SECONDS: u64 = 100 * 365 * 86_400;

    /// A window of one `unit`, in phase with the epoch.
    pub const fn new(unit: Unit) -> Self {
        Self { unit, multiplier: NonZeroU32::MIN, phase: Phase::Epoch }
    }

    /// A window of `multiplier` units; `None` if it would be longer than
    /// [`Self::MAX_SECONDS`].
    pub fn times(unit: Unit, multiplier: NonZeroU32) -> Option<Self> {
        let length = unit.seconds().checked_mul(u64::from(multiplier.get()))?;
        if Self::MAX_SECONDS < length {
            return None;
        }
        Some(Self { unit, multiplier, phase: Phase::Epoch })
    }

    /// The unit of its length.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// Its length in units.
    pub const fn multiplier(&self) -> NonZeroU32 {
        self.multiplier
    }

    /// Its length in whole seconds; with a calendar, the nominal length of the unit.
    pub const fn seconds(&self) -> u64 {
        self.unit.seconds() * self.multiplier.get() as u64
    }

    /// The window that contains `now`. `seed` is derived from the counter's key and is
    /// used by [`Phase::Spread`] alone.
    pub fn span(&self, now: Timestamp, seed: u64) -> Span {
        let length = self.seconds();
        let phase = match &self.phase {
            Phase::Epoch => 0,
            Phase::Shifted(phase) => phase.as_secs() % length,
            Phase::Spread => seed % length,
            Phase::Calendar(calendar) => return calendar.span(self.unit, now),
        };
        let now = now.as_secs();
        // The first window after the epoch may have begun before it.
        let end = (now + length - phase) / length * length + phase;
        let start = Timestamp::from_secs(end.saturating_sub(length));
        Span { start, end: Timestamp::from_secs(end) }
    }
}

impl Calendar {
    /// The day, week or month that contains `now`. Rules with other units are rejected;
    /// a year is treated as a month, shorter units as a day.
    fn span(&self, unit: Unit, now: Timestamp) -> Span {
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
        let today = instant.to_zoned(self.time_zone.clone()).date();
        let (first, next) = self.dates(unit, today);
        Span { start: self.start_of(first), end: self.start_of(next) }
    }

    /// The first moment of a day. That is not midnight if clocks are put forward then.
    fn start_of(&self, date: civil::Date) -> Timestamp {
        let zoned = date.to_zoned(self.time_zone.clone());
        let micros = match zoned.and_then(|zoned: Zoned| zoned.start_of_day()) {
            Ok(start) => start.timestamp().as_microsecond(),
            Err(_) => i64::MAX,
        };
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The first days of the window that contains `today` and of the next window.
    fn dates(&self, unit: Unit, today: civil::Date) -> (civil::Date, civil::Date) {
        match unit {
            Unit::Week => {
                let weekday = today.weekday().to_monday_one_offset();
                let first = today
                    .saturating_sub(i64::from((weekday - self.first_day).rem_euclid(7)).days());
                (first, first.saturating_add(7.days()))
            }
            Unit::Month | Unit::Year => {
                let first =
                    today.first_of_month().saturating_add(i64::from(self.first_day - 1).days());
                let first = if first <= today { first } else { first.saturating_sub(1.month()) };
                (first, first.saturating_add(1.month()))
            }
            Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => {
                (today, today.saturating_add(1.day()))
            }
        }
    }
}

impl fmt::Display for Window {
    /// `minute`, `5 minutes`, `month in Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multiplier.get() {
            1 => write!(f, "{}", self.unit)?,
            multiplier => write!(f, "{multiplier} {}s", self.unit)?,
        }
        match &self.phase {
            Phase::Calendar(calendar) => {
                write!(f, " in {}", calendar.time_zone.iana_name().unwrap_or("UTC"))
            }
            Phase::Epoch | Phase::Shifted(_) | Phase::Spread => Ok(()),
        }
    }
}

/// A unit of time. Without a calendar a month has 30 days and a year 365, as in Envoy's
/// protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    /// Every unit, from short to long.
    pub const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its length in seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// Its name in rule files, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Parses a name, ignoring case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests;
