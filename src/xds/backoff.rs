//! How long to wait for the next attempt.

use std::time::Duration;

/// The first wait before anything was ever received: at the start the server is
/// often only a little late.
const AT_START: Duration = Duration::from_secs(1);

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffSettings {
    /// The first wait once something was received; before that, the first wait
    /// is a second, unless this is shorter. Above 0.
    pub initial: Duration,
    /// The longest wait. No shorter than `initial`.
    pub max: Duration,
    /// Which part of a wait is left to chance, from 0 to 1.
    pub jitter: f64,
}

/// Waits that double.
#[derive(Debug)]
pub struct Backoff {
    settings: BackoffSettings,
    next: Duration,
}

impl Backoff {
    /// Nothing was received yet.
    pub fn new(settings: BackoffSettings) -> Self {
        Self { settings, next: settings.initial.min(AT_START) }
    }

    /// Begins again, with the first wait that was set.
    pub fn reset(&mut self) {
        self.next = self.settings.initial;
    }

    /// The next wait. `chance`, from 0 to 1, takes its part away.
    pub fn wait(&mut self, chance: f64) -> Duration {
        let wait = self.next.mul_f64(1.0 - self.settings.jitter * chance);
        self.next = self.next.saturating_mul(2).min(self.settings.max);
        wait
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
        (0..8).map(|_| backoff.wait(0.0).as_secs()).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(SETTINGS);
        assert_eq!(seconds(&mut backoff), [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(seconds(&mut backoff), [10, 20, 40, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn the_first_wait_is_never_longer_than_the_setting() {
        let initial = Duration::from_millis(20);
        let mut backoff = Backoff::new(BackoffSettings { initial, ..SETTINGS });
        assert_eq!(backoff.wait(0.0), initial);
    }

    proptest! {
        #[test]
        fn chance_takes_no_more_than_its_part(jitter in 0.0..=1.0, chances in prop::collection::vec(0.0..1.0, 8)) {
            let mut sure = Backoff::new(BackoffSettings { jitter: 0.0, ..SETTINGS });
            let mut backoff = Backoff::new(BackoffSettings { jitter, ..SETTINGS });
            for chance in chances {
                let (most, wait) = (sure.wait(chance), backoff.wait(chance));
                let least = most.mul_f64(1.0 - jitter);
                prop_assert!(least <= wait && wait <= most, "{wait:?} of {most:?}");
            }
        }
    }
}
