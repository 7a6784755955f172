//! Counts hits in windows that begin at multiples of their length since the
//! Unix epoch, as Envoy's reference service does: first count, then compare.
//! A refused hit is counted too.
//!
//! At most `limit` hits pass in each window, so up to twice the limit can pass
//! around the edge between two of them.
//!
//! The state is one number. [`count`] moves it and has a twin in
//! `store/redis/lua/fixed_window.lua`; [`describe`] explains it and exists only
//! here.

use crate::{
    limit::{Hits, Limit, Outcome},
    time::Timestamp,
};

/// The counter after `hits`. It stays within `0..=Hits::MAX`.
pub fn count(before: u64, hits: Hits) -> u64 {
    match hits {
        Hits::Add(hits) => before.saturating_add(hits).min(Hits::MAX),
        Hits::Refund(hits) => before.saturating_sub(hits),
    }
}

/// What it means that the counter of `limit` stands at `after`, once `hits`
/// are counted.
///
/// A refund is never over the limit, whatever is left of the counter.
pub fn describe(limit: Limit, hits: Hits, after: u64, now: Timestamp) -> Outcome {
    let requests = u64::from(limit.requests);
    Outcome {
        over: matches!(hits, Hits::Add(_)) && requests < after,
        after,
        remaining: u32::try_from(requests.saturating_sub(after)).unwrap_or(u32::MAX),
        reset_after: limit.window.end(now).since(now),
    }
}

/// How the hits of one charge are counted in the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hits that passed.
    pub within: u64,
    /// Hits that came close to the limit, passed or not.
    pub near: u64,
    /// Hits beyond the limit.
    pub over: u64,
}

/// Divides `hits` into those within, near and over `limit`.
///
/// `near_ratio` is the share of the limit from which a hit counts as near. It
/// is an `f32`, and the product too, because dashboards compare these numbers
/// with those of Envoy's reference service, which computes them so.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn tally(limit: Limit, hits: u64, outcome: &Outcome, near_ratio: f32) -> Tally {
    let requests = u64::from(limit.requests);
    let near = (requests as f32 * near_ratio).floor() as u64;
    let after = outcome.after;
    let before = after.saturating_sub(hits);
    if !outcome.over {
        let near = match () {
            () if after <= near => 0,
            () if near <= before => hits,
            () => after - near,
        };
        return Tally { within: hits, near, over: 0 };
    }
    if requests <= before {
        return Tally { over: hits, ..Tally::default() };
    }
    Tally { within: 0, near: requests - before.max(near).min(requests), over: after - requests }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::{Unit, Window};

    fn minutely(requests: u32) -> Limit {
        Limit { requests, window: Window::of(Unit::Minute) }
    }

    #[test]
    fn the_reference_vectors_hold() {
        // (limit, hits, counter after) -> (over, remaining, [near, over, within])
        let vectors = [
            ((15, 1, 11), (false, 4, [0, 0, 1])),
            ((15, 1, 13), (false, 2, [1, 0, 1])),
            ((15, 1, 16), (true, 0, [0, 1, 0])),
            ((20, 3, 5), (false, 15, [0, 0, 3])),
            ((8, 2, 7), (false, 1, [1, 0, 2])),
            ((20, 3, 19), (false, 1, [3, 0, 3])),
            ((20, 3, 22), (true, 0, [1, 2, 0])),
            ((20, 7, 22), (true, 0, [4, 2, 0])),
            ((10, 3, 30), (true, 0, [0, 3, 0])),
            ((10, 0, 11), (true, 0, [0, 0, 0])),
        ];
        for ((requests, hits, after), expected) in vectors {
            let limit = minutely(requests);
            let outcome = describe(limit, Hits::Add(hits), after, Timestamp::from_secs(1_000));
            let tally = tally(limit, hits, &outcome, 0.8);
            let actual = (outcome.over, outcome.remaining, [tally.near, tally.over, tally.within]);
            assert_eq!(actual, expected, "limit {requests}, hits {hits}, after {after}");
        }
    }

    #[test]
    fn a_counter_stays_in_its_range() {
        assert_eq!(count(3, Hits::Refund(5)), 0);
        assert_eq!(count(Hits::MAX, Hits::Add(Hits::MAX)), Hits::MAX);
        assert_eq!(count(7, Hits::Add(0)), 7);
    }

    #[test]
    fn a_refund_is_never_over() {
        assert!(!describe(minutely(1), Hits::Refund(1), 5, Timestamp::from_secs(0)).over);
    }

    #[test]
    fn a_window_resets_at_its_end_and_never_now() {
        let reset = |micros| {
            describe(minutely(1), Hits::Add(1), 1, Timestamp::from_micros(micros)).reset_after
        };
        assert_eq!(reset(2_222_000_000), Duration::from_secs(58));
        assert_eq!(reset(2_279_999_999), Duration::from_micros(1));
        assert_eq!(reset(2_280_000_000), Duration::from_secs(60));
    }
}
