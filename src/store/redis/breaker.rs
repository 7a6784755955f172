//! A circuit breaker for an unresponsive server.
//!
//! It opens after a time without any reply. Timeouts of callers do not open it: a caller with
//! a short deadline must not lock out the others, and a reply may arrive while this process
//! does not run.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{node_error::NodeError, run_clock::RunClock};

/// The value of `unanswered_since` if the server has replied to everything.
const NEVER: u64 = u64::MAX;

/// Rejects calls to a server that has not replied for half of the timeout of a call. The first
/// reply closes the breaker. While it is open, no call is sent that could get a reply, so
/// [`BatchSender::watch_abandoned`](super::batch_sender::BatchSender::watch_abandoned) waits
/// for one.
#[derive(Debug)]
pub(super) struct Breaker {
    run_clock: RunClock,
    /// In microseconds.
    max_silence: u64,
    /// The time at which the first call without a reply was sent, in microseconds of
    /// `run_clock`.
    unanswered_since: AtomicU64,
}

impl Breaker {
    pub(super) fn new(timeout: Duration, run_clock: RunClock) -> Self {
        let max_silence = u64::try_from(timeout.as_micros() / 2).unwrap_or(u64::MAX);
        Self { run_clock, max_silence, unanswered_since: AtomicU64::new(NEVER) }
    }

    /// Returns an error while the breaker is open.
    pub(super) fn admit(&self) -> Result<(), NodeError> {
        // The clock is only read if a reply is outstanding.
        if self.unanswered_since.load(Relaxed) == NEVER {
            return Ok(());
        }
        self.admit_at(self.now())
    }

    fn admit_at(&self, now: u64) -> Result<(), NodeError> {
        match self.silence_at(now) {
            Some(silence) => {
                Err(NodeError::unsent(format!("Redis has not answered for {} ms", silence / 1_000)))
            }
            None => Ok(()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.silence_at(self.now()).is_some()
    }

    /// Returns the microseconds without a reply if they are too many.
    fn silence_at(&self, now: u64) -> Option<u64> {
        let since = self.unanswered_since.load(Relaxed);
        let silence = now.saturating_sub(since);
        if since == NEVER || silence < self.max_silence { None } else { Some(silence) }
    }

    /// Records that a call is sent.
    pub(super) fn on_send(&self) {
        self.on_send_at(self.now());
    }

    fn on_send_at(&self, now: u64) {
        // Only the first call without a reply counts.
        let _ = self.unanswered_since.compare_exchange(NEVER, now, Relaxed, Relaxed);
    }

    /// Records a reply, or the loss of the connection, which the connection task handles.
    pub(super) fn on_reply(&self) {
        self.unanswered_since.store(NEVER, Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.run_clock.now().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    const MS: u64 = 1_000;

    #[tokio::test]
    async fn calls_to_an_unresponsive_server_are_rejected_until_it_replies() {
        let breaker = Breaker::new(Duration::from_millis(500), RunClock::start());
        assert!(breaker.admit_at(0).is_ok());
        breaker.on_send_at(0);
        breaker.on_send_at(200 * MS);
        assert!(breaker.admit_at(249 * MS).is_ok());
        let error = breaker.admit_at(3_600_000 * MS).unwrap_err();
        assert_eq!(
            StoreError::from(error).to_string(),
            "the counter store failed: Redis has not answered for 3600000 ms"
        );
        breaker.on_reply();
        assert!(breaker.admit_at(3_600_000 * MS).is_ok());
        breaker.on_send_at(3_600_500 * MS);
        assert!(breaker.admit_at(3_600_749 * MS).is_ok());
        assert!(breaker.admit_at(3_600_750 * MS).is_err());
    }
}
