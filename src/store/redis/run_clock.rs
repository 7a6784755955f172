//! A clock that counts only the time in which this process runs.
//!
//! While the process is stopped, or does not get the CPU, it cannot read replies that may
//! already have arrived. So the time until a server counts as unresponsive is measured by
//! this clock. The deadline of a caller is measured by the system clock.

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

/// The interval between two ticks. A tick that is late shows that the process did not run.
const TICK: Duration = Duration::from_millis(10);
/// A smaller delay of a tick is ignored: timers are not exact.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// A handle to the clock. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct RunClock {
    ticks: Arc<Ticks>,
    /// Aborted with the last handle.
    _task: Arc<JoinSet<()>>,
}

/// All times are in microseconds since `start`.
#[derive(Debug)]
struct Ticks {
    start: Instant,
    /// The time at which the next tick is due.
    due: AtomicU64,
    /// The sum of the delays of all ticks so far.
    stalled: AtomicU64,
}

impl RunClock {
    /// Spawns the task that ticks. Needs a Tokio runtime.
    pub(super) fn start() -> Self {
        let ticks = Arc::new(Ticks {
            start: Instant::now(),
            due: AtomicU64::new(micros(TICK)),
            stalled: AtomicU64::new(0),
        });
        let mut task = JoinSet::new();
        let ticking = Arc::clone(&ticks);
        task.spawn(async move {
            loop {
                sleep(TICK).await;
                ticking.tick(micros(ticking.start.elapsed()));
            }
        });
        Self { ticks, _task: Arc::new(task) }
    }

    /// A clock without ticks, for tests on paused time, in which the process never stalls: the
    /// ticks would be most of the work of a simulation.
    #[cfg(test)]
    pub(super) fn without_stalls() -> Self {
        let (start, due, stalled) = (Instant::now(), u64::MAX.into(), 0.into());
        Self { ticks: Arc::new(Ticks { start, due, stalled }), _task: Arc::default() }
    }

    /// Returns the time for which the process has run since the start of this clock.
    pub(super) fn now(&self) -> Duration {
        Duration::from_micros(self.ticks.running_time(micros(self.ticks.start.elapsed())))
    }

    /// Waits for `future`, or returns `None` after `limit` of running time.
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

impl Ticks {
    fn tick(&self, now: u64) {
        let delay = self.delay(now);
        // A reader between the two stores sees too little running time, never too much.
        self.stalled.fetch_add(delay, SeqCst);
        self.due.store(now + micros(TICK), SeqCst);
    }

    /// Returns the delay of the tick that is due.
    fn delay(&self, now: u64) -> u64 {
        let delay = now.saturating_sub(self.due.load(SeqCst));
        if delay < micros(TIMER_SLACK) { 0 } else { delay }
    }

    fn running_time(&self, now: u64) -> u64 {
        let delay = self.delay(now);
        now.saturating_sub(self.stalled.load(SeqCst) + delay)
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
    fn time_without_a_tick_does_not_count() {
        let ticks = Ticks {
            start: Instant::now(),
            due: AtomicU64::new(10 * MS),
            stalled: AtomicU64::new(0),
        };
        let tick = |at: u64| ticks.tick(at * MS);
        let ran = |at: u64| ticks.running_time(at * MS) / MS;
        assert_eq!(ran(9), 9);
        // Within the slack of the timer.
        assert_eq!(ran(12), 12);
        tick(12);
        assert_eq!(ran(20), 20);
        // The next tick is due at 22. A read before it returns the same as one after it.
        assert_eq!([ran(27), ran(500), ran(1_000)], [22, 22, 22]);
        tick(1_000);
        assert_eq!([ran(1_000), ran(1_008)], [22, 30]);
        tick(1_010);
        tick(2_020);
        assert_eq!(ran(2_025), 47);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_expires_while_the_process_runs() {
        let clock = RunClock::start();
        let limit = Duration::from_millis(500);
        let begin = Instant::now();
        assert_eq!(clock.within(limit, std::future::pending::<()>()).await, None);
        let took = begin.elapsed();
        assert!((limit..limit + TICK).contains(&took), "{took:?}");
        assert_eq!(clock.within(limit, async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn a_limit_does_not_expire_while_the_process_is_stopped() {
        let clock = RunClock::start();
        let reply = async {
            // Blocks the only thread of the runtime.
            std::thread::sleep(Duration::from_millis(300));
            sleep(Duration::from_millis(50)).await;
            1
        };
        assert_eq!(clock.within(Duration::from_millis(200), reply).await, Some(1));
    }
}
