//! The algorithms, computed from their definitions in exact fractions: all values are
//! multiplied by the length of the window, so that they are integers.

use tollgate::limit::{Algorithm, Hits, Limit};

use crate::random_calls::length;

/// Records all hits, and computes each decision anew.
#[derive(Debug)]
pub(crate) struct ReferenceAlgorithm {
    limit: Limit,
    /// The time and number of all hits that passed; for a fixed window that counts denied
    /// hits, of all hits.
    past: Vec<(u64, u64)>,
}

impl ReferenceAlgorithm {
    pub(crate) fn new(limit: &Limit) -> Self {
        Self { limit: limit.clone(), past: Vec::new() }
    }

    /// The sum of the recorded hits for whose time `counts` returns true.
    fn sum(&self, counts: impl Fn(u64) -> bool) -> u128 {
        let mut sum = 0;
        for (at, hits) in &self.past {
            if counts(*at) {
                sum += u128::from(*hits);
            }
        }
        sum
    }

    /// Whether `hits` pass at `now`, which is not before the previous call.
    pub(crate) fn passes(&mut self, hits: Hits, now: u64) -> bool {
        let Hits::Add(asked) = hits else { panic!("definitions know no refunds") };
        let passes = self.would_pass(asked.into(), now);
        let always = self.limit.algorithm == Algorithm::FixedWindow { count_denied: true };
        if passes || always {
            self.past.push((now, asked));
        }
        passes
    }

    fn would_pass(&self, hits: u128, now: u64) -> bool {
        let (limit, length) = (u128::from(self.limit.requests), length(&self.limit));
        // The number of a window: windows begin at multiples of their length after the
        // phase.
        let window = |at: u64| (at + length - self.phase()) / length;
        match self.limit.algorithm {
            Algorithm::FixedWindow { .. } => {
                self.sum(|at| window(at) == window(now)) + hits <= limit
            }
            Algorithm::SlidingWindow if hits == 0 => true,
            Algorithm::SlidingWindow => {
                let before = self.sum(|at| window(at) + 1 == window(now));
                let current = self.sum(|at| window(at) == window(now));
                let elapsed = (now + length - self.phase()) % length;
                let weighed = before * u128::from(length - elapsed);
                weighed + (current + hits) * u128::from(length) <= limit * u128::from(length)
            }
            Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
                hits == 0 || self.sum(|at| now < at + length) + hits <= limit
            }
            Algorithm::TokenBucket { burst } | Algorithm::LeakyBucket { burst } => {
                let length = u128::from(length);
                hits == 0 || self.level(now) + hits * length <= u128::from(burst) * length
            }
        }
    }

    fn phase(&self) -> u64 {
        match &self.limit.window.phase {
            tollgate::limit::window::Phase::Shifted(by) => {
                by.as_micros() as u64 % length(&self.limit)
            }
            _ => 0,
        }
    }

    /// The level of a continuous bucket, in hits times the length of the window.
    pub(crate) fn level(&self, now: u64) -> u128 {
        let (mut level, mut last) = (0, 0);
        let drained = |from: u64, to: u64| u128::from(to - from) * u128::from(self.limit.requests);
        for (at, hits) in &self.past {
            level = drain(level, drained(last, *at));
            level += u128::from(*hits) * u128::from(length(&self.limit));
            last = *at;
        }
        drain(level, drained(last, now))
    }

    /// Records hits that passed elsewhere.
    pub(crate) fn passed(&mut self, hits: Hits, now: u64) {
        self.past.push((now, hits.requested()));
    }
}

fn drain(level: u128, drained: u128) -> u128 {
    level.saturating_sub(drained)
}
