//! Warnings about errors that repeat. No other module limits log lines by time.

use std::{
    borrow::Cow, collections::HashMap, fmt::Display, net::IpAddr, sync::Arc, time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

/// The time between two warnings of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// The longest part of an error that is logged, in characters.
const MAX_ERROR: usize = 500;

/// One kind of error. Logs a warning at most once a minute, with the number of errors
/// since the previous warning.
#[derive(Debug)]
pub struct WarningLimiter {
    once: &'static str,
    often: &'static str,
    pending: Mutex<Pending>,
}

/// Errors since the previous warning.
#[derive(Debug)]
struct Pending {
    /// The time of the previous warning.
    last: Option<Instant>,
    errors: u64,
}

impl WarningLimiter {
    /// `once` describes a single error; `often` follows the number of several.
    pub const fn new(once: &'static str, often: &'static str) -> Self {
        Self { once, often, pending: Mutex::new(Pending { last: None, errors: 0 }) }
    }

    /// Counts an error, and logs it if the previous warning is a minute old.
    pub fn warn(&self, error: &impl Display) {
        if let Some(line) = self.count(error) {
            warn!("{line}");
        }
    }

    /// Counts an error. Returns the line to log if the previous one is a minute old.
    pub fn count(&self, error: &impl Display) -> Option<String> {
        self.line(error, Instant::now())
    }

    /// Logs the next error at once.
    pub fn reset(&self) {
        *self.pending.lock() = Pending { last: None, errors: 0 };
    }

    /// Returns true for a minute after a warning.
    fn is_pausing(&self, now: Instant) -> bool {
        let last = self.pending.lock().last;
        last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }

    fn line(&self, error: &impl Display, now: Instant) -> Option<String> {
        let Self { once, often, pending } = self;
        let mut pending = pending.lock();
        pending.errors += 1;
        let age = pending.last.map(|last| now.saturating_duration_since(last));
        let mut line = match age {
            Some(age) if age < PAUSE => return None,
            Some(age) if 1 < pending.errors => {
                let (errors, seconds) = (pending.errors, age.as_secs());
                format!("{errors} {often} in the last {seconds} s; the last of them: ")
            }
            Some(_) | None => format!("{once}: "),
        };
        *pending = Pending { last: Some(now), errors: 0 };
        drop(pending);
        // The error may quote a request.
        for letter in error.to_string().chars().take(MAX_ERROR) {
            line.push(if letter.is_control() { ' ' } else { letter });
        }
        Some(line)
    }
}

/// Errors that many clients cause. Each address has a limiter of its own for each reason, so
/// that one does not hide the others.
#[derive(Debug)]
pub struct ClientWarnings {
    once: &'static str,
    often: &'static str,
    limiters: Mutex<HashMap<Cause, Arc<WarningLimiter>>>,
    /// Shared by the causes for which there is no room.
    others: Arc<WarningLimiter>,
}

/// Who causes an error, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cause {
    /// `None` on Unix sockets.
    client: Option<IpAddr>,
    /// Empty if reasons are not told apart.
    reason: &'static str,
}

impl ClientWarnings {
    const MAX_LIMITERS: usize = 128;

    /// The texts are those of [`WarningLimiter::new`].
    pub fn new(once: &'static str, often: &'static str) -> Self {
        let others = Arc::new(WarningLimiter::new(once, often));
        Self { once, often, limiters: Mutex::default(), others }
    }

    /// Counts an error, and logs it if the previous warning about `client` is a minute old.
    pub fn warn(&self, client: Option<IpAddr>, error: &impl Display) {
        self.warn_of(client, "", error);
    }

    /// Counts an error, and logs it if the previous warning about `client` for `reason` is a
    /// minute old.
    pub fn warn_of(&self, client: Option<IpAddr>, reason: &'static str, error: &impl Display) {
        self.limiter(Cause { client, reason }, Instant::now()).warn(error);
    }

    fn limiter(&self, cause: Cause, now: Instant) -> Arc<WarningLimiter> {
        let mut limiters = self.limiters.lock();
        if limiters.len() == Self::MAX_LIMITERS && !limiters.contains_key(&cause) {
            limiters.retain(|_, limiter| limiter.is_pausing(now));
            if limiters.len() == Self::MAX_LIMITERS {
                return Arc::clone(&self.others);
            }
        }
        let new = || Arc::new(WarningLimiter::new(self.once, self.often));
        Arc::clone(limiters.entry(cause).or_insert_with(new))
    }
}

/// Bounds the lines about peers that each may be new, such as the servers to which another
/// one redirects.
#[derive(Debug)]
pub struct LineBudget {
    left_out: &'static str,
    current: Mutex<Minute>,
}

/// The lines since the first one of a minute.
#[derive(Debug)]
struct Minute {
    begin: Option<Instant>,
    lines: u64,
}

impl LineBudget {
    /// The number of lines a minute.
    const MAX_LINES: u64 = 100;

    /// `left_out` follows the number of lines that were not logged.
    pub const fn new(left_out: &'static str) -> Self {
        Self { left_out, current: Mutex::new(Minute { begin: None, lines: 0 }) }
    }

    /// Returns whether there is room for a line. Logs the number of lines that had none in
    /// the minute before.
    pub fn allows_line(&self) -> bool {
        let Room { is_left, left_out } = self.take(Instant::now());
        if 0 < left_out {
            warn!("{left_out} {}", self.left_out);
        }
        is_left
    }

    fn take(&self, now: Instant) -> Room {
        let mut current = self.current.lock();
        let mut left_out = 0;
        if current.begin.is_none_or(|begin| PAUSE <= now.saturating_duration_since(begin)) {
            left_out = current.lines.saturating_sub(Self::MAX_LINES);
            *current = Minute { begin: Some(now), lines: 0 };
        }
        current.lines += 1;
        Room { is_left: current.lines <= Self::MAX_LINES, left_out }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Room {
    is_left: bool,
    /// The lines without room in the minute before, once.
    left_out: u64,
}

/// Bounds the lines of libraries, which peers can cause: one a minute from each place in
/// their code. Places beyond a bound share one.
#[derive(Debug, Default)]
pub struct PlaceLimiter(Mutex<HashMap<Place, Instant>>);

/// A place in the code of a library.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The target of the line, usually its module.
    pub target: Cow<'static, str>,
    /// The number of the line in its file, if that is known.
    pub line: Option<u32>,
}

impl PlaceLimiter {
    /// The most places, besides the one that others share.
    const MAX_PLACES: usize = 1_000;

    /// Returns whether `place` may log a line now.
    pub fn allows_line(&self, place: Place) -> bool {
        self.allows_line_at(place, Instant::now())
    }

    fn allows_line_at(&self, mut place: Place, now: Instant) -> bool {
        let mut lines = self.0.lock();
        if Self::MAX_PLACES <= lines.len() && !lines.contains_key(&place) {
            lines.retain(|_, last| now.saturating_duration_since(*last) < PAUSE);
            if Self::MAX_PLACES <= lines.len() {
                place = Place::default();
            }
        }
        let last = lines.get(&place);
        if last.is_some_and(|last| now.saturating_duration_since(*last) < PAUSE) {
            return false;
        }
        lines.insert(place, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_a_budget_are_counted() {
        let budget = LineBudget::new("lines");
        let begin = Instant::now();
        let mut logged = 0;
        for _ in 0..250 {
            logged += u64::from(budget.take(begin).is_left);
        }
        assert_eq!(logged, LineBudget::MAX_LINES);
        assert_eq!(budget.take(begin + PAUSE), Room { is_left: true, left_out: 150 });
        assert_eq!(budget.take(begin + PAUSE), Room { is_left: true, left_out: 0 });
    }

    #[test]
    fn each_place_logs_one_line_a_minute() {
        let limiter = PlaceLimiter::default();
        let start = Instant::now();
        let allows = |line, second| {
            let place = Place { target: "h2::proto".into(), line: Some(line) };
            limiter.allows_line_at(place, start + Duration::from_secs(second))
        };
        assert!(allows(1, 0) && allows(2, 1));
        assert!(!allows(1, 59) && allows(1, 60) && !allows(2, 60) && allows(2, 61));
    }

    #[test]
    fn places_beyond_a_bound_share_one() {
        let limiter = PlaceLimiter::default();
        let begin = Instant::now();
        let allows = |line, now| {
            limiter.allows_line_at(Place { target: "redis".into(), line: Some(line) }, now)
        };
        let logged = (0..2_000).filter(|line| allows(*line, begin)).count();
        assert_eq!(logged, PlaceLimiter::MAX_PLACES + 1);
        assert_eq!(limiter.0.lock().len(), PlaceLimiter::MAX_PLACES + 1);
        // A minute later, the first ones make room.
        assert!(allows(3_000, begin + PAUSE) && allows(3_001, begin + PAUSE));
    }

    #[test]
    fn the_first_error_is_logged_and_then_a_count_every_minute() {
        let limiter = WarningLimiter::new("a call failed", "calls failed");
        let start = Instant::now();
        let why = "no answer within 15ms";
        let line = |second| limiter.line(&why, start + Duration::from_secs(second));
        assert_eq!(line(0), Some(format!("a call failed: {why}")));
        assert_eq!([line(0), line(1), line(59)], [None, None, None]);
        let count = "4 calls failed in the last 60 s; the last of them: ";
        assert_eq!(line(60), Some(format!("{count}{why}")));
        assert_eq!(line(61), None);
        let later = line(4_000).unwrap();
        assert!(later.starts_with("2 calls failed") && later.contains("last 3940 s"), "{later}");
        assert_eq!(line(5_000), Some(format!("a call failed: {why}")));
    }

    #[test]
    fn each_client_has_its_own_warnings_up_to_a_bound() {
        let warnings = ClientWarnings::new("a call failed", "calls failed");
        let begin = Instant::now();
        let client = |number: usize| Some(IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]));
        let line = |number, now| {
            let cause = Cause { client: client(number), reason: "" };
            warnings.limiter(cause, now).line(&"why", now)
        };
        for number in 0..ClientWarnings::MAX_LIMITERS {
            assert_eq!(
                [line(number, begin).is_some(), line(number, begin).is_some()],
                [true, false]
            );
        }
        let beyond = [200, 201].map(|number| line(number, begin).is_some());
        assert_eq!(beyond, [true, false]);
        // A minute later, the first ones make room.
        let later = [202, 203].map(|number| line(number, begin + PAUSE).is_some());
        assert_eq!(later, [true, true]);
    }

    #[test]
    fn one_reason_of_a_client_does_not_hide_another() {
        let warnings = ClientWarnings::new("a check failed", "checks failed");
        let now = Instant::now();
        let line = |reason| {
            let cause = Cause { client: None, reason };
            warnings.limiter(cause, now).line(&"why", now).is_some()
        };
        assert_eq!([line("no_uri"), line("no_host"), line("no_uri")], [true, true, false]);
    }

    #[test]
    fn errors_are_logged_on_one_short_line() {
        let limiter = WarningLimiter::new("it failed", "");
        let line = limiter.line(&"a\nb".repeat(9_999), Instant::now()).unwrap();
        assert!(line.len() < 600 && !line.contains('\n'));
    }
}
