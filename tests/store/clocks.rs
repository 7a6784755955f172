//! Instances whose clocks differ.

use std::sync::Arc;

use tollgate::time::ManualClock;

use super::*;
use crate::deployments::{Deployment, Servers, count_passed, engine, request_for, service_store};

const RULES: &str = "
domain: shop
descriptors:
- key: fixed
  rate_limit: {unit: day, requests_per_unit: 10}
- key: sliding
  rate_limit: {unit: day, requests_per_unit: 10, algorithm: sliding_window}
- key: log
  rate_limit: {unit: day, requests_per_unit: 10, algorithm: sliding_log}
- key: token_bucket
  rate_limit: {unit: day, requests_per_unit: 10, algorithm: token_bucket}
- key: leaky_bucket
  rate_limit: {unit: day, requests_per_unit: 10, algorithm: leaky_bucket}
- key: slots
  rate_limit: {requests_per_unit: 10, algorithm: concurrency, lease: 24h}
";

/// The number of 100 requests that pass through two instances in turn. The clock of the
/// second one is late by `behind`.
async fn count_admitted(servers: &Servers, key: &str, behind: Duration) -> usize {
    let late = Timestamp::from_micros(
        NOON.as_micros() - u64::try_from(behind.as_micros()).expect("it is short"),
    );
    let mut engines = Vec::new();
    for now in [NOON, late] {
        let store = service_store(servers.store(PATIENT).await, 0);
        engines.push(engine(RULES, store, &Arc::new(ManualClock::new(now))));
    }
    let mut admitted = 0;
    for _ in 0..50 {
        for engine in &engines {
            admitted += count_passed(engine, &request_for(&[key]), 1).await;
        }
    }
    admitted
}

/// No more than `most` of ten requests pass, however late the second clock is.
async fn check_at_most(key: &str, most: usize) {
    let servers = Servers::start(Deployment::One);
    for seconds in [0, 1, 30, 59, 61, 62, 90, 600, 3_600, 10_000] {
        servers.flush();
        let found = count_admitted(&servers, key, Duration::from_secs(seconds)).await;
        assert!((10..=most).contains(&found), "{key}, {seconds} s behind: {found}");
    }
}

#[tokio::test]
async fn a_late_clock_does_not_disable_a_bucket() {
    check_at_most("token_bucket", 10).await;
    check_at_most("leaky_bucket", 10).await;
}

#[tokio::test]
async fn a_late_clock_does_not_disable_a_window() {
    check_at_most("fixed", 10).await;
    check_at_most("sliding", 10).await;
}

/// Entries that are too far in the future are ignored once.
#[tokio::test]
async fn a_late_clock_doubles_a_log_and_slots_at_most() {
    check_at_most("log", 20).await;
    check_at_most("slots", 20).await;
}
