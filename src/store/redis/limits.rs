//! Bounds on the work that is queued for a server or in flight.

use std::time::Duration;

/// The most that a batch costs, in units of [`cost`](super::call::cost), unless a single call
/// costs more. Redis is busy for about half a millisecond with fixed windows, and for up to
/// two with lists and limits that depend on each other.
pub(super) const FULL_BATCH_COST: usize = 256;

/// The most full batches that a server's lane for cheap calls has in flight at once, besides
/// one that is not full.
pub(super) const MAX_LIGHT_BATCHES: usize = 8;
/// The same for the lane of expensive calls.
pub(super) const MAX_HEAVY_BATCHES: usize = 4;

/// The most calls that wait in a lane; further calls are rejected at once.
pub(super) const QUEUE_CAPACITY: usize = 8_192;

/// The most that one request has in flight on a server, in units of
/// [`cost`](super::call::cost): as much as the heavy lane, a few milliseconds of Redis.
pub(super) const MAX_REQUEST_COST_IN_FLIGHT: usize = MAX_HEAVY_BATCHES * FULL_BATCH_COST;

/// The most dependent charges in one script: about ten milliseconds of Redis.
pub(super) const MAX_DEPENDENT_CHARGES: usize = 256;

/// The time to wait for a reply after its caller has timed out or been cancelled. Hits that such
/// a reply grants are refunded.
pub(super) const LATE_REPLY_TIMEOUT: Duration = Duration::from_secs(10);
