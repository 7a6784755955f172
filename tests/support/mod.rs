//! What tests put around the service: real processes on ports that the system
//! picks, and the words to talk to them.

#[allow(dead_code, reason = "other tests use the rest")]
pub mod ads;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod certificates;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod collector;
pub mod envoy;
pub mod grpc;
pub mod http;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod in_process;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod nutcracker;
pub mod process;
pub mod prometheus;
pub mod raw;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod redis;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod statsd;
pub mod tollgate;
pub mod upstream;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use ::tollgate::time::{Clock, SystemClock};

/// How long anything may take that is expected to happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks until there is an answer, for a bounded time.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Which minute it is, for tests that have to end before the next.
#[allow(dead_code, reason = "other tests use the rest")]
pub fn minute() -> u64 {
    SystemClock.now().as_secs() / 60
}

/// A descriptor value that no other test uses.
pub fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("u{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
