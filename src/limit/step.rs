//! One charge to one counter, whatever the algorithm: the state after it, and its
//! outcome. The in-memory store calls these functions; the Redis scripts compute the same
//! in Lua.
//!
//! This file maps [`Algorithm`] to the steps of the algorithms, as `limit.rs` maps it to
//! their properties.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    algorithm::{Algorithm, Limit},
    bucket, fixed_window,
    hits::{Amount, DecidedHits, Hits, LimitCheck},
    outcome::Outcome,
    permits, sliding_window,
    window::{Span, Window},
};
use crate::time::Timestamp;

/// The state of a counter, as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a fixed window.
    Count(fixed_window::State),
    /// Of a sliding window.
    Window(sliding_window::State),
    /// Of a token bucket or a leaky bucket.
    Bucket(bucket::State),
    /// Of a sliding log, or of calls in flight.
    Permits(permits::State),
}

/// The part of a state that an outcome depends on. A store returns it with each charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Of a fixed window.
    Count(fixed_window::State),
    /// Of a sliding window.
    Window(sliding_window::State),
    /// Of a token bucket or a leaky bucket.
    Bucket(bucket::State),
    /// Of a sliding log, or of calls in flight.
    Permits(permits::Summary),
}

/// The effect that a charge would have on a counter.
#[derive(Clone, Debug)]
pub struct Step {
    /// False if the algorithm refuses the hits.
    pub passes: bool,
    /// The snapshot to return if the charge is not applied after all.
    pub before: Snapshot,
    /// The snapshot to return if the charge is applied.
    pub after: Snapshot,
    /// The state to write if the charge is applied; `None` if it is unchanged.
    pub state: Option<State>,
}

/// Computes one charge against its limit. A state of another algorithm is ignored.
pub fn step(limit: &Limit, span: Span, state: Option<State>, hits: Hits, now: Timestamp) -> Step {
    step_with(limit, span, state, Amount { hits, check: LimitCheck::Enforce }, now)
}

/// Computes one charge, with or without a check of the limit.
pub fn step_with(
    limit: &Limit,
    span: Span,
    state: Option<State>,
    amount: Amount,
    now: Timestamp,
) -> Step {
    let amount = Amount { hits: amount.hits.capped(), ..amount };
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            fixed_window_step(limit, count_denied, span, state, amount)
        }
        Algorithm::SlidingWindow => sliding_window_step(limit, span, state, amount, now),
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            bucket_step(limit, state, amount, now)
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            permits_step(limit, state, amount, now)
        }
    }
}

fn fixed_window_step(
    limit: &Limit,
    count_denied: bool,
    span: Span,
    state: Option<State>,
    amount: Amount,
) -> Step {
    let state = if let Some(State::Count(state)) = state { Some(state) } else { None };
    let before = fixed_window::roll(state, limit, span);
    let forced = amount.is_forced();
    let requests = if forced { u32::MAX } else { limit.requests };
    let fixed_window::CountStep { count, passes } =
        fixed_window::step(before.count, amount.hits, requests, count_denied || forced);
    let after = fixed_window::State { count, ..before };
    Step {
        passes: passes || forced,
        before: Snapshot::Count(before),
        after: Snapshot::Count(after),
        state: if after == before { None } else { Some(State::Count(after)) },
    }
}

fn sliding_window_step(
    limit: &Limit,
    span: Span,
    state: Option<State>,
    amount: Amount,
    now: Timestamp,
) -> Step {
    let state = if let Some(State::Window(state)) = state { Some(state) } else { None };
    let before = sliding_window::step(state, limit, span, Amount::NONE, now).state;
    let after = sliding_window::step(state, limit, span, amount, now);
    Step {
        passes: after.passes,
        before: Snapshot::Window(before),
        after: Snapshot::Window(after.state),
        state: if after.state == before { None } else { Some(State::Window(after.state)) },
    }
}

fn bucket_step(limit: &Limit, state: Option<State>, amount: Amount, now: Timestamp) -> Step {
    let state = if let Some(State::Bucket(state)) = state { Some(state) } else { None };
    let scale = bucket::Scale::new(limit);
    let before = bucket::step(state, &scale, Amount::NONE, now).state;
    let after = bucket::step(state, &scale, amount, now);
    let unchanged = after.state.level == before.level;
    Step {
        passes: after.passes,
        before: Snapshot::Bucket(before),
        after: Snapshot::Bucket(after.state),
        state: if unchanged { None } else { Some(State::Bucket(after.state)) },
    }
}

fn permits_step(limit: &Limit, state: Option<State>, amount: Amount, now: Timestamp) -> Step {
    let state = match state {
        Some(State::Permits(state)) => state,
        _ => permits::State::default(),
    };
    let step = permits::step(&state, limit, amount, now);
    Step {
        passes: step.passes,
        before: Snapshot::Permits(step.before),
        after: Snapshot::Permits(step.after),
        state: step.state.map(State::Permits),
    }
}

/// Hits that a charge was granted.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The number of hits.
    pub hits: u64,
    /// The snapshot that the store returned with the grant.
    pub snapshot: Snapshot,
}

/// The state without the hits of `grant`. `None` if there are none left to give back.
pub fn undo(
    limit: &Limit,
    span: Span,
    state: &State,
    grant: Grant,
    now: Timestamp,
) -> Option<State> {
    let undone = without(limit, span, state, grant, now)?;
    // Time has passed since the state was written, which changes it, too.
    let unchanged = without(limit, span, state, Grant { hits: 0, ..grant }, now);
    if unchanged.as_ref() == Some(&undone) { None } else { Some(undone) }
}

fn without(
    limit: &Limit,
    span: Span,
    state: &State,
    Grant { hits, snapshot }: Grant,
    now: Timestamp,
) -> Option<State> {
    match (state, snapshot) {
        (State::Count(state), Snapshot::Count(granted)) => {
            let state = fixed_window::roll(Some(*state), limit, span);
            Some(State::Count(fixed_window::undo(state, hits, granted)))
        }
        (State::Window(state), Snapshot::Window(granted)) => {
            Some(State::Window(sliding_window::undo(*state, span, hits, granted)))
        }
        (State::Bucket(state), Snapshot::Bucket(granted)) => {
            let scale = bucket::Scale::new(limit);
            Some(State::Bucket(bucket::undo(*state, &scale, hits, granted, now)))
        }
        (State::Permits(state), Snapshot::Permits(granted)) => {
            Some(State::Permits(permits::undo(state, limit, hits, granted, now)))
        }
        (State::Count(_) | State::Window(_) | State::Bucket(_) | State::Permits(_), _) => None,
    }
}

/// The end of the ban that began at `since`, as a clock at `now` sees it; the epoch if
/// there is no ban. A clock that is behind sees the ban begin now.
pub fn ban_end(limit: &Limit, since: Timestamp, now: Timestamp) -> Timestamp {
    if since == Timestamp::default() || limit.penalty.is_zero() {
        return Timestamp::default();
    }
    since.min(now).plus(limit.penalty)
}

/// The reply of a store to one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// False if the algorithm refuses the hits.
    pub passes: bool,
    /// The end of the ban that the counter had before the charge; in the past if it had
    /// none. Nothing is charged to a counter during a ban.
    pub banned_until: Timestamp,
    /// The counter after the charge.
    pub snapshot: Snapshot,
}

/// The outcome of a charge of `hits` that got the reply `result`.
pub fn outcome(
    limit: &Limit,
    span: Span,
    hits: Hits,
    result: StepResult,
    now: Timestamp,
) -> Outcome {
    let StepResult { passes, banned_until, snapshot } = result;
    let decided = DecidedHits { hits, passed: passes };
    let mut outcome = match snapshot {
        Snapshot::Count(state) => fixed_window::outcome(limit, span, state, decided, now),
        Snapshot::Window(state) => sliding_window::outcome(limit, span, state, decided, now),
        Snapshot::Bucket(state) => bucket::outcome(limit, state, decided, now),
        Snapshot::Permits(summary) => permits::outcome(limit, summary, decided, now),
    };
    let refund = matches!(hits, Hits::Refund(_));
    if refund {
        // A refund always passes, even where a charge of 0 hits does not.
        outcome.retry_after = Some(Duration::ZERO);
    }
    let ban = if now < banned_until {
        // A server may have sent a reply that is wrong.
        banned_until.since(now).min(limit.penalty)
    } else if !passes && hits.requested() > 0 {
        limit.penalty
    } else {
        Duration::ZERO
    };
    if ban.is_zero() {
        return outcome;
    }
    outcome.remaining = 0;
    outcome.reset_after = outcome.reset_after.max(ban);
    outcome.banned = ban;
    if !refund {
        outcome.over = true;
        outcome.counted = outcome.counted && banned_until <= now;
        outcome.retry_after = outcome.retry_after.map(|wait| wait.max(ban));
    }
    outcome
}

/// A clock may step back this far without a store deleting a state too early.
pub const MAX_STEP_BACK: Duration = Duration::from_secs(1);

/// The time after which a state with this snapshot can be deleted.
///
/// However far ahead the clock was that wrote the state, this is at most
/// [`MAX_STEP_BACK`] longer than [`max_ttl`].
pub fn ttl(limit: &Limit, span: Span, snapshot: Snapshot, now: Timestamp) -> Duration {
    let (ttl, written) = match snapshot {
        Snapshot::Count(state) => (fixed_window::ttl(state, limit, span, now), state.start),
        Snapshot::Window(state) => (sliding_window::ttl(state, span, now), state.start),
        Snapshot::Bucket(state) => (bucket::ttl(state, &bucket::Scale::new(limit), now), state.at),
        Snapshot::Permits(summary) => {
            let epoch = Timestamp::default();
            let last_granted = summary.last.since(epoch).saturating_sub(permits::lifetime(limit));
            (permits::ttl(summary, limit, now), epoch.plus(last_granted))
        }
    };
    let ahead = written.since(now).min(MAX_STEP_BACK);
    (ttl + ahead).min(Duration::from_secs(Window::MAX_SECONDS))
}

/// The longest time for which any state of `limit`, or any ban, has an effect.
pub fn max_ttl(limit: &Limit, span: Span) -> Duration {
    let window = span.end.since(span.start);
    let ttl = match limit.algorithm {
        Algorithm::FixedWindow { .. } => window,
        Algorithm::SlidingWindow => 2 * window,
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let scale = bucket::Scale::new(limit);
            let ticks = scale.ticks_to_drain(scale.capacity).saturating_add(1);
            Duration::from_micros(ticks.saturating_mul(scale.tick))
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => permits::lifetime(limit),
    };
    ttl.min(Duration::from_secs(Window::MAX_SECONDS)).max(limit.penalty)
}

/// Arguments of a script.
pub type Numbers = SmallVec<[u64; 6]>;

/// The arguments of the algorithm's Lua function for a charge on `limit`.
pub fn arguments(limit: &Limit, span: Span, now: Timestamp) -> Numbers {
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            Numbers::from_slice(&fixed_window::arguments(limit, count_denied, span, now))
        }
        Algorithm::SlidingWindow => Numbers::from_slice(&sliding_window::arguments(limit, span)),
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            Numbers::from_slice(&bucket::arguments(limit, now))
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            Numbers::from_slice(&permits::arguments(limit))
        }
    }
}

/// Decodes the snapshot that a script returned. `None` if `numbers` do not fit the limit's
/// algorithm.
pub fn parse_snapshot(limit: &Limit, numbers: &[u64]) -> Option<Snapshot> {
    let moment = Timestamp::from_micros;
    Some(match (limit.algorithm, numbers) {
        (Algorithm::FixedWindow { .. }, &[start, count]) => {
            Snapshot::Count(fixed_window::State { start: moment(start), count })
        }
        (Algorithm::SlidingWindow, &[start, before, current]) => {
            Snapshot::Window(sliding_window::State { start: moment(start), before, current })
        }
        (Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. }, &[at, level]) => {
            let bucket::Scale { cost, capacity, .. } = bucket::Scale::new(limit);
            Snapshot::Bucket(bucket::State { at: moment(at), level: level.min(capacity), cost })
        }
        (Algorithm::SlidingLog | Algorithm::Concurrency { .. }, &[held, free, last]) => {
            Snapshot::Permits(permits::Summary { held, free: moment(free), last: moment(last) })
        }
        (
            Algorithm::FixedWindow { .. }
            | Algorithm::SlidingWindow
            | Algorithm::TokenBucket { .. }
            | Algorithm::LeakyBucket { .. }
            | Algorithm::SlidingLog
            | Algorithm::Concurrency { .. },
            _,
        ) => return None,
    })
}

/// Encodes a snapshot for a script, padded with 0. [`parse_snapshot`] decodes it without
/// the padding.
pub fn snapshot_numbers(snapshot: Snapshot) -> [u64; 3] {
    match snapshot {
        Snapshot::Count(state) => [state.start.as_micros(), state.count, 0],
        Snapshot::Window(state) => [state.start.as_micros(), state.before, state.current],
        Snapshot::Bucket(state) => [state.at.as_micros(), state.level, 0],
        Snapshot::Permits(summary) => {
            [summary.held, summary.free.as_micros(), summary.last.as_micros()]
        }
    }
}

/// The Lua source of all algorithms: functions `algorithm(name)`, `reader(name)` and
/// `undo(name)`, where `name` is [`AlgorithmInfo::lua`](super::AlgorithmInfo::lua).
///
/// An algorithm's functions are defined on first use, because defining all of them takes
/// as long as a charge.
pub fn lua() -> String {
    let algorithms = [
        ("fixed_window", fixed_window::LUA, ""),
        ("sliding_window", sliding_window::LUA, ""),
        ("bucket", bucket::LUA, ""),
        ("permits", permits::LUA, ", stored_permits"),
    ];
    let mut source = "local DEFINE = {}\n\n".to_owned();
    for (name, functions, reader) in algorithms {
        source += &format!("DEFINE.{name} = function()\n{functions}");
        source += &format!("return {{ {name}, undo_{name}{reader} }}\nend\n\n");
    }
    source + include_str!("algorithms.lua")
}
