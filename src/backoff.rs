//! Exponential backoff with jitter, for clients that connect again and again.

use std::time::Duration;

/// The range of the delays of a [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffSettings {
    /// The delay after the first failure. Above 0.
    pub initial: Duration,
    /// The longest delay. Not shorter than `initial`.
    pub max: Duration,
    /// The random part of each delay, from 0 to 1: a delay of `d` becomes one between
    /// `d * (1 - jitter)` and `d`, so that clients that failed together do not all try
    /// again at the same moment.
    pub jitter: f64,
}

/// Delays that double with each failure, up to a maximum.
#[derive(Debug)]
pub struct Backoff {
    settings: BackoffSettings,
    next: Duration,
}

impl Backoff {
    /// Starts at the initial delay.
    pub fn new(settings: BackoffSettings) -> Self {
        Self { settings, next: settings.initial }
    }

    /// Starts at `first` if that is shorter than the initial delay. Applies until the
    /// next [`reset`](Self::reset).
    pub fn starting_at(first: Duration, settings: BackoffSettings) -> Self {
        Self { settings, next: settings.initial.min(first) }
    }

    /// Continues with the initial delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.settings.initial;
    }

    /// Returns the delay before the next attempt, and doubles the one after it.
    pub fn next_delay(&mut self) -> Duration {
        self.next_delay_with(fastrand::f64())
    }

    /// Takes a `random` number from 0 to 1.
    fn next_delay_with(&mut self, random: f64) -> Duration {
        let delay = self.next.mul_f64(1.0 - self.settings.jitter * random);
        self.next = self.next.saturating_mul(2).min(self.settings.max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BackoffSettings = BackoffSettings {
        initial: Duration::from_secs(10),
        max: Duration::from_secs(60),
        jitter: 0.5,
    };

    fn seconds(backoff: &mut Backoff) -> Vec<u64> {
        (0..8).map(|_| backoff.next_delay_with(0.0).as_secs()).collect()
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_start_again_after_a_reset() {
        let mut backoff = Backoff::starting_at(Duration::from_secs(1), SETTINGS);
        assert_eq!(seconds(&mut backoff), [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(seconds(&mut backoff), [10, 20, 40, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn the_first_delay_is_never_longer_than_the_setting() {
        let initial = Duration::from_millis(20);
        let settings = BackoffSettings { initial, ..SETTINGS };
        let mut backoff = Backoff::starting_at(Duration::from_secs(1), settings);
        assert_eq!(backoff.next_delay_with(0.0), initial);
    }

    proptest! {
        #[test]
        fn jitter_shortens_a_delay_by_no_more_than_its_part(
            jitter in 0.0..=1.0,
            randoms in prop::collection::vec(0.0..1.0, 8),
        ) {
            let mut exact = Backoff::new(BackoffSettings { jitter: 0.0, ..SETTINGS });
            let mut backoff = Backoff::new(BackoffSettings { jitter, ..SETTINGS });
            for random in randoms {
                let longest = exact.next_delay_with(random);
                let delay = backoff.next_delay_with(random);
                let shortest = longest.mul_f64(1.0 - jitter);
                prop_assert!(shortest <= delay && delay <= longest, "{delay:?} of {longest:?}");
            }
        }
    }
}
