//! Real servers, and clients to talk to them, for the tests of tollgate.
//!
//! Nothing here uses the library under test: tests start the `tollgate` binary
//! ([`tollgate::Tollgate`]) and reach it as a client would.

pub mod application;
pub mod browser;
pub mod certificates;
pub mod check_tap;
pub mod collector;
pub mod envoy;
pub mod faulty_proxy;
pub mod fuzz;
pub mod grpc;
pub mod http;
pub mod network;
pub mod process;
pub mod prometheus;
pub mod raw_grpc;
pub mod redis;
pub mod redis_certificates;
pub mod redis_cluster;
pub mod redis_node;
pub mod statsd;
pub mod tollgate;
mod tonic_server;
pub mod twemproxy;
pub mod upstream;
pub mod wait;
pub mod web_proxy;
pub mod xds;

use std::sync::atomic::{AtomicU32, Ordering};

/// A descriptor value that no other test of this process uses.
pub fn unique_value() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("u{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The current minute, counted from the Unix epoch. A test whose result is only
/// valid within one minute compares the values before and after.
pub fn current_minute() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(60)
}
