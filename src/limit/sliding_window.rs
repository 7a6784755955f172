//! Counts hits per window, and adds a share of the hits of the window before: the part
//! of that window which lies within the last window's length. The sum is
//! `before × (W − e) / W + current`, where *W* is the length of a window and *e* is the
//! time since the start of the current one. A refused hit is not counted.
//!
//! There is no boundary at which twice the limit passes at once. In a trailing window up
//! to twice the limit may pass if all hits of one window came at its end; after that
//! burst, hits pass no faster than `limit / W`.
//!
//! Both sides of the comparison, `before × (W − e)` and `room × W`, are whole numbers, so
//! it is exact.

use std::time::Duration;

use super::{
    algorithm::{AlgorithmInfo, Limit, RefusalEnd},
    hits::{Amount, DecidedHits, Hits, Stepped},
    outcome::{Outcome, micros},
    window::Span,
};
use crate::time::Timestamp;

pub(super) const INFO: AlgorithmInfo = AlgorithmInfo {
    name: "sliding_window",
    lua: "sliding_window",
    window: true,
    calendar: false,
    count_denied: false,
    phase: true,
    burst: false,
    releasable: false,
    keeps_each_hit: false,
    window_in_key: false,
    refusal_end: RefusalEnd::OneFits,
};

/// [`step`] and [`undo`] in Lua.
pub(super) const LUA: &str = include_str!("sliding_window.lua");

/// The hits of two adjacent windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The start of the current window.
    pub start: Timestamp,
    /// The hits of the window before.
    pub before: u64,
    /// The hits of the current window.
    pub current: u64,
}

/// Applies `amount` to the state at `now`, which lies in the window `span`.
pub(super) fn step(
    state: Option<State>,
    limit: &Limit,
    span: Span,
    amount: Amount,
    now: Timestamp,
) -> Stepped<State> {
    let mut state = roll(state, span);
    let mut passes = true;
    match amount.hits {
        Hits::Add(0) => {}
        Hits::Add(hits) => {
            passes = amount.is_forced() || fits(limit, span, state, hits, now);
            if passes {
                state.current = state.current.saturating_add(hits).min(Hits::MAX);
            }
        }
        Hits::Refund(hits) => {
            // The latest hits are refunded first.
            let rest = hits.saturating_sub(state.current);
            state.current = state.current.saturating_sub(hits);
            state.before = state.before.saturating_sub(rest);
        }
    }
    Stepped { state, passes }
}

/// The state without `hits`, which were added when the counter was in the state `granted`.
pub(super) fn undo(state: State, span: Span, hits: u64, granted: State) -> State {
    let mut state = roll(Some(state), span);
    if state.start == granted.start {
        state.current = state.current.saturating_sub(hits);
    } else if state.start == granted.start.plus(span.end.since(span.start)) {
        state.before = state.before.saturating_sub(hits);
    }
    state
}

/// The arguments of the Lua function.
pub(super) fn arguments(limit: &Limit, span: Span) -> [u64; 3] {
    let length = span.end.since(span.start).as_micros();
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    [limit.requests.into(), span.start.as_micros(), length]
}

/// The time after which no hit counts and the state can be deleted.
pub(super) fn ttl(state: State, span: Span, now: Timestamp) -> Duration {
    let length = span.end.since(span.start);
    let rest = state.start.plus(length).since(now.max(state.start));
    reset_after(state, rest, length)
}

/// The time until no hit counts, if `rest` is left of the current window.
fn reset_after(state: State, rest: Duration, length: Duration) -> Duration {
    match (state.current, state.before) {
        (0, 0) => Duration::ZERO,
        (0, _) => rest,
        (_, _) => rest + length,
    }
}

/// The state in the window `span`, or in a later window if a clock was ahead, or if this
/// clock has stepped back.
fn roll(state: Option<State>, span: Span) -> State {
    let empty = State { start: span.start, before: 0, current: 0 };
    let Some(state) = state else { return empty };
    let length = span.end.since(span.start);
    if state.start.plus(length) == span.start {
        return State { before: state.current, ..empty };
    }
    if span.start <= state.start { state } else { empty }
}

/// True if the limit has room for `hits` more.
fn fits(limit: &Limit, span: Span, state: State, hits: u64, now: Timestamp) -> bool {
    let Some(room) = u64::from(limit.requests).checked_sub(state.current.saturating_add(hits))
    else {
        return false;
    };
    let Weights { length, overlap } = weights(span, state, now);
    u128::from(state.before) * overlap <= u128::from(room) * length
}

/// The weight of the window before is `overlap / length`. Both are in microseconds.
struct Weights {
    length: u128,
    overlap: u128,
}

fn weights(span: Span, state: State, now: Timestamp) -> Weights {
    let length = span.end.since(span.start);
    let elapsed = now.since(state.start);
    Weights { length: length.as_micros(), overlap: length.saturating_sub(elapsed).as_micros() }
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
    let Weights { length, overlap } = weights(span, state, now);
    let weighted = (u128::from(state.before) * overlap).div_ceil(length);
    let used = state.current.saturating_add(u64::try_from(weighted).unwrap_or(u64::MAX));
    // A clock that is behind has yet to reach the start of the current window.
    let behind = state.start.since(now);
    let rest = behind + micros(overlap);
    let requested = decided.hits.requested();
    let room = decided.passed && (requested == 0 || fits(limit, span, state, requested, now));
    let retry_after = if room {
        Some(Duration::ZERO)
    } else {
        retry_after(requests, length, rest, state, requested)
    };
    Outcome {
        over: !decided.passed,
        counted: false,
        used,
        remaining: u32::try_from(requests.saturating_sub(used)).unwrap_or(u32::MAX),
        reset_after: reset_after(state, rest, span.end.since(span.start)),
        retry_after,
        banned: Duration::ZERO,
        cached: false,
    }
}

/// The time until `hits` pass, if `rest` is left of the current window.
fn retry_after(
    requests: u64,
    length: u128,
    rest: Duration,
    state: State,
    hits: u64,
) -> Option<Duration> {
    let room = requests.checked_sub(hits)?;
    let Some(room) = room.checked_sub(state.current) else {
        // The current window has to end, and then to lose weight as the window before.
        return Some(rest + micros(length) - overlap_with_room(room, state.current, length));
    };
    Some(rest.saturating_sub(overlap_with_room(room, state.before, length)))
}

/// The largest overlap at which the weighted `hits` of a window fit into `room`.
fn overlap_with_room(room: u64, hits: u64, length: u128) -> Duration {
    match (u128::from(room) * length).checked_div(u128::from(hits)) {
        Some(overlap) => micros(overlap.min(length)),
        None => micros(length),
    }
}
