//! Limits, the hits charged to them, and the outcome of each charge.

use std::fmt;

pub mod algorithm;
pub mod bucket;
pub mod fixed_window;
pub mod hits;
pub mod outcome;
pub mod permits;
pub mod sliding_window;
pub mod step;
pub mod window;

pub use self::{
    algorithm::{Algorithm, AlgorithmInfo, Limit, RefusalEnd},
    hits::Hits,
    outcome::{Outcome, Tally, ceil_seconds, tally},
    window::{Span, Unit, Window},
};

impl Algorithm {
    /// Its properties, for modules that treat all algorithms alike.
    pub const fn info(self) -> AlgorithmInfo {
        match self {
            Self::FixedWindow { .. } => fixed_window::INFO,
            Self::SlidingWindow => sliding_window::INFO,
            Self::SlidingLog => permits::SLIDING_LOG,
            Self::TokenBucket { .. } => bucket::TOKEN_BUCKET,
            Self::LeakyBucket { .. } => bucket::LEAKY_BUCKET,
            Self::Concurrency { .. } => permits::CONCURRENCY,
        }
    }

    /// Its name in rule files.
    pub const fn name(self) -> &'static str {
        self.info().name
    }
}

impl Limit {
    /// True if the counter's key contains the window's start, so that the state does not
    /// have to.
    pub const fn has_window_in_key(&self) -> bool {
        self.algorithm.info().window_in_key && self.penalty.is_zero()
    }

    /// True if hits hold permits that callers release, as for `concurrency`.
    pub const fn releases_permits(&self) -> bool {
        self.algorithm.info().releasable
    }
}

impl fmt::Display for Limit {
    /// `100 per minute`, `100 per 5 minutes by token_bucket`, `4 at a time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AlgorithmInfo { name, window, .. } = self.algorithm.info();
        if !window {
            return write!(f, "{} at a time", self.requests);
        }
        write!(f, "{} per {}", self.requests, self.window)?;
        if name == fixed_window::INFO.name {
            return Ok(());
        }
        write!(f, " by {name}")
    }
}
