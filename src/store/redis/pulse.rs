//! How long this process has run.
//!
//! One that was stopped, or did not get the CPU, sees time go by without an answer,
//! although the answer may be there. So where a server is blamed for its silence, only
//! time counts in which it was possible to hear. What a caller is promised is another
//! matter: that is kept by the clock.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// How often the process shows that it runs.
const BEAT: Duration = Duration::from_millis(10);
/// How much later that may be without a reason: timers are not exact.
const EXACT: Duration = Duration::from_millis(5);

/// A clock that stands still while this process does not run.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    beats: Arc<Beats>,
    /// Ends with the last of them.
    _task: Arc<JoinSet<()>>,
}

/// In microseconds since `begin`.
#[derive(Debug)]
struct Beats {
    begin: Instant,
    /// When the next one is due.
    due: AtomicU64,
    /// By how much all before were late.
    late: AtomicU64,
}

impl Pulse {
    /// Begins to beat. Needs a Tokio runtime.
    pub(super) fn start() -> Self {
        let due = AtomicU64::new(micros(BEAT));
        let beats = Arc::new(Beats { begin: Instant::now(), due, late: AtomicU64::new(0) });
        let mut task = JoinSet::new();
        let beating = Arc::clone(&beats);
        task.spawn(async move {
            loop {
                sleep(BEAT).await;
                beating.beat(micros(beating.begin.elapsed()));
            }
        });
        Self { beats, _task: Arc::new(task) }
    }

    /// How long the process has run since this began.
    pub(super) fn now(&self) -> Duration {
        Duration::from_micros(self.beats.ran(micros(self.beats.begin.elapsed())))
    }

    /// What `future` comes to, unless it takes longer than `limit` of the time in which
    /// the process runs.
    pub(super) async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let end = self.now().saturating_add(limit);
        loop {
            let left = end.saturating_sub(self.now());
            if let Ok(output) = timeout(left, &mut future).await {
                return Some(output);
            }
            if end <= self.now() {
                return None;
            }
        }
    }
}

impl Beats {
    fn beat(&self, now: u64) {
        let late = self.late_by(now);
        // In this order nobody takes the time in which it did not run for time in which it did.
        self.late.fetch_add(late, SeqCst);
        self.due.store(now + micros(BEAT), SeqCst);
    }

    /// By how much the beat that is due is late.
    fn late_by(&self, now: u64) -> u64 {
        let late = now.saturating_sub(self.due.load(SeqCst));
        if late < micros(EXACT) { 0 } else { late }
    }

    fn ran(&self, now: u64) -> u64 {
        let late = self.late_by(now);
        now.saturating_sub(self.late.load(SeqCst) + late)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn time_without_a_beat_does_not_count() {
        let beats =
            Beats { begin: Instant::now(), due: AtomicU64::new(10 * MS), late: AtomicU64::new(0) };
        let beat = |at: u64| beats.beat(at * MS);
        let ran = |at: u64| beats.ran(at * MS) / MS;
        assert_eq!(ran(9), 9);
        // A timer that is not exact.
        assert_eq!(ran(12), 12);
        beat(12);
        assert_eq!(ran(20), 20);
        // Whoever asks first is told the same as after the beat, which was due at 22.
        assert_eq!([ran(27), ran(500), ran(1_000)], [22, 22, 22]);
        beat(1_000);
        assert_eq!([ran(1_000), ran(1_008)], [22, 30]);
        beat(1_010);
        beat(2_020);
        assert_eq!(ran(2_025), 47);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_kept_while_the_process_runs() {
        let pulse = Pulse::start();
        let limit = Duration::from_millis(500);
        let begin = Instant::now();
        assert_eq!(pulse.within(limit, std::future::pending::<()>()).await, None);
        let took = begin.elapsed();
        assert!((limit..limit + BEAT).contains(&took), "{took:?}");
        assert_eq!(pulse.within(limit, async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn a_process_that_was_stopped_goes_on_waiting() {
        let pulse = Pulse::start();
        let answer = async {
            // Nobody else runs meanwhile.
            std::thread::sleep(Duration::from_millis(300));
            sleep(Duration::from_millis(50)).await;
            1
        };
        assert_eq!(pulse.within(Duration::from_millis(200), answer).await, Some(1));
    }
}
