//! Counts hits in windows, as Envoy's reference service does: first count, then
//! compare. A refused hit is counted too, unless the rule says otherwise.
//!
//! At most `limit` hits pass in each window, so up to twice the limit can pass
//! around the edge between two of them.
//!
//! The state is one number where the counter's name says which window it is of. A
//! limit with a penalty keeps its ban, which outlasts windows, in the same counter:
//! there the state also says when its window began.

use std::time::Duration;

use super::{AlgorithmInfo, Denial, Hits, Limit, Outcome, Span};
use crate::time::Timestamp;

/// What the other modules may know.
pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "fixed_window",
    lua: "fixed_window",
    window: true,
    calendar: true,
    count_denied: true,
    phase: true,
    burst: false,
    lease: false,
    keeps_each_hit: false,
    window_in_key: true,
    denial: Denial::UntilWindowEnds,
};

/// The twin of [`step`] and [`undo`].
pub(super) const LUA: &str = include_str!("fixed_window.lua");

/// The hits of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the window began; the epoch where the counter's name says so.
    pub start: Timestamp,
    /// How many hits it has.
    pub count: u64,
}

/// The start that states of `limit` have in `span`.
fn origin(limit: &Limit, span: Span) -> Timestamp {
    // A window that begins at the epoch is told from one that the name tells.
    let first = Timestamp::from_micros(1);
    if limit.has_window_in_key() { Timestamp::default() } else { span.start.max(first) }
}

/// The state as seen in `span`. If another clock is ahead, its window counts.
pub(super) fn turn(state: Option<State>, limit: &Limit, span: Span) -> State {
    let start = origin(limit, span);
    match state {
        Some(state) if limit.has_window_in_key() => State { start, ..state },
        Some(state) if start <= state.start => state,
        _ => State { start, count: 0 },
    }
}

/// The count after `hits`, and whether they pass. It stays within `0..=Hits::MAX`.
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

/// The state without `hits` that were added when it was as `told`.
pub(super) fn undo(state: State, hits: u64, told: State) -> State {
    match state.start == told.start {
        true => State { count: state.count.saturating_sub(hits), ..state },
        false => state,
    }
}

/// What the script is told of a charge in `span`.
pub(super) fn arguments(limit: &Limit, count_denied: bool, span: Span, now: Timestamp) -> [u64; 5] {
    let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
    let length = micros(span.end.since(span.start));
    let rest = micros(span.end.since(now));
    let start = origin(limit, span).as_micros();
    [limit.requests.into(), count_denied.into(), start, length, rest]
}

/// When the window of `state` ends.
fn end(state: State, limit: &Limit, span: Span) -> Timestamp {
    match limit.has_window_in_key() || state.start == origin(limit, span) {
        true => span.end,
        false => state.start.plus(span.end.since(span.start)),
    }
}

/// How long the state means something from now on.
pub(super) fn ttl(state: State, limit: &Limit, span: Span, now: Timestamp) -> Duration {
    end(state, limit, span).since(now.max(state.start))
}

/// What it means that the counter is in `state`, and that `hits` passed or did
/// not.
pub(super) fn outcome(
    limit: &Limit,
    span: Span,
    hits: Hits,
    (state, passed): (State, bool),
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let counted = limit.algorithm.counts_denied();
    let reset_after = end(state, limit, span).since(now);
    let asked = hits.requested();
    let room = passed && state.count.saturating_add(asked) <= requests;
    let wait = if room { Duration::ZERO } else { reset_after };
    Outcome {
        over: !passed,
        counted,
        used: state.count,
        remaining: u32::try_from(requests.saturating_sub(state.count)).unwrap_or(u32::MAX),
        reset_after,
        retry_after: (asked <= requests).then_some(wait),
        banned: Duration::ZERO,
        cached: false,
    }
}
