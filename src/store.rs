//! Counter stores.

use std::time::Duration;

pub mod api;
pub mod charge;
pub mod deny_cache;
pub(crate) mod enforced;
pub mod error;
pub mod memory;
mod name;
pub mod observe;
pub mod prefetch;
pub mod redis;
pub(crate) mod script;
pub mod stats;

pub use self::{
    api::{CallTime, CounterChange, Counters, Deadline, Results, Store},
    charge::{Charge, Consume, Enforced, OnTimeout},
    error::{ChangeError, StoreError},
    stats::{DenyCacheUsage, MemoryUsage, PoolUsage, Pools, StoreStats},
};
use self::{
    api::{all_failed, single_result},
    charge::peek_charge,
};

/// Every store keeps a counter for this long after its last effect, so that a clock that
/// is behind or steps back finds its count.
pub const EXPIRY_SLACK: Duration = Duration::from_secs(1);
