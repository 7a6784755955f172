//! Waits for events that happen soon.

use std::{fmt::Display, thread, time::Duration};

use tokio::time::{Instant, sleep};

/// How long a test waits for an event before it fails. A test that passes never
/// waits this long, so the value has room for a machine with other work.
pub const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The result of one attempt: a value, or a reason to try again.
pub trait Attempt {
    /// The value of a successful attempt.
    type Value;

    /// Returns the value, or the text to report if no later attempt succeeds.
    ///
    /// # Errors
    /// The attempt did not succeed.
    fn into_result(self) -> Result<Self::Value, String>;
}

impl Attempt for bool {
    type Value = ();

    fn into_result(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("the condition does not hold".to_owned()) }
    }
}

impl<T> Attempt for Option<T> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.ok_or_else(|| "no value".to_owned())
    }
}

impl<T, E: Display> Attempt for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Repeats `attempt` until it succeeds. Panics after [`TIMEOUT`], with `event` in
/// the message.
#[track_caller]
pub fn eventually<A: Attempt>(event: &str, mut attempt: impl FnMut() -> A) -> A::Value {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match attempt().into_result() {
            Ok(value) => return value,
            Err(last) => check(deadline, event, &last),
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// [`eventually`] for attempts that have to be awaited.
pub async fn eventually_async<A: Attempt>(
    event: &str,
    mut attempt: impl AsyncFnMut() -> A,
) -> A::Value {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match attempt().await.into_result() {
            Ok(value) => return value,
            Err(last) => check(deadline, event, &last),
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Checks that `condition` holds for the whole of `time`.
pub async fn holds_for(time: Duration, event: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(condition().await, "{event} does not hold any more");
        sleep(POLL_INTERVAL).await;
    }
}

#[track_caller]
fn check(deadline: Instant, event: &str, last: &str) {
    assert!(Instant::now() < deadline, "waited {TIMEOUT:?} for {event}: {last}");
}
