//! The fast path: hits that are only counted in fixed windows, in the key and value format of
//! Envoy's reference service. Any client may INCRBY these counters.

use crate::{
    counter::CounterKey,
    store::{Charge, EXPIRY_SLACK},
    time::Timestamp,
};

/// The script for counters that the commands INCRBY and SET cannot handle.
pub(super) const SOURCE: &str = include_str!("lua/count.lua");

/// The change of one counter.
#[derive(Clone, Debug)]
pub(super) struct FixedWindowHits {
    pub(super) key: CounterKey,
    /// Below 0 for a refund.
    pub(super) hits: i64,
    /// The time until the key expires.
    pub(super) ttl_millis: u64,
}

impl FixedWindowHits {
    pub(super) fn new(charge: &Charge, now: Timestamp) -> Self {
        let ttl = (charge.counter.span.end.since(now) + EXPIRY_SLACK).as_micros();
        let ttl_millis = u64::try_from(ttl.div_ceil(1_000)).unwrap_or(u64::MAX);
        Self { key: charge.counter.key.clone(), hits: charge.hits.signed(), ttl_millis }
    }
}

/// The state of a counter when its charge arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterBefore {
    Hits(u64),
    /// Other calls hold hits of the counter. The charge was not counted.
    Held,
}

/// Returns true if the fast path can make `charge`.
pub(super) fn is_count_only(charge: &Charge) -> bool {
    charge.counts_denied() && charge.limit.penalty.is_zero() && !charge.depends_on_others()
}
