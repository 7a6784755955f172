//! Spares callers the wait for a server that has fallen silent.
//!
//! Evidence is the silence of the server alone. Callers give up for reasons of
//! their own, and an impatient one must not shut out the others; and an answer may have
//! come while this process did not run.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{node_error::NodeError, pulse::Pulse};
use crate::store::StoreError;

/// No moment.
const NEVER: u64 = u64::MAX;

/// Whether calls to one server make sense.
///
/// It opens when what was sent has not been answered for half of the time that a
/// call may take, and the first answer to anything closes it. Somebody must wait
/// for one all the time: as long as it is open no call goes through, so that none
/// waits in vain.
#[derive(Debug)]
pub(super) struct Breaker {
    pulse: Pulse,
    /// In microseconds.
    patience: u64,
    /// When the first call was sent that has not been answered, in microseconds
    /// that this process has run.
    unanswered: AtomicU64,
}

impl Breaker {
    /// For a server that may take `timeout` to answer.
    pub(super) fn new(timeout: Duration, pulse: Pulse) -> Self {
        let patience = u64::try_from(timeout.as_micros() / 2).unwrap_or(u64::MAX);
        Self { pulse, patience, unanswered: AtomicU64::new(NEVER) }
    }

    /// Whether a call may be made now.
    pub(super) fn admit(&self) -> Result<(), NodeError> {
        if self.unanswered.load(Relaxed) == NEVER {
            return Ok(());
        }
        self.admit_at(self.now())
    }

    fn admit_at(&self, now: u64) -> Result<(), NodeError> {
        let since = self.unanswered.load(Relaxed);
        let silence = now.saturating_sub(since);
        if since == NEVER || silence < self.patience {
            return Ok(());
        }
        let why = format!("Redis has not answered for {} ms", silence / 1_000);
        Err(NodeError::Unsent(StoreError::Failed(why)))
    }

    /// Whether no call may be made.
    pub(super) fn is_open(&self) -> bool {
        let since = self.unanswered.load(Relaxed);
        since != NEVER && self.patience <= self.now().saturating_sub(since)
    }

    /// A call is being sent.
    pub(super) fn sent(&self) {
        self.sent_at(self.now());
    }

    fn sent_at(&self, now: u64) {
        // Only the first of them counts.
        let _ = self.unanswered.compare_exchange(NEVER, now, Relaxed, Relaxed);
    }

    /// The server has answered, or the connection is lost: those who keep it up
    /// know what to do about that.
    pub(super) fn answered(&self) {
        self.unanswered.store(NEVER, Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.pulse.now().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[tokio::test]
    async fn a_silent_server_is_spared_calls_until_it_answers() {
        let breaker = Breaker::new(Duration::from_millis(500), Pulse::start());
        assert!(breaker.admit_at(0).is_ok());
        breaker.sent_at(0);
        breaker.sent_at(200 * MS);
        assert!(breaker.admit_at(249 * MS).is_ok());
        let error = breaker.admit_at(3_600_000 * MS).unwrap_err();
        assert_eq!(
            StoreError::from(error).to_string(),
            "the counter store failed: Redis has not answered for 3600000 ms"
        );
        breaker.answered();
        assert!(breaker.admit_at(3_600_000 * MS).is_ok());
        breaker.sent_at(3_600_500 * MS);
        assert!(breaker.admit_at(3_600_749 * MS).is_ok());
        assert!(breaker.admit_at(3_600_750 * MS).is_err());
    }
}
