//! Delays answers to a management server that sends the same rules again after each of them.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::backoff::{Backoff, BackoffSettings};

/// The delays between rejections in a row. The first of them is also the least time
/// between any two answers.
const REJECTIONS: BackoffSettings = BackoffSettings {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(5),
    jitter: 0.0,
};

/// The time of the next answer.
#[derive(Debug)]
pub(super) struct Pace {
    rejections: Backoff,
    next: Instant,
}

impl Pace {
    /// Lets the first answer pass at once.
    pub(super) fn new() -> Self {
        Self { rejections: Backoff::new(REJECTIONS), next: Instant::now() }
    }

    /// Waits until the next answer may be sent.
    pub(super) async fn wait(&mut self, is_accepted: bool) {
        time::sleep_until(self.next).await;
        let now = Instant::now();
        let is_quiet = REJECTIONS.max < now.saturating_duration_since(self.next);
        if is_accepted || is_quiet {
            self.rejections.reset();
        }
        let pause = if is_accepted { REJECTIONS.initial } else { self.rejections.next_delay() };
        self.next = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delays of answers that are sent as soon as possible, in milliseconds.
    async fn delays(pace: &mut Pace, accepted: &[bool]) -> Vec<u128> {
        let mut delays = Vec::new();
        for is_accepted in accepted {
            let begin = Instant::now();
            pace.wait(*is_accepted).await;
            delays.push(begin.elapsed().as_millis());
        }
        delays
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_in_a_row_are_delayed_more_and_more() {
        let mut pace = Pace::new();
        let rejected = [false; 8];
        let growing = [0, 100, 200, 400, 800, 1_600, 3_200, 5_000];
        assert_eq!(delays(&mut pace, &rejected).await, growing);
        time::sleep(REJECTIONS.max * 3).await;
        assert_eq!(delays(&mut pace, &rejected[..3]).await, growing[..3], "after a quiet time");
        assert_eq!(
            delays(&mut pace, &[true, true, true, false, false]).await,
            [400, 100, 100, 100, 100]
        );
    }
}
