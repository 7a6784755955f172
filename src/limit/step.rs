//! One charge to one counter, whatever the algorithm: what becomes of the
//! state, and what that means. Every store goes through here, or through a
//! script that says the same.
//!
//! This is the table of what each algorithm's module does, and the only one.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    Algorithm, Hits, Limit, Outcome, Span, Window, bucket, fixed_window, leases, sliding_window,
};
use crate::time::Timestamp;

/// What is kept of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a fixed window.
    Count(fixed_window::State),
    /// Of a sliding window.
    Window(sliding_window::State),
    /// Of a token bucket, or a leaky one.
    Bucket(bucket::State),
    /// Of a sliding log, or of calls in flight.
    Leases(leases::State),
}

/// What a store tells of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Of a fixed window.
    Count(fixed_window::State),
    /// Of a sliding window.
    Window(sliding_window::State),
    /// Of a token bucket, or a leaky one.
    Bucket(bucket::State),
    /// Of a sliding log, or of calls in flight.
    Leases(leases::Summary),
}

/// One charge, worked out.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whether the algorithm lets the hits pass.
    pub passes: bool,
    /// What to tell if the charge is not made after all.
    pub before: Snapshot,
    /// What to tell if it is.
    pub after: Snapshot,
    /// The state to keep if it is; none if nothing changes.
    pub state: Option<State>,
}

/// How a charge is worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCheck {
    /// Hits pass if the limit has room for them.
    Enforce,
    /// Hits pass in any case: it has been decided before that they do.
    Skip,
}

/// Works out one charge. A state of another algorithm counts for nothing.
pub fn step(limit: &Limit, span: Span, state: Option<State>, hits: Hits, now: Timestamp) -> Step {
    step_with(limit, span, state, (hits, LimitCheck::Enforce), now)
}

/// The same, with or without the limit.
pub fn step_with(
    limit: &Limit,
    span: Span,
    state: Option<State>,
    (hits, check): (Hits, LimitCheck),
    now: Timestamp,
) -> Step {
    let (hits, forced) = (hits.capped(), check == LimitCheck::Skip);
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            let state = if let Some(State::Count(it)) = state { Some(it) } else { None };
            let before = fixed_window::turn(state, limit, span);
            let requests = if forced { u32::MAX } else { limit.requests };
            let (count, passes) =
                fixed_window::step(before.count, hits, requests, count_denied || forced);
            let after = fixed_window::State { count, ..before };
            let state = (after != before).then_some(State::Count(after));
            let passes = passes || forced;
            Step { passes, before: Snapshot::Count(before), after: Snapshot::Count(after), state }
        }
        Algorithm::SlidingWindow => {
            let state = if let Some(State::Window(it)) = state { Some(it) } else { None };
            let checked = (!forced).then_some(limit);
            let (before, _) = sliding_window::step(state, checked, span, Hits::Add(0), now);
            let (after, passes) = sliding_window::step(state, checked, span, hits, now);
            let state = (after != before).then_some(State::Window(after));
            Step { passes, before: Snapshot::Window(before), after: Snapshot::Window(after), state }
        }
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let state = if let Some(State::Bucket(it)) = state { Some(it) } else { None };
            let scale = bucket::Scale::new(limit);
            let (before, _) = bucket::step(state, &scale, Hits::Add(0), now, forced);
            let (after, passes) = bucket::step(state, &scale, hits, now, forced);
            let state = (after.level != before.level).then_some(State::Bucket(after));
            Step { passes, before: Snapshot::Bucket(before), after: Snapshot::Bucket(after), state }
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            let state =
                if let Some(State::Leases(it)) = state { it } else { leases::State::default() };
            let (state, [before, after], passes) = leases::step(&state, limit, hits, now, forced);
            let state = state.map(State::Leases);
            Step { passes, before: Snapshot::Leases(before), after: Snapshot::Leases(after), state }
        }
    }
}

/// The state without `hits` that had passed when it was as `told`; none if there are
/// none to give back.
pub fn undo(
    limit: &Limit,
    span: Span,
    state: State,
    (hits, told): (u64, Snapshot),
    now: Timestamp,
) -> Option<State> {
    let without = |hits| match (&state, told) {
        (State::Count(it), Snapshot::Count(told)) => {
            let it = fixed_window::turn(Some(*it), limit, span);
            Some(State::Count(fixed_window::undo(it, hits, told)))
        }
        (State::Window(it), Snapshot::Window(told)) => {
            Some(State::Window(sliding_window::undo(*it, span, hits, told)))
        }
        (State::Bucket(it), Snapshot::Bucket(told)) => {
            Some(State::Bucket(bucket::undo(*it, &bucket::Scale::new(limit), hits, told, now)))
        }
        (State::Leases(it), Snapshot::Leases(told)) => {
            Some(State::Leases(leases::undo(it, limit, hits, told, now)))
        }
        (State::Count(_) | State::Window(_) | State::Bucket(_) | State::Leases(_), _) => None,
    };
    // That time has passed changes nothing.
    without(hits).filter(|it| without(0).as_ref() != Some(it))
}

/// When the ban that began at `since` ends, as seen at `now`; the epoch if there is
/// none. A clock that is behind sees it begin now.
pub fn ban_end(limit: &Limit, since: Timestamp, now: Timestamp) -> Timestamp {
    if since == Timestamp::default() || limit.penalty.is_zero() {
        return Timestamp::default();
    }
    since.min(now).plus(limit.penalty)
}

/// What a store did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// Whether the algorithm lets the hits pass.
    pub passes: bool,
    /// Until when the counter was banned before the charge; in the past if it
    /// was not. Nothing is charged to a counter that is banned.
    pub banned_until: Timestamp,
    /// The state after what was charged.
    pub snapshot: Snapshot,
}

/// What it means.
pub fn outcome(
    limit: &Limit,
    span: Span,
    hits: Hits,
    answer: StepResult,
    now: Timestamp,
) -> Outcome {
    let StepResult { passes, banned_until: banned, snapshot: told } = answer;
    let outcome = match told {
        Snapshot::Count(it) => fixed_window::outcome(limit, span, hits, (it, passes), now),
        Snapshot::Window(it) => sliding_window::outcome(limit, span, hits, (it, passes), now),
        Snapshot::Bucket(it) => {
            bucket::outcome(limit, &bucket::Scale::new(limit), hits, (it, passes), now)
        }
        Snapshot::Leases(it) => leases::outcome(limit, hits, (it, passes), now),
    };
    let refund = matches!(hits, Hits::Refund(_));
    let outcome = match refund {
        // It is never refused, whatever a look would be told.
        true => Outcome { retry_after: Some(Duration::ZERO), ..outcome },
        false => outcome,
    };
    let wait = if now < banned {
        banned.since(now)
    } else if !passes && hits.requested() > 0 {
        limit.penalty
    } else {
        Duration::ZERO
    };
    if wait.is_zero() {
        return outcome;
    }
    let outcome = Outcome {
        remaining: 0,
        reset_after: outcome.reset_after.max(wait),
        banned: wait,
        ..outcome
    };
    if refund {
        return outcome;
    }
    Outcome {
        over: true,
        counted: outcome.counted && banned <= now,
        retry_after: outcome.retry_after.map(|it| it.max(wait)),
        ..outcome
    }
}

/// How far a clock may step back without a state being forgotten too early.
pub const MAX_STEP_BACK: Duration = Duration::from_secs(1);

/// How long a state of which this is told means something from now on. However far
/// ahead the clock was that wrote it, that is hardly longer than a [whole](max_ttl) life.
pub fn ttl(limit: &Limit, span: Span, told: Snapshot, now: Timestamp) -> Duration {
    let (life, latest) = match told {
        Snapshot::Count(it) => (fixed_window::ttl(it, limit, span, now), it.start),
        Snapshot::Window(it) => (sliding_window::ttl(it, span, now), it.start),
        Snapshot::Bucket(it) => (bucket::ttl(it, &bucket::Scale::new(limit), now), it.at),
        Snapshot::Leases(it) => {
            let life = leases::ttl(it, limit, now);
            let latest = it.last.since(Timestamp::default()).saturating_sub(leases::lease(limit));
            (life, Timestamp::default().plus(latest))
        }
    };
    (life + latest.since(now).min(MAX_STEP_BACK)).min(Duration::from_secs(Window::MAX_SECONDS))
}

/// The longest that any state, or any ban, can mean something.
pub fn max_ttl(limit: &Limit, span: Span) -> Duration {
    let window = span.end.since(span.start);
    let life = match limit.algorithm {
        Algorithm::FixedWindow { .. } => window,
        Algorithm::SlidingWindow => 2 * window,
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let scale = bucket::Scale::new(limit);
            let ticks = scale.time(scale.capacity).saturating_add(1);
            Duration::from_micros(ticks.saturating_mul(scale.tick))
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => leases::lease(limit),
    };
    life.min(Duration::from_secs(Window::MAX_SECONDS)).max(limit.penalty)
}

/// The numbers that a script is told of a charge.
pub type Numbers = SmallVec<[u64; 6]>;

/// What the script needs to know to charge `limit`.
pub fn arguments(limit: &Limit, span: Span, now: Timestamp) -> Numbers {
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            fixed_window::arguments(limit, count_denied, span, now).into_iter().collect()
        }
        Algorithm::SlidingWindow => sliding_window::arguments(limit, span).into_iter().collect(),
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            bucket::arguments(limit, now).into_iter().collect()
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            leases::arguments(limit).into_iter().collect()
        }
    }
}

/// What the numbers tell that a script has answered; none if they are not those of
/// the limit's algorithm.
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
            Snapshot::Leases(leases::Summary { held, free: moment(free), last: moment(last) })
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

/// The numbers that [`parse_snapshot`] understands.
pub fn snapshot_numbers(told: Snapshot) -> [u64; 3] {
    match told {
        Snapshot::Count(it) => [it.start.as_micros(), it.count, 0],
        Snapshot::Window(it) => [it.start.as_micros(), it.before, it.current],
        Snapshot::Bucket(it) => [it.at.as_micros(), it.level, 0],
        Snapshot::Leases(it) => [it.held, it.free.as_micros(), it.last.as_micros()],
    }
}

/// The functions of every algorithm for a script: `algorithm(name)`, `reader(name)` and
/// `undo(name)`, by the
/// names that their [facts](super::AlgorithmInfo::lua) tell. To define all of them takes as long as
/// to make a charge, so those of an algorithm are defined once it is needed.
pub fn lua() -> String {
    let rooms = [
        ("fixed_window", fixed_window::LUA, ""),
        ("sliding_window", sliding_window::LUA, ""),
        ("bucket", bucket::LUA, ""),
        ("leases", leases::LUA, ", stored_leases"),
    ];
    let mut source = "local DEFINE = {}\n\n".to_owned();
    for (name, functions, reader) in rooms {
        source += &format!("DEFINE.{name} = function()\n{functions}");
        source += &format!("return {{ {name}, undo_{name}{reader} }}\nend\n\n");
    }
    source + include_str!("algorithms.lua")
}
