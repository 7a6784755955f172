//! A limit and the algorithm that counts its hits.

use std::time::Duration;

use super::window::Window;

/// A number of requests per window, and the algorithm that counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The most hits that pass in one window. 0 refuses every hit.
    pub requests: u32,
    /// The period over which hits are counted; for buckets, the time in which
    /// `requests` hits drain.
    pub window: Window,
    /// The algorithm that counts hits.
    pub algorithm: Algorithm,
    /// After a refusal the counter is banned for this long: it refuses every hit. Zero
    /// for no ban.
    pub penalty: Duration,
    /// The most hits that one instance may reserve in the store and then spend locally.
    /// 0 sends every charge to the store.
    pub max_prefetch: u32,
}

impl Limit {
    /// A limit as in Envoy's reference service: a fixed window that also counts the hits
    /// it refuses.
    pub const fn fixed(requests: u32, window: Window) -> Self {
        let algorithm = Algorithm::FixedWindow { count_denied: true };
        Self { requests, window, algorithm, penalty: Duration::ZERO, max_prefetch: 0 }
    }

    /// The most hits that a single charge can have granted.
    pub const fn capacity(&self) -> u32 {
        match self.algorithm {
            // A bucket that never drains would admit its burst once.
            _ if self.requests == 0 => 0,
            Algorithm::TokenBucket { burst } | Algorithm::LeakyBucket { burst } => burst,
            Algorithm::FixedWindow { .. }
            | Algorithm::SlidingWindow
            | Algorithm::SlidingLog
            | Algorithm::Concurrency { .. } => self.requests,
        }
    }
}

/// An algorithm that counts hits, with the parameters that only it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// See [`fixed_window`](super::fixed_window).
    FixedWindow {
        /// Refused hits are counted, too.
        count_denied: bool,
    },
    /// See [`sliding_window`](super::sliding_window).
    SlidingWindow,
    /// See [`permits`](super::permits); a permit lasts as long as the window.
    SlidingLog,
    /// See [`bucket`](super::bucket).
    TokenBucket {
        /// The tokens in a full bucket: the most hits that pass at once.
        burst: u32,
    },
    /// See [`bucket`](super::bucket); the same bucket, counted from its other end.
    LeakyBucket {
        /// The requests in a full queue: the most hits that pass at once.
        burst: u32,
    },
    /// See [`permits`](super::permits); callers release their permits.
    Concurrency {
        /// A permit that its caller does not release expires after this time, the `lease`
        /// in rule files.
        lifetime: Duration,
    },
}

/// The properties of an algorithm that other modules depend on.
///
/// Code outside this module asks for a property here rather than match on [`Algorithm`],
/// so that only the parser in `config` needs a change for a new algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmInfo {
    /// The name in rule files.
    pub name: &'static str,
    /// The name of the function in the Redis scripts.
    pub lua: &'static str,
    /// Rules set a window, and may set a penalty.
    pub window: bool,
    /// Windows may follow a calendar.
    pub calendar: bool,
    /// Rules may set `count_denied`.
    pub count_denied: bool,
    /// Rules may set the moment at which windows begin.
    pub phase: bool,
    /// Rules may set a burst.
    pub burst: bool,
    /// Callers release their hits, and rules set the lifetime of a permit as `lease`.
    pub releasable: bool,
    /// The state is a list with an element for each hit, so the limit is bounded.
    pub keeps_each_hit: bool,
    /// The counter's key contains the window's start, unless the limit has a penalty.
    pub window_in_key: bool,
    /// The end of a refusal, until which it can be cached.
    pub refusal_end: RefusalEnd,
}

/// The moment at which a refusal ends, whatever other callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalEnd {
    /// The refusal holds until the window ends.
    WindowEnd,
    /// The refusal of a single hit holds until there is room for one.
    OneFits,
    /// The refusal may end at any time, because another caller may release a permit.
    AnyTime,
}

impl Algorithm {
    /// True if refused hits are counted.
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

    /// The time after which a permit that was not released expires. `None` for
    /// all but `concurrency`.
    pub const fn lifetime(self) -> Option<Duration> {
        match self {
            Self::Concurrency { lifetime } => Some(lifetime),
            Self::FixedWindow { .. }
            | Self::SlidingWindow
            | Self::SlidingLog
            | Self::TokenBucket { .. }
            | Self::LeakyBucket { .. } => None,
        }
    }

    /// The algorithm with its burst changed. Algorithms without a burst stay the same.
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
