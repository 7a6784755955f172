//! Counts hits per window, as Envoy's reference service does: it counts first and
//! compares then. A refused hit is counted too, unless the rule disables that.
//!
//! At most `requests` hits pass in each window, so up to twice as many can pass around
//! the boundary of two windows.
//!
//! If the counter's key contains the start of the window, the state is the count alone. A
//! limit with a penalty uses one key for all windows, because its ban may outlast a
//! window; its state contains the start of the window, too.

use std::time::Duration;

use super::{
    algorithm::{AlgorithmInfo, Limit, RefusalEnd},
    hits::{DecidedHits, Hits},
    outcome::Outcome,
    window::Span,
};
use crate::time::Timestamp;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "fixed_window",
    lua: "fixed_window",
    window: true,
    calendar: true,
    count_denied: true,
    phase: true,
    burst: false,
    releasable: false,
    keeps_each_hit: false,
    window_in_key: true,
    refusal_end: RefusalEnd::WindowEnd,
};

/// [`step`] and [`undo`] in Lua.
pub(super) const LUA: &str = include_str!("fixed_window.lua");

/// The hits of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The start of the window; the epoch if the counter's key contains it.
    pub start: Timestamp,
    /// The hits counted in the window.
    pub count: u64,
}

/// The `start` of states of `limit` in the window `span`.
fn start_in_state(limit: &Limit, span: Span) -> Timestamp {
    if limit.has_window_in_key() {
        return Timestamp::default();
    }
    // 0 means that the key contains the start, so a window from the epoch starts at 1 µs.
    span.start.max(Timestamp::from_micros(1))
}

/// The state in the window `span`, or in a later window that a clock that is ahead has
/// begun.
pub(super) fn roll(state: Option<State>, limit: &Limit, span: Span) -> State {
    let start = start_in_state(limit, span);
    match state {
        Some(state) if limit.has_window_in_key() => State { start, ..state },
        Some(state) if start <= state.start => state,
        _ => State { start, count: 0 },
    }
}

/// A charge on the count of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountStep {
    /// The count after the charge, within `0..=Hits::MAX`.
    pub count: u64,
    /// False if the hits are refused.
    pub passes: bool,
}

/// Charges `hits` to the count `before`.
pub fn step(before: u64, hits: Hits, requests: u32, count_denied: bool) -> CountStep {
    match hits {
        Hits::Add(hits) => {
            let after = before.saturating_add(hits).min(Hits::MAX);
            let passes = after <= u64::from(requests);
            CountStep { count: if passes || count_denied { after } else { before }, passes }
        }
        Hits::Refund(hits) => CountStep { count: before.saturating_sub(hits), passes: true },
    }
}

/// The state without `hits`, which were added when the counter was in the state `granted`.
pub(super) fn undo(state: State, hits: u64, granted: State) -> State {
    if state.start != granted.start {
        return state;
    }
    State { count: state.count.saturating_sub(hits), ..state }
}

/// The arguments of the Lua function.
pub(super) fn arguments(limit: &Limit, count_denied: bool, span: Span, now: Timestamp) -> [u64; 5] {
    let length = micros(span.end.since(span.start));
    let rest = micros(span.end.since(now));
    let start = start_in_state(limit, span).as_micros();
    [limit.requests.into(), count_denied.into(), start, length, rest]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The end of the window that `state` belongs to.
fn window_end(state: State, limit: &Limit, span: Span) -> Timestamp {
    if limit.has_window_in_key() || state.start == start_in_state(limit, span) {
        return span.end;
    }
    state.start.plus(span.end.since(span.start))
}

/// The time until the window ends and the state can be deleted.
pub(super) fn ttl(state: State, limit: &Limit, span: Span, now: Timestamp) -> Duration {
    window_end(state, limit, span).since(now.max(state.start))
}

/// The outcome of a charge that left the counter in `state`.
pub(super) fn outcome(
    limit: &Limit,
    span: Span,
    state: State,
    decided: DecidedHits,
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let requested = decided.hits.requested();
    let reset_after = window_end(state, limit, span).since(now);
    let retry_after = if requests < requested {
        None
    } else if decided.passed && state.count.saturating_add(requested) <= requests {
        Some(Duration::ZERO)
    } else {
        Some(reset_after)
    };
    Outcome {
        over: !decided.passed,
        counted: limit.algorithm.counts_denied(),
        used: state.count,
        remaining: u32::try_from(requests.saturating_sub(state.count)).unwrap_or(u32::MAX),
        reset_after,
        retry_after,
        banned: Duration::ZERO,
        cached: false,
    }
}
