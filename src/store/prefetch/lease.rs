//! The lease of one counter: its unspent hits, and the size of the next prefetch.

use std::time::Duration;

use crate::{
    limit::{Limit, Span},
    store::Charge,
    time::Timestamp,
};

/// Prefetched hits that last longer than this were more than needed.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
/// A prefetch takes at most this fraction of the hits that are left: one tenth.
///
/// An instance then never holds more than a tenth of the hits that were left when it
/// prefetched, and n instances that prefetch one after another leave (9/10)ⁿ of them to
/// the others. Prefetches shrink with the hits left: the last nine hits of a limit are
/// never prefetched. A single busy instance still needs only about one store call for
/// each tenth that it uses up.
const FRACTION: u64 = 10;

/// The lease of one counter.
#[derive(Clone, Debug)]
pub(super) struct QuotaLease {
    /// Distinguishes this lease from earlier and later leases of the same counter.
    pub(super) id: u64,
    pub(super) span: Span,
    /// The limit of the last call that prefetched.
    pub(super) limit: Limit,
    /// Prefetched hits that have not been spent.
    pub(super) unspent: u64,
    /// The value of the counter after the last prefetch, without hits over the limit.
    pub(super) count: u64,
    /// Prefetched hits that are over the limit and so cannot be spent.
    pub(super) over_limit: u64,
    /// The size of the last prefetch.
    pub(super) size: u64,
    /// The start of the last prefetch.
    pub(super) prefetched_at: Timestamp,
    /// A prefetch waits for the store.
    pub(super) in_flight: bool,
}

impl QuotaLease {
    pub(super) fn new(id: u64, charge: &Charge) -> Self {
        Self {
            id,
            span: charge.counter.span,
            limit: charge.limit.clone(),
            unspent: 0,
            count: 0,
            over_limit: 0,
            size: 0,
            prefetched_at: Timestamp::default(),
            in_flight: false,
        }
    }

    /// True if `charge` may spend `hits` of the lease.
    ///
    /// The unspent hits were counted within the limit at that time. If the limit has been
    /// lowered since, other instances may have used it up, so the store has to be called
    /// first; then the lower limit must have room for these hits.
    pub(super) fn allows(&self, charge: &Charge, hits: u64, now: Timestamp) -> bool {
        let requests = charge.limit.requests;
        self.span == charge.counter.span
            && !self.has_ended(now)
            && self.limit.requests <= requests
            && hits <= self.unspent
            && self.used().saturating_add(hits) <= u64::from(requests)
    }

    /// The value of the counter without unspent hits.
    pub(super) fn used(&self) -> u64 {
        self.count.saturating_sub(self.unspent)
    }

    /// The number of hits to prefetch with a store call at `now`.
    ///
    /// It doubles with each prefetch that follows within [`BUSY_INTERVAL`], and halves for
    /// each interval that has passed.
    pub(super) fn next_size(&self, charge: &Charge, now: Timestamp) -> u64 {
        let max = u64::from(charge.limit.max_prefetch);
        let intervals = now.since(self.prefetched_at).as_micros() / BUSY_INTERVAL.as_micros();
        let wanted = match u32::try_from(intervals) {
            Ok(0) => (2 * self.size).clamp(1, max.max(1)),
            Ok(intervals) => self.size.checked_shr(intervals).unwrap_or(0),
            Err(_) => 0,
        };
        let left = u64::from(charge.limit.requests).saturating_sub(self.count);
        wanted.min(left / FRACTION).min(max.saturating_sub(self.unspent))
    }

    /// The hits that are counted in the store but were not spent.
    pub(super) fn unused(&self) -> u64 {
        self.unspent + self.over_limit
    }

    /// True if the window has ended, so that the lease is worthless.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.span.end <= now
    }

    /// True if the lease can be dropped without losing hits.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.unused() == 0 && !self.in_flight && BUSY_INTERVAL <= now.since(self.prefetched_at)
    }
}
