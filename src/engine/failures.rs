//! Says of calls that the store did not decide, without filling the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use crate::store::StoreError;

/// How long nothing more is said.
const PAUSE: Duration = Duration::from_secs(60);

/// Calls that failed for the store, whatever the reason: one line now and then says how
/// many.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Since>);

/// Since the last line.
#[derive(Debug, Default)]
struct Since {
    /// When it was.
    last: Option<Instant>,
    calls: u64,
}

impl Failures {
    /// The store did not decide one more call.
    pub fn failed(&self, error: &StoreError) {
        if let Some(line) = self.line(error, Instant::now()) {
            warn!("{line}");
        }
    }

    fn line(&self, error: &StoreError, now: Instant) -> Option<String> {
        let mut since = self.0.lock();
        since.calls += 1;
        let calls = since.calls;
        let line = match since.last.map(|it| now.saturating_duration_since(it)) {
            None => format!("a call was not decided by the counter store: {error}"),
            Some(time) if PAUSE <= time => {
                let time = time.as_secs();
                format!(
                    "{calls} calls were not decided by the counter store in the last {time} s; \
                     the last of them: {error}"
                )
            }
            Some(_) => return None,
        };
        *since = Since { last: Some(now), calls: 0 };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_how_many_once_a_minute() {
        let (failures, begin) = (Failures::default(), Instant::now());
        let late = StoreError::Timeout(Duration::from_millis(15));
        let line = |second| failures.line(&late, begin + Duration::from_secs(second));
        let why = "the counter store did not answer within 15ms";
        let first = format!("a call was not decided by the counter store: {why}");
        assert_eq!(line(0), Some(first));
        assert_eq!([line(0), line(1), line(59)], [None, None, None]);
        let told = "4 calls were not decided by the counter store in the last 60 s; the last of \
                    them: ";
        assert_eq!(line(60), Some(format!("{told}{why}")));
        assert_eq!(line(61), None);
        let later = line(4_000).unwrap();
        assert!(later.starts_with("2 calls were") && later.contains("last 3940 s"), "{later}");
    }
}
