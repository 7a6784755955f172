//! What may pass: limits, the hits charged to them, and what becomes of those.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::time::Timestamp;

pub mod fixed_window;

/// So many requests per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// How many hits may pass in one window; 0 refuses all.
    pub requests: u32,
    /// How long they are counted together.
    pub window: Window,
}

/// A span of time that repeats from the Unix epoch on, without gaps.
///
/// A window that exists is at least one second and at most 100 years long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    unit: Unit,
    multiplier: NonZeroU32,
}

impl Window {
    /// The longest window there is, in seconds: 100 years of 365 days.
    pub const LONGEST: u64 = 100 * 365 * 86_400;

    /// One `unit`.
    pub const fn of(unit: Unit) -> Self {
        Self { unit, multiplier: NonZeroU32::MIN }
    }

    /// `multiplier` units; none if that is longer than [`Self::LONGEST`].
    pub fn times(unit: Unit, multiplier: NonZeroU32) -> Option<Self> {
        let length = unit.seconds().checked_mul(u64::from(multiplier.get()))?;
        (length <= Self::LONGEST).then_some(Self { unit, multiplier })
    }

    /// The unit it is counted in.
    pub const fn unit(self) -> Unit {
        self.unit
    }

    /// How many units it is long.
    pub const fn multiplier(self) -> NonZeroU32 {
        self.multiplier
    }

    /// Its length in whole seconds.
    pub const fn seconds(self) -> u64 {
        self.unit.seconds() * self.multiplier.get() as u64
    }

    /// When the window that contains `now` began.
    pub const fn start(self, now: Timestamp) -> Timestamp {
        let secs = now.as_secs();
        Timestamp::from_secs(secs - secs % self.seconds())
    }

    /// When the window that contains `now` ends: the first moment of the next.
    pub fn end(self, now: Timestamp) -> Timestamp {
        self.start(now).plus(Duration::from_secs(self.seconds()))
    }
}

/// A unit of time. Months have 30 days and years 365, as in Envoy's protocol.
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

    /// The unit called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a descriptor is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// So many hits; 0 looks at the counter and leaves it alone.
    Add(u64),
    /// So many hits are given back. A counter never falls below zero.
    Refund(u64),
}

impl Hits {
    /// The most hits that one call can add or give back, and the highest that a
    /// counter goes: 2⁵³ − 1, the last integer that Lua counts exactly.
    pub const MAX: u64 = (1 << 53) - 1;
}

/// What became of one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the charge went over the limit.
    pub over: bool,
    /// The counter after the charge.
    pub after: u64,
    /// How many more hits the limit has room for.
    pub remaining: u32,
    /// How long until the counter starts anew. Never zero.
    pub reset_after: Duration,
}

/// `duration` in seconds, rounded up: what a client is told to wait.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
