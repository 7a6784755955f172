//! The algorithms compared with definitions written from the formulas in
//! `docs/algorithms.md`, and the plots of that page.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "this is all tests"
)]

mod buckets;
mod calendars;
mod clocks;
mod concurrency;
mod counter;
mod definitions;
mod penalties;
mod plots;
mod properties;
mod random_calls;
mod request_retry_after;
mod rules;
mod svg;
mod vectors;
