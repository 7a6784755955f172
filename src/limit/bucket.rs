//! A bucket that drains at a constant rate. Each hit pours in a fixed amount. A hit that
//! would make the bucket overflow is refused and pours in nothing.
//!
//! Counted from its other end, this is a bucket of tokens that fills at the same rate and
//! loses one token per hit: `token_bucket` and `leaky_bucket` admit exactly the same
//! requests. At most `burst` hits pass at once, and at most `burst + rate × t` in any
//! time *t*, exactly.
//!
//! The state is the level of the bucket at some moment. All amounts are whole numbers of
//! units, which [`Scale`] chooses so that nothing is rounded: a hit is `cost` units, and
//! `drain` units leave per tick. No sum exceeds 2⁵³, so Lua computes the same numbers.
//!
//! A tick is one microsecond for nearly all limits; then this is exactly the continuous
//! bucket. With a longer tick, a hit may wait up to three ticks longer than in the
//! continuous bucket, and never less long.
//!
//! The moment in the state never moves back, even if a clock is behind: time that has
//! drained the bucket does not drain it twice.

use std::time::Duration;

use super::{
    algorithm::{AlgorithmInfo, Limit, RefusalEnd},
    hits::{Amount, DecidedHits, Hits, Stepped},
    outcome::{Outcome, micros},
};
use crate::time::Timestamp;

pub(super) const TOKEN_BUCKET: AlgorithmInfo = AlgorithmInfo {
    name: "token_bucket",
    lua: "bucket",
    window: true,
    calendar: false,
    count_denied: false,
    phase: false,
    burst: true,
    releasable: false,
    keeps_each_hit: false,
    window_in_key: false,
    refusal_end: RefusalEnd::OneFits,
};

pub(super) const LEAKY_BUCKET: AlgorithmInfo =
    AlgorithmInfo { name: "leaky_bucket", ..TOKEN_BUCKET };

/// [`step`] and [`undo`] in Lua.
pub(super) const LUA: &str = include_str!("bucket.lua");

/// The level of a bucket at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The moment of the level: the start of a tick, in the scale of the limit that wrote
    /// the state.
    pub at: Timestamp,
    /// The level in units.
    pub level: u64,
    /// The cost of a hit in units when the state was written. A different cost means that
    /// the limit has changed since.
    pub cost: u64,
}

/// The units in which a limit is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The length of a tick in microseconds: the resolution of time.
    pub tick: u64,
    /// The units that one hit pours in.
    pub cost: u64,
    /// The units that leave per tick.
    pub drain: u64,
    /// The units in a full bucket.
    pub capacity: u64,
}

impl Scale {
    /// The finest scale in which every sum stays below 2⁵³. Its tick is one microsecond
    /// if possible, and never longer than a millionth of the window.
    pub fn new(limit: &Limit) -> Self {
        let longest_tick = limit.window.seconds();
        for tick in [1, 10, 100, 1_000, 10_000, 100_000] {
            if longest_tick <= tick {
                break;
            }
            let scale = Self::with_tick(limit, tick);
            // The level, the amount poured in and the amount drained are added up.
            if scale.capacity < (Hits::MAX - scale.drain) / 2 {
                return scale;
            }
        }
        // With the longest tick a hit costs at most a million units, which always fits.
        Self::with_tick(limit, longest_tick)
    }

    fn with_tick(limit: &Limit, tick: u64) -> Self {
        let (requests, burst) = (u64::from(limit.requests), u64::from(limit.capacity()));
        let ticks_per_window = limit.window.seconds() * 1_000_000 / tick;
        let divisor = gcd(ticks_per_window, requests);
        let (cost, drain) = (ticks_per_window / divisor, requests / divisor);
        Self { tick, cost, drain, capacity: burst.saturating_mul(cost) }
    }

    /// The tick that contains `now`, counted from the epoch.
    pub const fn tick_at(&self, now: Timestamp) -> u64 {
        now.as_micros() / self.tick
    }

    /// The first tick that begins at `now` or later.
    pub const fn next_tick(&self, now: Timestamp) -> u64 {
        now.as_micros().div_ceil(self.tick)
    }

    /// The start of a tick, at most the last moment that Lua counts exactly.
    pub fn tick_start(&self, tick: u64) -> Timestamp {
        Timestamp::from_micros(tick.saturating_mul(self.tick).min(Hits::MAX))
    }

    /// The number of ticks in which `units` drain; `u64::MAX` if the bucket never drains.
    pub const fn ticks_to_drain(&self, units: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        match units.checked_add(self.drain.saturating_sub(1)) {
            Some(sum) if self.drain > 0 => sum / self.drain,
            _ => u64::MAX,
        }
    }

    /// The units that `hits` pour in, at most one more than the bucket holds.
    pub fn units(&self, hits: u64) -> u64 {
        match hits.checked_mul(self.cost) {
            Some(units) if units <= self.capacity => units,
            _ => self.capacity + 1,
        }
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Applies `amount` to the state. Hits that pass without a check fill the bucket at most.
pub(super) fn step(
    state: Option<State>,
    scale: &Scale,
    amount: Amount,
    now: Timestamp,
) -> Stepped<State> {
    let Drained { tick, level } = drain(state, scale, now);
    let (mut tick_after, mut level_after, mut passes) = (tick, level, true);
    match amount.hits {
        Hits::Add(0) => {}
        Hits::Add(hits) => {
            let filled = level + scale.units(hits);
            passes = filled <= scale.capacity || amount.is_forced();
            if passes {
                level_after = filled.min(scale.capacity);
                // Within a tick that empties the bucket, the new units must not drain as if
                // they had been poured in before the tick began.
                if level < scale.drain {
                    tick_after = tick.max(scale.next_tick(now));
                }
            }
        }
        Hits::Refund(hits) => level_after = level.saturating_sub(scale.units(hits)),
    }
    let state = State { at: scale.tick_start(tick_after), level: level_after, cost: scale.cost };
    Stepped { state, passes }
}

/// A bucket before a charge.
struct Drained {
    /// The present tick, or the later tick of the state if that was written by a clock
    /// that is ahead.
    tick: u64,
    /// The level in that tick.
    level: u64,
}

fn drain(state: Option<State>, scale: &Scale, now: Timestamp) -> Drained {
    let now = scale.tick_at(now);
    let Some(State { at, mut level, cost }) = state else {
        return Drained { tick: now, level: 0 };
    };
    if cost != scale.cost {
        // The limit has changed: convert the level, so that it stands for as many hits.
        level = scale.units(level.div_ceil(cost.max(1)));
    }
    level = level.min(scale.capacity);
    let written = scale.next_tick(at);
    let passed = now.saturating_sub(written);
    let drained = if scale.ticks_to_drain(level) <= passed { level } else { passed * scale.drain };
    Drained { tick: now.max(written), level: level - drained }
}

/// The state without `hits`, which were poured in when the bucket was in the state
/// `granted`.
///
/// Units that drained in place of other hits stay drained: without `hits`, the bucket
/// would have been empty for some of that time.
pub(super) fn undo(
    state: State,
    scale: &Scale,
    hits: u64,
    granted: State,
    now: Timestamp,
) -> State {
    let Drained { tick, level } = drain(Some(state), scale, now);
    let poured = scale.units(hits).min(scale.capacity);
    let before = granted.level.saturating_sub(poured);
    let passed = tick.saturating_sub(scale.next_tick(granted.at));
    let drained = passed.saturating_mul(scale.drain);
    let refund = poured.saturating_sub(drained.saturating_sub(before));
    State { at: scale.tick_start(tick), level: level.saturating_sub(refund), cost: scale.cost }
}

/// The arguments of the Lua function.
pub(super) fn arguments(limit: &Limit, now: Timestamp) -> [u64; 6] {
    let scale = Scale::new(limit);
    let Scale { tick, cost, drain, capacity } = scale;
    [scale.tick_at(now), scale.next_tick(now), tick, cost, drain, capacity]
}

/// The time after which the bucket is empty and its state can be deleted.
pub(super) fn ttl(state: State, scale: &Scale, now: Timestamp) -> Duration {
    // Units poured in within a tick begin to drain with the next.
    let waits = scale.next_tick(state.at) == scale.tick_at(now).saturating_add(1);
    let ticks = scale.ticks_to_drain(state.level).saturating_add(waits.into());
    Duration::from_micros(ticks.saturating_mul(scale.tick))
}

/// The outcome of a charge that left the bucket in `state`.
pub(super) fn outcome(
    limit: &Limit,
    state: State,
    decided: DecidedHits,
    now: Timestamp,
) -> Outcome {
    let scale = &Scale::new(limit);
    let state = State { level: state.level.min(scale.capacity), ..state };
    let requested = decided.hits.requested();
    let excess = (state.level + scale.units(requested)).saturating_sub(scale.capacity);
    let fits = requested <= u64::from(limit.capacity());
    let cost = scale.cost.max(1);
    let room = (scale.capacity - state.level) / cost;
    Outcome {
        over: !decided.passed,
        counted: false,
        used: state.level.div_ceil(cost),
        remaining: u32::try_from(room).unwrap_or(u32::MAX),
        reset_after: wait(state, scale, state.level, now).unwrap_or(Duration::MAX),
        retry_after: if fits { wait(state, scale, excess, now) } else { None },
        banned: Duration::ZERO,
        cached: false,
    }
}

/// The time until `units` have drained; `None` if the bucket never drains.
fn wait(state: State, scale: &Scale, units: u64, now: Timestamp) -> Option<Duration> {
    let ticks = scale.ticks_to_drain(units);
    if ticks == u64::MAX {
        return None;
    }
    if units == 0 {
        return Some(Duration::ZERO);
    }
    // Units that drain in a tick are gone at its start.
    let tick = scale.next_tick(state.at).saturating_add(ticks);
    let moment = u128::from(tick) * u128::from(scale.tick);
    Some(micros(moment.saturating_sub(u128::from(now.as_micros()))))
}
