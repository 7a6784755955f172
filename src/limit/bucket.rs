//! A bucket that drains at a steady rate. Each hit pours in its share; what
//! would make the bucket overflow is refused, and pours in nothing.
//!
//! Seen from the other end it is a bucket of tokens that fills at the same
//! rate, and each hit takes one: `token_bucket` and `leaky_bucket` admit exactly
//! the same requests. At most `burst` hits pass at once, and at most
//! `burst + rate × t` in any time *t*, exactly.
//!
//! The state is the level of the bucket at some moment. Everything is a whole
//! number of units that [`Scale`] chooses so that nothing has to be rounded: one
//! hit is `cost` units, and `drain` units leave per tick. Nothing that is added
//! up exceeds 2⁵³, so that Lua computes the same.
//!
//! Where a tick is one microsecond, which is nearly everywhere, this is the
//! continuous bucket, exactly. Where it is longer, a hit may have to wait up to
//! three ticks longer than there, and never less long. A rule that changes so
//! that its tick does starts with an empty bucket.

use std::time::Duration;

use crate::{
    limit::{Hits, Limit, Outcome, SKEW, micros},
    time::Timestamp,
};

/// How much was in the bucket, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// In ticks since the epoch.
    pub tick: u64,
    /// In units.
    pub level: u64,
    /// What a hit cost then, in units. It differs after the rule was changed.
    pub cost: u64,
}

/// The units of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The length of a tick in microseconds: how finely time is told.
    pub tick: u64,
    /// What one hit pours in.
    pub cost: u64,
    /// What leaves per tick.
    pub drain: u64,
    /// What the bucket holds.
    pub capacity: u64,
}

impl Scale {
    /// The finest scale in which every sum stays below 2⁵³. A tick is one
    /// microsecond if that allows it, and never longer than a millionth of the
    /// window.
    pub fn of(limit: &Limit) -> Self {
        let (requests, burst) = (u64::from(limit.requests), u64::from(limit.capacity()));
        let longest = limit.window.seconds();
        let window = longest * 1_000_000;
        let scale = |tick| {
            let per_window = window / tick;
            let common = gcd(per_window, requests);
            let (cost, drain) = (per_window / common, requests / common);
            Self { tick, cost, drain, capacity: burst.saturating_mul(cost) }
        };
        // What is in the bucket, what is poured in and what drains, all at once.
        let fits = |it: &Self| it.capacity < (Hits::MAX - it.drain) / 2;
        // With the longest tick a hit costs a million at most, and that fits.
        [1, 10, 100, 1_000, 10_000, 100_000]
            .into_iter()
            .take_while(|tick| *tick < longest)
            .map(scale)
            .find(fits)
            .unwrap_or_else(|| scale(longest))
    }

    /// The tick that contains `now`.
    pub const fn ticks(&self, now: Timestamp) -> u64 {
        now.as_micros() / self.tick
    }

    /// The first tick that begins at `now` or later.
    pub const fn next(&self, now: Timestamp) -> u64 {
        now.as_micros().div_ceil(self.tick)
    }

    /// When a tick begins.
    pub const fn moment(&self, tick: u64) -> Timestamp {
        Timestamp::from_micros(tick.saturating_mul(self.tick))
    }

    /// How many ticks it takes to drain `units`; for ever if nothing drains.
    pub const fn time(&self, units: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        match units.checked_add(self.drain.saturating_sub(1)) {
            Some(it) if self.drain > 0 => it / self.drain,
            _ => u64::MAX,
        }
    }

    /// How many ticks the state may lie ahead of a clock that is behind: one
    /// more for the tick that its clock had not reached either, and one for that
    /// in which the other clock is.
    pub fn skew(&self) -> u64 {
        let skew = u64::try_from(SKEW.as_micros()).unwrap_or(u64::MAX);
        skew / self.tick + 2
    }

    /// What `hits` pour in: what no bucket holds, if that is too much to count.
    pub fn pour(&self, hits: u64) -> u64 {
        hits.checked_mul(self.cost).filter(|it| *it <= self.capacity).unwrap_or(self.capacity + 1)
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The state after `hits` at `now`, and whether they pass.
pub fn step(state: Option<State>, scale: &Scale, hits: Hits, now: Timestamp) -> (State, bool) {
    let state = drain(state, scale, scale.ticks(now));
    match hits {
        Hits::Add(0) => (state, true),
        Hits::Add(hits) => {
            let level = state.level + scale.pour(hits);
            if scale.capacity < level {
                return (state, false);
            }
            // Within a tick that drains all there was, what is poured in must
            // not drain as if it had been there when the tick began.
            let late = state.level < scale.drain;
            let tick = if late { state.tick.max(scale.next(now)) } else { state.tick };
            (State { tick, level, ..state }, true)
        }
        Hits::Refund(hits) => {
            (State { level: state.level.saturating_sub(scale.pour(hits)), ..state }, true)
        }
    }
}

/// The state at tick `now`, before anything is poured in.
fn drain(state: Option<State>, scale: &Scale, now: u64) -> State {
    let empty = State { tick: now, level: 0, cost: scale.cost };
    let Some(State { tick, mut level, cost }) = state else { return empty };
    if cost != scale.cost {
        // The rule has changed: as many hits as were in the bucket are in it.
        let hits = level.div_ceil(cost.max(1));
        level = scale.pour(hits);
    }
    level = level.min(scale.capacity);
    if now < tick {
        // Another instance is ahead, or this clock has stepped back: nothing
        // drains twice. Further ahead than that, and the state makes no sense.
        let sensible = tick - now <= scale.skew();
        return if sensible { State { tick, level, ..empty } } else { empty };
    }
    let passed = now - tick;
    if scale.time(level) <= passed {
        return empty;
    }
    State { level: level - passed * scale.drain, ..empty }
}

/// What it means that the bucket is in `state`, and that `hits` passed or did
/// not.
pub fn describe(
    limit: &Limit,
    scale: &Scale,
    hits: Hits,
    (state, passed): (State, bool),
    now: Timestamp,
) -> Outcome {
    let State { tick, level, .. } = state;
    let level = level.min(scale.capacity);
    // The moment a tick begins is the first at which what drains then is gone.
    let until = |units: u64| -> Option<Duration> {
        let ticks = scale.time(units);
        let moment = u128::from(tick.saturating_add(ticks)) * u128::from(scale.tick);
        let wait = moment.saturating_sub(u128::from(now.as_micros()));
        (ticks < u64::MAX).then(|| if units == 0 { Duration::ZERO } else { micros(wait) })
    };
    let excess = (level + scale.pour(hits.asked())).saturating_sub(scale.capacity);
    let fits = hits.asked() <= u64::from(limit.capacity());
    Outcome {
        over: !passed,
        counted: false,
        used: level.div_ceil(scale.cost.max(1)),
        remaining: u32::try_from((scale.capacity - level) / scale.cost.max(1)).unwrap_or(u32::MAX),
        reset_after: until(level).unwrap_or(Duration::MAX),
        retry_after: if fits { until(excess) } else { None },
        banned: Duration::ZERO,
        cached: false,
    }
}
