//! The service over gRPC, over HTTP and behind a real Envoy, with counters in memory and
//! in a real Redis: as the binary that an operator runs, or in the process of the test.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "these are tests"
)]

mod admin;
mod bounds;
mod check;
mod concurrency;
mod connections;
mod counters;
mod dashboard;
mod degraded;
mod deny_cache;
mod envoy;
mod ext_authz;
mod explain;
mod hostile;
mod http;
mod image;
mod in_process;
mod input;
mod leases;
mod memory;
mod middleware;
mod per_second;
mod pages;
mod pipes;
mod proxies;
mod redis_access;
mod redis_health;
mod redis_routing;
mod reference_cache;
mod reference_flows;
mod reference_http;
mod reference_redis;
mod reference_settings;
mod reflection;
mod refusals;
mod reload;
mod seeing;
mod shutdown;
mod sources;
mod statistics;
mod suspension;
mod tls;
mod tonic_server;
mod tracing;
mod unix;
mod waits;
mod wire;
mod xds;
