//! The outcome of a charge, and its share of the statistics.

use std::time::Duration;

/// The outcome of one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The charge went over the limit.
    pub over: bool,
    /// If the charge went over the limit: its hits are counted all the same.
    pub counted: bool,
    /// The hits that now count against the limit.
    pub used: u64,
    /// The hits that the limit still has room for.
    pub remaining: u32,
    /// The time until the limit is as if it had never been used.
    pub reset_after: Duration,
    /// The time until the same charge passes, or passes again, if there are no other
    /// callers; not a microsecond less. `None` if it never passes.
    pub retry_after: Option<Duration>,
    /// The time for which a penalty still refuses every hit. Zero if there is no ban.
    pub banned: Duration,
    /// The outcome comes from a cache: the store was not called, and nothing was
    /// charged.
    pub cached: bool,
}

/// The hits of one charge, divided for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hits that passed.
    pub within: u64,
    /// Hits close to the limit, passed or not.
    pub near: u64,
    /// Hits beyond the limit.
    pub over: u64,
}

/// Divides `hits` into those within, near and over a limit of `capacity`.
///
/// `near_ratio` is the share of the limit from which a hit counts as near. The ratio and
/// the product are `f32`, as in Envoy's reference service, because dashboards compare the
/// two services' numbers.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn tally(capacity: u32, hits: u64, outcome: &Outcome, near_ratio: f32) -> Tally {
    let capacity = u64::from(capacity);
    let near = (capacity as f32 * near_ratio).floor() as u64;
    let after = outcome.used;
    if !outcome.over {
        // Where hits passed without being counted, this subtraction wraps, as it does in
        // the reference service.
        let before = after.wrapping_sub(hits);
        let near = if after <= near {
            0
        } else if near <= before {
            hits
        } else {
            after - near
        };
        return Tally { within: hits, near, over: 0 };
    }
    let before = after.saturating_sub(hits);
    // Hits that are not counted do not show in `used`.
    if !outcome.counted || after <= capacity || capacity <= before {
        return Tally { over: hits, ..Tally::default() };
    }
    Tally { within: 0, near: capacity - before.max(near).min(capacity), over: after - capacity }
}

/// `duration` in seconds, rounded up, as in the headers that clients read.
pub fn ceil_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A duration in microseconds, saturating.
pub(super) fn micros(micros: u128) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
