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
//! three ticks longer than there, and never less long.
//!
//! The moment of a state never goes back, however far a clock is behind: what has
//! drained by the clock that is ahead does not drain again.

use std::time::Duration;

use super::{AlgorithmInfo, Denial, Hits, Limit, Outcome, micros};
use crate::time::Timestamp;

/// What the other modules may know.
pub(super) const TOKEN_BUCKET: AlgorithmInfo = AlgorithmInfo {
    name: "token_bucket",
    lua: "bucket",
    window: true,
    calendar: false,
    count_denied: false,
    phase: false,
    burst: true,
    lease: false,
    keeps_each_hit: false,
    window_in_key: false,
    denial: Denial::UntilOneFits,
};

/// The same bucket, seen from its other end.
pub(super) const LEAKY_BUCKET: AlgorithmInfo =
    AlgorithmInfo { name: "leaky_bucket", ..TOKEN_BUCKET };

/// The twin of [`step`] and [`undo`].
pub(super) const LUA: &str = include_str!("bucket.lua");

/// How much was in the bucket, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The moment; where a tick begins, by the rule that was in force.
    pub at: Timestamp,
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
    pub fn new(limit: &Limit) -> Self {
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

    /// When a tick begins; at the latest, the last moment that Lua counts exactly.
    pub fn moment(&self, tick: u64) -> Timestamp {
        Timestamp::from_micros(tick.saturating_mul(self.tick).min(Hits::MAX))
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

    /// What `hits` pour in: what no bucket holds, if that is too much to count.
    pub fn pour(&self, hits: u64) -> u64 {
        hits.checked_mul(self.cost).filter(|it| *it <= self.capacity).unwrap_or(self.capacity + 1)
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The state after `hits` at `now`, and whether they pass. They do in any case if
/// `forced`; then the bucket is full at most.
pub fn step(
    state: Option<State>,
    scale: &Scale,
    hits: Hits,
    now: Timestamp,
    forced: bool,
) -> (State, bool) {
    let (tick, level) = drain(state, scale, now);
    let state = |tick, level| State { at: scale.moment(tick), level, cost: scale.cost };
    match hits {
        Hits::Add(0) => (state(tick, level), true),
        Hits::Add(hits) => {
            let after = level + scale.pour(hits);
            if scale.capacity < after && !forced {
                return (state(tick, level), false);
            }
            // Within a tick that drains all there was, what is poured in must
            // not drain as if it had been there when the tick began.
            let late = level < scale.drain;
            let tick = if late { tick.max(scale.next(now)) } else { tick };
            (state(tick, after.min(scale.capacity)), true)
        }
        Hits::Refund(hits) => (state(tick, level.saturating_sub(scale.pour(hits))), true),
    }
}

/// The present tick, or the later one of a clock that is ahead, and the level then,
/// before anything is poured in.
fn drain(state: Option<State>, scale: &Scale, now: Timestamp) -> (u64, u64) {
    let now = scale.ticks(now);
    let Some(State { at, mut level, cost }) = state else { return (now, 0) };
    if cost != scale.cost {
        // The rule has changed: as many hits as were in the bucket are in it.
        level = scale.pour(level.div_ceil(cost.max(1)));
    }
    level = level.min(scale.capacity);
    let tick = scale.next(at);
    let passed = now.saturating_sub(tick);
    if scale.time(level) <= passed {
        return (now.max(tick), 0);
    }
    (now.max(tick), level - passed * scale.drain)
}

/// The state without `hits` that were poured in when it was as `told`. What has
/// drained in their place stays drained: without them the bucket would have been
/// empty meanwhile.
pub(super) fn undo(state: State, scale: &Scale, hits: u64, told: State, now: Timestamp) -> State {
    let (tick, level) = drain(Some(state), scale, now);
    let poured = scale.pour(hits).min(scale.capacity);
    let before = told.level.saturating_sub(poured);
    let drained = tick.saturating_sub(scale.next(told.at)).saturating_mul(scale.drain);
    let given = poured.saturating_sub(drained.saturating_sub(before));
    State { at: scale.moment(tick), level: level.saturating_sub(given), cost: scale.cost }
}

/// What the script is told of a charge.
pub(super) fn arguments(limit: &Limit, now: Timestamp) -> [u64; 6] {
    let scale = Scale::new(limit);
    let Scale { tick, cost, drain, capacity } = scale;
    [scale.ticks(now), scale.next(now), tick, cost, drain, capacity]
}

/// How long the state means something from now on.
pub(super) fn ttl(state: State, scale: &Scale, now: Timestamp) -> Duration {
    let ahead = scale.next(state.at) == scale.ticks(now).saturating_add(1);
    let ticks = scale.time(state.level).saturating_add(ahead.into());
    Duration::from_micros(ticks.saturating_mul(scale.tick))
}

/// What it means that the bucket is in `state`, and that `hits` passed or did
/// not.
pub fn outcome(
    limit: &Limit,
    scale: &Scale,
    hits: Hits,
    (state, passed): (State, bool),
    now: Timestamp,
) -> Outcome {
    let level = state.level.min(scale.capacity);
    let tick = scale.next(state.at);
    // The moment a tick begins is the first at which what drains then is gone.
    let until = |units: u64| -> Option<Duration> {
        let ticks = scale.time(units);
        let moment = u128::from(tick.saturating_add(ticks)) * u128::from(scale.tick);
        let wait = moment.saturating_sub(u128::from(now.as_micros()));
        (ticks < u64::MAX).then(|| if units == 0 { Duration::ZERO } else { micros(wait) })
    };
    let excess = (level + scale.pour(hits.requested())).saturating_sub(scale.capacity);
    let fits = hits.requested() <= u64::from(limit.capacity());
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
