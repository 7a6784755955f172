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
mod games;
mod laws;
mod penalties;
mod plots;
mod rules;
mod svg;
mod vectors;
mod waits;
