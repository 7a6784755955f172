//! Counts hits in windows, as Envoy's reference service does: first count, then
//! compare. A refused hit is counted too, unless the rule says otherwise.
//!
//! At most `limit` hits pass in each window, so up to twice the limit can pass
//! around the edge between two of them.
//!
//! The state is one number; the window is part of the counter's name.

use std::time::Duration;

use crate::{
    limit::{Algorithm, Hits, Limit, Outcome, Span},
    time::Timestamp,
};

/// The counter after `hits`, and whether they pass. It stays within
/// `0..=Hits::MAX`.
pub fn step(before: u64, hits: Hits, requests: u32, count_denied: bool) -> (u64, bool) {
    let requests = u64::from(requests);
    match hits {
        Hits::Add(hits) => {
            let after = before.saturating_add(hits).min(Hits::MAX);
            let passes = after <= requests;
            (if passes || count_denied { after } else { before }, passes)
        }
        Hits::Refund(hits) => (before.saturating_sub(hits), true),
    }
}

/// What it means that the counter stands at `after`, and that `hits` passed or
/// did not.
pub fn describe(
    limit: &Limit,
    span: Span,
    hits: Hits,
    (after, passed): (u64, bool),
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let counted = limit.algorithm == Algorithm::FixedWindow { count_denied: true };
    let reset_after = span.end.since(now);
    let asked = hits.asked();
    let room = passed && after.saturating_add(asked) <= requests;
    let wait = if room { Duration::ZERO } else { reset_after };
    Outcome {
        over: !passed,
        counted,
        used: after,
        remaining: u32::try_from(requests.saturating_sub(after)).unwrap_or(u32::MAX),
        reset_after,
        retry_after: (asked <= requests).then_some(wait),
        banned: Duration::ZERO,
        cached: false,
    }
}
