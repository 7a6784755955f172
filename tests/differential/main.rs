//! One answer in every topology: random rules, and random calls about them, are
//! decided alike by counters in memory and wherever else counters may be.

#[allow(dead_code, reason = "shared with other tests, each of which uses a part")]
#[path = "../support/redis.rs"]
mod redis_server;

#[allow(dead_code, reason = "shared with other tests, each of which uses a part")]
#[path = "../support/cluster.rs"]
mod cluster_servers;

#[allow(dead_code, reason = "shared with other tests, each of which uses a part")]
#[path = "../support/places.rs"]
mod places;

mod calls;
mod play;
mod regressions;
mod rules;
