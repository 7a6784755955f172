//! What may pass: limits, the hits charged to them, and what becomes of those.

use std::{fmt, time::Duration};

pub mod bucket;
pub mod fixed_window;
pub mod leases;
pub mod sliding_window;
pub mod step;
pub mod window;

pub use self::window::{Span, Unit, Window};

/// So many requests per window, and how they are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many hits may pass in one window; 0 refuses all.
    pub requests: u32,
    /// How long they are counted together, or how long `requests` take to
    /// come back.
    pub window: Window,
    /// How they are counted.
    pub algorithm: Algorithm,
    /// How long everything is refused once something was; zero for no longer
    /// than it must be.
    pub penalty: Duration,
    /// How many hits an instance may take ahead of their time, to spend them
    /// without asking; 0 for none.
    pub max_prefetch: u32,
}

impl Limit {
    /// A limit of Envoy's reference service: a fixed window that counts what
    /// it refuses.
    pub const fn fixed(requests: u32, window: Window) -> Self {
        let algorithm = Algorithm::FixedWindow { count_denied: true };
        Self { requests, window, algorithm, penalty: Duration::ZERO, max_prefetch: 0 }
    }

    /// Whether the name of a counter tells its window, so that the state need not.
    pub const fn has_window_in_key(&self) -> bool {
        self.algorithm.info().window_in_key && self.penalty.is_zero()
    }

    /// Whether hits take slots that are given back, rather than use something up.
    pub const fn has_slots(&self) -> bool {
        self.algorithm.info().lease
    }

    /// The most hits that one call can ever have granted.
    pub const fn capacity(&self) -> u32 {
        match self.algorithm {
            // What never drains would let its burst pass once, and not refuse all.
            _ if self.requests == 0 => 0,
            Algorithm::TokenBucket { burst } | Algorithm::LeakyBucket { burst } => burst,
            Algorithm::FixedWindow { .. }
            | Algorithm::SlidingWindow
            | Algorithm::SlidingLog
            | Algorithm::Concurrency { .. } => self.requests,
        }
    }
}

/// How hits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// See [`fixed_window`].
    FixedWindow {
        /// Whether hits that are refused count all the same.
        count_denied: bool,
    },
    /// See [`sliding_window`].
    SlidingWindow,
    /// See [`leases`], where a lease lasts as long as the window.
    SlidingLog,
    /// See [`bucket`].
    TokenBucket {
        /// How many tokens the bucket holds.
        burst: u32,
    },
    /// See [`bucket`]: the same bucket, seen from its other end.
    LeakyBucket {
        /// How many requests the queue holds.
        burst: u32,
    },
    /// See [`leases`], which are given back.
    Concurrency {
        /// How long a slot is held if it is not given back.
        lease: Duration,
    },
}

/// What the rest of the service may know of an algorithm. Whoever must think about a
/// new one asks here, or takes part in the table of [`step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmInfo {
    /// Its name in rule files.
    pub name: &'static str,
    /// The name of its function in the scripts of Redis.
    pub lua: &'static str,
    /// Whether rules give it a window, and may give it a penalty.
    pub window: bool,
    /// Whether windows may be those of a calendar.
    pub calendar: bool,
    /// Whether rules may let hits count that are refused.
    pub count_denied: bool,
    /// Whether rules may say when windows begin.
    pub phase: bool,
    /// Whether rules may say how much passes at once.
    pub burst: bool,
    /// Whether hits are given back, and have a lease.
    pub lease: bool,
    /// Whether it keeps each hit by itself, so that the limit is bounded.
    pub keeps_each_hit: bool,
    /// Whether the name of a counter tells its window, unless it has a penalty.
    pub window_in_key: bool,
    /// How long a refusal is known to last.
    pub denial: Denial,
}

/// How long a refusal is known to last, whatever others do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Until the window ends.
    UntilWindowEnds,
    /// For one hit until there is room for one.
    UntilOneFits,
    /// Not at all: somebody may give back a slot at any time.
    Never,
}

impl Algorithm {
    /// What is to be known of it.
    pub const fn info(self) -> AlgorithmInfo {
        match self {
            Self::FixedWindow { .. } => fixed_window::INFO,
            Self::SlidingWindow => sliding_window::INFO,
            Self::SlidingLog => leases::SLIDING_LOG,
            Self::TokenBucket { .. } => bucket::TOKEN_BUCKET,
            Self::LeakyBucket { .. } => bucket::LEAKY_BUCKET,
            Self::Concurrency { .. } => leases::CONCURRENCY,
        }
    }

    /// Its name in rule files.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether hits that are refused count.
    pub const fn counts_denied(self) -> bool {
        match self {
            Self::FixedWindow { count_denied } => count_denied,
            Self::SlidingWindow
            | Self::SlidingLog
            | Self::TokenBucket { .. }
            | Self::LeakyBucket { .. }
            | Self::Concurrency { .. } => false,
        }
    }

    /// How long a slot is held that is not given back, if there are slots.
    pub const fn lease(self) -> Option<Duration> {
        match self {
            Self::Concurrency { lease } => Some(lease),
            Self::FixedWindow { .. }
            | Self::SlidingWindow
            | Self::SlidingLog
            | Self::TokenBucket { .. }
            | Self::LeakyBucket { .. } => None,
        }
    }

    /// The same with another burst, if it has one.
    #[must_use]
    pub fn with_burst(self, change: impl Fn(u32) -> u32) -> Self {
        match self {
            Self::TokenBucket { burst } => Self::TokenBucket { burst: change(burst) },
            Self::LeakyBucket { burst } => Self::LeakyBucket { burst: change(burst) },
            Self::FixedWindow { .. }
            | Self::SlidingWindow
            | Self::SlidingLog
            | Self::Concurrency { .. } => self,
        }
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

    /// No more than [`Self::MAX`] of them.
    pub fn capped(self) -> Self {
        match self {
            Self::Add(hits) => Self::Add(hits.min(Self::MAX)),
            Self::Refund(hits) => Self::Refund(hits.min(Self::MAX)),
        }
    }

    /// As one number: those given back below 0.
    pub fn signed(self) -> i64 {
        match self.capped() {
            Self::Add(hits) => hits.cast_signed(),
            Self::Refund(hits) => -hits.cast_signed(),
        }
    }

    /// How many hits were asked for; none for a refund.
    pub const fn requested(self) -> u64 {
        match self {
            Self::Add(hits) => hits,
            Self::Refund(_) => 0,
        }
    }
}

/// What became of one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the charge went over the limit.
    pub over: bool,
    /// Whether its hits are counted although it did.
    pub counted: bool,
    /// How many hits the limit holds now: those that count against the next.
    pub used: u64,
    /// How many more hits the limit has room for.
    pub remaining: u32,
    /// How long until the limit is as if it had never been used.
    pub reset_after: Duration,
    /// How long until the same charge passes, or passes again, if nobody else
    /// asks, and not a microsecond less; none if it never does.
    pub retry_after: Option<Duration>,
    /// How long a penalty goes on to refuse everything; zero if none does.
    pub banned: Duration,
    /// Whether this was known without asking the store. Then nothing was
    /// charged.
    pub cached: bool,
}

/// How the hits of one charge are counted in the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hits that passed.
    pub within: u64,
    /// Hits that came close to the limit, passed or not.
    pub near: u64,
    /// Hits beyond the limit.
    pub over: u64,
}

/// Divides `hits` into those within, near and over a limit of `capacity`.
///
/// `near_ratio` is the share of the limit from which a hit counts as near. It
/// is an `f32`, and the product too, because dashboards compare these numbers
/// with those of Envoy's reference service, which computes them so.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn tally(capacity: u32, hits: u64, outcome: &Outcome, near_ratio: f32) -> Tally {
    let capacity = u64::from(capacity);
    let near = (capacity as f32 * near_ratio).floor() as u64;
    let after = outcome.used;
    if !outcome.over {
        // Hits that passed and were not counted are above 0 only if it wraps, as it
        // does there.
        let before = after.wrapping_sub(hits);
        let near = match () {
            () if after <= near => 0,
            () if near <= before => hits,
            () => after - near,
        };
        return Tally { within: hits, near, over: 0 };
    }
    let before = after.saturating_sub(hits);
    // What is not counted does not show in the counter.
    if !outcome.counted || after <= capacity || capacity <= before {
        return Tally { over: hits, ..Tally::default() };
    }
    Tally { within: 0, near: capacity - before.max(near).min(capacity), over: after - capacity }
}

/// `duration` in seconds, rounded up: what a client is told to wait.
pub fn ceil_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A duration of so many microseconds; the longest there is if they are too
/// many.
fn micros(micros: u128) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl fmt::Display for Limit {
    /// `100 per minute`, `100 per 5 minutes by token_bucket`, `4 at a time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AlgorithmInfo { name, window, .. } = self.algorithm.info();
        if !window {
            return write!(f, "{} at a time", self.requests);
        }
        write!(f, "{} per {}", self.requests, self.window)?;
        match name == fixed_window::INFO.name {
            true => Ok(()),
            false => write!(f, " by {name}"),
        }
    }
}
