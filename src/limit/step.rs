//! One charge to one counter, whatever the algorithm: what becomes of the
//! state, and what that means. Every store goes through here, or through a
//! script that says the same.

use std::time::Duration;

use crate::{
    limit::{
        Algorithm, Hits, Limit, Outcome, SKEW, Span, Window, bucket, fixed_window, leases,
        sliding_window,
    },
    time::Timestamp,
};

/// What is kept of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a fixed window.
    Count(u64),
    /// Of a sliding window.
    Window(sliding_window::State),
    /// Of a token bucket, or a leaky one.
    Bucket(bucket::State),
    /// Of a sliding log, or of calls in flight.
    Leases(leases::State),
}

/// What a store tells of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Of a fixed window.
    Count(u64),
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
    pub before: Told,
    /// What to tell if it is.
    pub after: Told,
    /// The state to keep if it is; none if nothing changes.
    pub state: Option<State>,
}

/// Works out one charge. A state of another algorithm counts for nothing.
pub fn step(limit: &Limit, span: Span, state: Option<State>, hits: Hits, now: Timestamp) -> Step {
    let hits = hits.capped();
    match limit.algorithm {
        Algorithm::FixedWindow { count_denied } => {
            let before = if let Some(State::Count(it)) = state { it } else { 0 };
            let (after, passes) = fixed_window::step(before, hits, limit.requests, count_denied);
            let state = (after != before).then_some(State::Count(after));
            Step { passes, before: Told::Count(before), after: Told::Count(after), state }
        }
        Algorithm::SlidingWindow => {
            let state = if let Some(State::Window(it)) = state { Some(it) } else { None };
            let (before, _) = sliding_window::step(state, limit, span, Hits::Add(0), now);
            let (after, passes) = sliding_window::step(state, limit, span, hits, now);
            let state = (after != before).then_some(State::Window(after));
            Step { passes, before: Told::Window(before), after: Told::Window(after), state }
        }
        Algorithm::TokenBucket { .. } | Algorithm::LeakyBucket { .. } => {
            let state = if let Some(State::Bucket(it)) = state { Some(it) } else { None };
            let scale = bucket::Scale::of(limit);
            let (before, _) = bucket::step(state, &scale, Hits::Add(0), now);
            let (after, passes) = bucket::step(state, &scale, hits, now);
            let state = (after != before).then_some(State::Bucket(after));
            Step { passes, before: Told::Bucket(before), after: Told::Bucket(after), state }
        }
        Algorithm::SlidingLog | Algorithm::Concurrency { .. } => {
            let state =
                if let Some(State::Leases(it)) = state { it } else { leases::State::default() };
            let (_, before, _) = leases::step(state.clone(), limit, Hits::Add(0), now);
            let (after, told, passes) = leases::step(state.clone(), limit, hits, now);
            // What would free a slot for hits that are refused is told whether or not
            // the charge is made.
            let free = if passes { Timestamp::default() } else { told.free };
            let before = leases::Summary { free, ..before };
            let idle = matches!(hits, Hits::Add(0) | Hits::Refund(0));
            let changed = passes && !idle && after != state;
            let state = changed.then_some(State::Leases(after));
            Step { passes, before: Told::Leases(before), after: Told::Leases(told), state }
        }
    }
}

/// When a ban that is kept ends; a moment that is not in the future, if it has
/// ended or makes no sense.
pub fn ban(limit: &Limit, kept: Timestamp, now: Timestamp) -> Timestamp {
    if now.plus(limit.penalty).plus(SKEW) < kept { now } else { kept }
}

/// What a store did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the algorithm lets the hits pass.
    pub passes: bool,
    /// Until when the counter was banned before the charge; in the past if it
    /// was not. Nothing is charged to a counter that is banned.
    pub banned: Timestamp,
    /// The state after what was charged.
    pub told: Told,
}

/// What it means.
pub fn describe(limit: &Limit, span: Span, hits: Hits, answer: Answer, now: Timestamp) -> Outcome {
    let Answer { passes, banned, told } = answer;
    let outcome = match told {
        Told::Count(it) => fixed_window::describe(limit, span, hits, (it, passes), now),
        Told::Window(it) => sliding_window::describe(limit, span, hits, (it, passes), now),
        Told::Bucket(it) => {
            bucket::describe(limit, &bucket::Scale::of(limit), hits, (it, passes), now)
        }
        Told::Leases(it) => leases::describe(limit, hits, (it, passes), now),
    };
    let refund = matches!(hits, Hits::Refund(_));
    let outcome = match refund {
        // It is never refused, whatever a look would be told.
        true => Outcome { retry_after: Some(Duration::ZERO), ..outcome },
        false => outcome,
    };
    let wait = if now < banned {
        banned.since(now)
    } else if !passes && hits.asked() > 0 {
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

/// When a state that is told may be forgotten: from then on it means nothing.
pub fn forget(limit: &Limit, span: Span, told: Told, now: Timestamp) -> Timestamp {
    let reset = || {
        let look = Answer { passes: true, banned: now, told };
        let outcome = describe(limit, span, Hits::Add(0), look, now);
        now.plus(outcome.reset_after.min(Duration::from_secs(Window::LONGEST)))
    };
    match told {
        Told::Count(_) => span.end,
        // An empty bucket whose moment lies ahead drains nothing until then.
        Told::Bucket(state) => reset().max(bucket::Scale::of(limit).moment(state.tick)),
        Told::Window(_) | Told::Leases(_) => reset(),
    }
}
