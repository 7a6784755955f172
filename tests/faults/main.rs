//! The effect of Redis failures on callers. Each test prints its figures; the bounds have
//! room for a machine with other work.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod exact;
mod load;
mod mixed;
mod slow;
mod suite;
