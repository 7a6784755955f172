//! What callers notice while Redis fails, for real: figures are printed, and hold
//! with room for a machine that has other work.
#![allow(clippy::panic, clippy::unwrap_used, reason = "this is all tests")]
#![allow(unreachable_pub, reason = "support is shared")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/cluster.rs"]
mod cluster_servers;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod exact;
mod load;
mod mixed;
mod proxy;
mod slow;
mod suite;
