//! Counts hits in windows, and weighs those of the window before by how much of
//! it lies within the last window's length: `before × (W − e) / W + now`, where
//! *e* is how far into its window the moment is. A refused hit is not counted.
//!
//! There is no edge at which twice the limit passes at once. In a trailing
//! window up to twice the limit may pass if all of one window's hits came at its
//! end: after that burst hits pass no faster than `limit / W`.
//!
//! The comparison is made in whole numbers, exactly: `before × (W − e)` against
//! `room × W`.

use std::time::Duration;

use super::{AlgorithmInfo, Denial, Hits, Limit, Outcome, Span, micros};
use crate::time::Timestamp;

/// What the other modules may know.
pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "sliding_window",
    lua: "sliding_window",
    window: true,
    calendar: false,
    count_denied: false,
    phase: true,
    burst: false,
    lease: false,
    keeps_each_hit: false,
    window_in_key: false,
    denial: Denial::UntilOneFits,
};

/// The twin of [`step`] and [`undo`].
pub(super) const LUA: &str = include_str!("sliding_window.lua");

/// The hits of two windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the later of the two began.
    pub start: Timestamp,
    /// The hits of the one before.
    pub before: u64,
    /// The hits of the later one.
    pub current: u64,
}

/// The state after `hits` at `now`, which lies in `span`, and whether they
/// pass. They do in any case if `limit` is none.
pub fn step(
    state: Option<State>,
    limit: Option<&Limit>,
    span: Span,
    hits: Hits,
    now: Timestamp,
) -> (State, bool) {
    let state = turn(state, span);
    let State { before, current, .. } = state;
    match hits {
        Hits::Add(0) => (state, true),
        Hits::Add(hits) => {
            let passes = limit.is_none_or(|it| fits(it, span, state, hits, now));
            let added = current.saturating_add(hits).min(Hits::MAX);
            let current = if passes { added } else { current };
            (State { current, ..state }, passes)
        }
        Hits::Refund(hits) => {
            // The latest hits are given back first.
            let rest = hits.saturating_sub(current);
            let current = current.saturating_sub(hits);
            (State { current, before: before.saturating_sub(rest), ..state }, true)
        }
    }
}

/// The state without `hits` that were added when it was as `told`.
pub(super) fn undo(state: State, span: Span, hits: u64, told: State) -> State {
    let State { start, before, current } = turn(Some(state), span);
    if start == told.start {
        State { start, before, current: current.saturating_sub(hits) }
    } else if start == told.start.plus(span.end.since(span.start)) {
        State { start, before: before.saturating_sub(hits), current }
    } else {
        State { start, before, current }
    }
}

/// What the script is told of a charge in `span`.
pub(super) fn arguments(limit: &Limit, span: Span) -> [u64; 3] {
    let length = span.end.since(span.start).as_micros();
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    [limit.requests.into(), span.start.as_micros(), length]
}

/// How long the state means something from now on.
pub(super) fn ttl(state: State, span: Span, now: Timestamp) -> Duration {
    let length = span.end.since(span.start);
    let rest = state.start.plus(length).since(now.max(state.start));
    match (state.current, state.before) {
        (0, 0) => Duration::ZERO,
        (0, _) => rest,
        (_, _) => rest + length,
    }
}

/// The state as seen in `span`. If another clock is ahead, or this one has stepped
/// back, the windows of the later one count.
fn turn(state: Option<State>, span: Span) -> State {
    let empty = State { start: span.start, before: 0, current: 0 };
    let Some(state) = state else { return empty };
    let length = span.end.since(span.start);
    if state.start.plus(length) == span.start {
        return State { before: state.current, ..empty };
    }
    if span.start <= state.start { state } else { empty }
}

/// Whether the limit has room for `hits` more.
fn fits(limit: &Limit, span: Span, state: State, hits: u64, now: Timestamp) -> bool {
    let Some(room) = u64::from(limit.requests).checked_sub(state.current.saturating_add(hits))
    else {
        return false;
    };
    let (length, left) = weights(span, state, now);
    u128::from(state.before) * left <= u128::from(room) * length
}

/// The length of a window, and how much of the window before still counts, both
/// in microseconds.
fn weights(span: Span, state: State, now: Timestamp) -> (u128, u128) {
    let length = span.end.since(span.start);
    let elapsed = now.since(state.start);
    (length.as_micros(), length.saturating_sub(elapsed).as_micros())
}

/// What it means that the counter is in `state`, and that `hits` passed or did
/// not.
pub fn outcome(
    limit: &Limit,
    span: Span,
    hits: Hits,
    (state, passed): (State, bool),
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let (length, left) = weights(span, state, now);
    let weighed = (u128::from(state.before) * left).div_ceil(length);
    let used = state.current.saturating_add(u64::try_from(weighed).unwrap_or(u64::MAX));
    // A clock that is behind still has to reach the window that counts.
    let behind = state.start.since(now);
    let window = span.end.since(span.start);
    let rest = behind + micros(left);
    let reset_after = match (state.current, state.before) {
        (0, 0) => Duration::ZERO,
        (0, _) => rest,
        (_, _) => rest + window,
    };
    let asked = hits.requested();
    let room = passed && (asked == 0 || fits(limit, span, state, asked, now));
    Outcome {
        over: !passed,
        counted: false,
        used,
        remaining: u32::try_from(requests.saturating_sub(used)).unwrap_or(u32::MAX),
        reset_after,
        retry_after: match room {
            true => Some(Duration::ZERO),
            false => retry(requests, length, rest, state, asked),
        },
        banned: Duration::ZERO,
        cached: false,
    }
}

/// How long until `hits` pass. `rest` is what is left of the later window.
fn retry(requests: u64, length: u128, rest: Duration, state: State, hits: u64) -> Option<Duration> {
    let room = requests.checked_sub(hits)?;
    // As soon as so little of a window counts that its hits leave room.
    let share = |room: u64, hits: u64| {
        let share = (u128::from(room) * length).checked_div(u128::from(hits));
        micros(share.map_or(length, |it| it.min(length)))
    };
    match room.checked_sub(state.current) {
        Some(room) => Some(rest.saturating_sub(share(room, state.before))),
        None => Some(rest + (micros(length) - share(room, state.current))),
    }
}
