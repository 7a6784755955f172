//! Hits in steps of time, in fixed memory.

use super::rule_counts::HitResults;
use crate::time::Timestamp;

pub(super) const FINE_SECONDS: u64 = 5;
pub(super) const COARSE_SECONDS: u64 = 60;
const FINE_STEPS: usize = 120;
const COARSE_STEPS: usize = 360;

/// The length of the steps of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// 5 seconds, for 10 minutes.
    Fine,
    /// A minute, for 6 hours.
    Coarse,
}

impl Step {
    /// The length in seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Fine => FINE_SECONDS,
            Self::Coarse => COARSE_SECONDS,
        }
    }
}

/// The hits in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The beginning of the step.
    pub at: Timestamp,
    /// The hits.
    pub hits: HitResults,
}

/// The hits of the last 10 minutes in steps of 5 s, and those of the last 6 hours in steps of
/// a minute.
#[derive(Debug)]
pub(super) struct Ring {
    fine: Steps,
    coarse: Steps,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            fine: Steps::new(FINE_SECONDS, FINE_STEPS),
            coarse: Steps::new(COARSE_SECONDS, COARSE_STEPS),
        }
    }
}

impl Ring {
    /// Counts hits at `now`.
    pub(super) fn add(&mut self, hits: [u64; 4], now: Timestamp) {
        self.fine.add(hits, now);
        self.coarse.add(hits, now);
    }

    /// All steps until now, the oldest first.
    pub(super) fn points(&self, step: Step, now: Timestamp) -> Vec<Point> {
        match step {
            Step::Fine => self.fine.points(now),
            Step::Coarse => self.coarse.points(now),
        }
    }

    /// The hits of the last 12 steps of 5 s, the one in progress included.
    pub(super) fn last_minute(&self, now: Timestamp) -> HitResults {
        let mut sums = [0_u64; 4];
        for Point { hits, .. } in self.fine.points(now).iter().rev().take(12) {
            for (sum, count) in sums.iter_mut().zip(hits.values()) {
                *sum += count;
            }
        }
        HitResults::of(sums)
    }
}

/// Counts for the latest steps. Each count stops at its largest value.
#[derive(Debug)]
struct Steps {
    seconds: u64,
    /// The number of the newest step since 1970.
    newest: u64,
    /// By the number of the step, modulo the length.
    counts: Box<[[u32; 4]]>,
}

impl Steps {
    fn new(seconds: u64, length: usize) -> Self {
        Self { seconds, newest: 0, counts: vec![[0; 4]; length].into() }
    }

    fn length(&self) -> u64 {
        self.counts.len() as u64
    }

    fn index(&self, step: u64) -> usize {
        // Less than the length.
        usize::try_from(step % self.length()).unwrap_or_default()
    }

    fn add(&mut self, hits: [u64; 4], now: Timestamp) {
        let step = now.as_secs() / self.seconds;
        // A clock that steps back for long begins anew; otherwise the newest step goes on.
        if step + self.length() <= self.newest {
            self.counts.fill([0; 4]);
            self.newest = step;
        }
        let first = (self.newest + 1).max((step + 1).saturating_sub(self.length()));
        for unused in first..=step {
            let index = self.index(unused);
            self.counts[index] = [0; 4];
        }
        self.newest = self.newest.max(step);
        let index = self.index(self.newest);
        for (count, hits) in self.counts[index].iter_mut().zip(hits) {
            *count = count.saturating_add(u32::try_from(hits).unwrap_or(u32::MAX));
        }
    }

    fn points(&self, now: Timestamp) -> Vec<Point> {
        let last = self.newest.max(now.as_secs() / self.seconds);
        let first = (last + 1).saturating_sub(self.length());
        let mut points = Vec::with_capacity(self.counts.len());
        for step in first..=last {
            let counts = if self.newest < step { [0; 4] } else { self.counts[self.index(step)] };
            points.push(Point {
                at: Timestamp::from_secs(step * self.seconds),
                hits: HitResults::of(counts.map(u64::from)),
            });
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_step_has_the_hits_of_its_time(
            moves in prop::collection::vec((prop_oneof![0_u64..10, 0_u64..2_000], 0_u64..9), 0..200),
        ) {
            let mut ring = Ring::default();
            let mut now = 1_000_000;
            let (mut fine, mut coarse) = (HashMap::new(), HashMap::new());
            for (seconds, hits) in moves {
                now += seconds;
                ring.add([hits, 0, hits, 0], Timestamp::from_secs(now));
                *fine.entry(now / 5).or_insert(0) += hits;
                *coarse.entry(now / 60).or_insert(0) += hits;
            }
            let now = Timestamp::from_secs(now);
            for (step, exact) in [(Step::Fine, &fine), (Step::Coarse, &coarse)] {
                let points = ring.points(step, now);
                prop_assert_eq!(
                    points.last().map(|it| it.at.as_secs()),
                    Some(now.as_secs() / step.seconds() * step.seconds())
                );
                for point in points {
                    let number = point.at.as_secs() / step.seconds();
                    let expected = exact.get(&number).copied().unwrap_or(0);
                    prop_assert_eq!(point.hits.values(), [expected, 0, expected, 0]);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_loses_no_hits() {
        let mut ring = Ring::default();
        for now in [1_000, 990, 1_003] {
            ring.add([1, 0, 0, 0], Timestamp::from_secs(now));
        }
        let now = Timestamp::from_secs(1_003);
        assert_eq!(ring.last_minute(now).passed, 3);
        assert_eq!(ring.points(Step::Fine, now).last().unwrap().hits.passed, 3);
        ring.add([5, 0, 0, 0], Timestamp::from_secs(10));
        let hits: u64 =
            ring.points(Step::Fine, Timestamp::from_secs(10)).iter().map(|it| it.hits.passed).sum();
        assert_eq!(hits, 5);
    }
}
