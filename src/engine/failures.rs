//! Rate-limited log lines for failures that repeat.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::warn;

/// How long nothing more is said.
const PAUSE: Duration = Duration::from_secs(60);

/// How much of an error is logged, in characters.
const LONGEST: usize = 500;

/// One kind of failure. Logs a warning at most once a minute, with the number of failures
/// since the last one.
#[derive(Debug)]
pub struct Failures {
    once: &'static str,
    often: &'static str,
    since: Mutex<Since>,
}

/// Since the last line.
#[derive(Debug, Default)]
struct Since {
    /// When it was.
    last: Option<Instant>,
    times: u64,
}

impl Failures {
    /// `once` describes a single failure; `often` follows the number of several.
    pub const fn new(once: &'static str, often: &'static str) -> Self {
        let since = Since { last: None, times: 0 };
        Self { once, often, since: Mutex::new(since) }
    }

    /// Counts a failure, and logs if a minute has passed since the last line.
    pub fn failed(&self, error: &impl Display) {
        if let Some(line) = self.line(error, Instant::now()) {
            warn!("{line}");
        }
    }

    fn line(&self, error: &impl Display, now: Instant) -> Option<String> {
        let Self { once, often, since } = self;
        let mut since = since.lock();
        since.times += 1;
        let times = since.times;
        let begin = match since.last.map(|it| now.saturating_duration_since(it)) {
            None => format!("{once}: "),
            Some(time) if PAUSE <= time => {
                let time = time.as_secs();
                format!("{times} {often} in the last {time} s; the last of them: ")
            }
            Some(_) => return None,
        };
        // The error may quote what somebody sent.
        let printable = |it: char| if it.is_control() { ' ' } else { it };
        let error = error.to_string();
        let line = begin.chars().chain(error.chars().take(LONGEST).map(printable)).collect();
        *since = Since { last: Some(now), times: 0 };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn the_first_is_told_and_then_how_many_once_a_minute() {
        let (failures, begin) = (Failures::new("a call failed", "calls failed"), Instant::now());
        let late = StoreError::Timeout(Duration::from_millis(15));
        let line = |second| failures.line(&late, begin + Duration::from_secs(second));
        let why = "the counter store did not answer within 15ms";
        let first = format!("a call failed: {why}");
        assert_eq!(line(0), Some(first));
        assert_eq!([line(0), line(1), line(59)], [None, None, None]);
        let told = "4 calls failed in the last 60 s; the last of them: ";
        assert_eq!(line(60), Some(format!("{told}{why}")));
        assert_eq!(line(61), None);
        let later = line(4_000).unwrap();
        assert!(later.starts_with("2 calls failed") && later.contains("last 3940 s"), "{later}");
    }

    #[test]
    fn what_an_error_quotes_is_one_line_and_not_long() {
        let line = Failures::new("it failed", "").line(&"a\nb".repeat(9_999), Instant::now());
        assert!(line.is_some_and(|it| it.len() < 600 && !it.contains('\n')));
    }
}
