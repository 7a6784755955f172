//! The binary as an operator runs it: over gRPC, over HTTP and behind a real
//! Envoy, with counters in memory and in a real Redis.
#![allow(clippy::panic, clippy::unwrap_used, unreachable_pub, reason = "this is all tests")]

#[path = "../support/mod.rs"]
mod support;

mod concurrency;
mod degraded;
mod deny_cache;
mod envoy;
mod http;
mod input;
mod memory;
mod reference_cache;
mod reference_flows;
mod reference_http;
mod reflection;
mod reload;
mod shutdown;
mod sources;
mod tls;
mod unix;
mod tracing;
mod wire;
mod xds;
