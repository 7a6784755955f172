//! Permits: each hit holds a permit until the permit expires or is released. A hit that
//! finds no free permit is refused and takes none.
//!
//! With permits that last as long as the window this is `sliding_log`: never more than
//! `requests` hits in any trailing window, exactly. With permits that callers release it
//! is `concurrency`: never more than `requests` calls in flight; the permit of a caller
//! that crashed is free again when it expires, after the time that rules call `lease`.
//!
//! A refund releases the permit that expires first, because a refund does not name the
//! permit it belongs to. So a permit may be held for longer than needed, but never for
//! less.
//!
//! The state is a list of the moments at which permits were granted. Its length is bounded
//! by the limit, and limits are bounded by [`MAX_REQUESTS`]. Time never moves back within
//! a list: a clock that is behind uses the latest moment in the list, so that permits last
//! equally long for all clocks.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    algorithm::{AlgorithmInfo, Limit, RefusalEnd},
    hits::{Amount, DecidedHits, Hits},
    outcome::Outcome,
};
use crate::time::Timestamp;

pub(super) const SLIDING_LOG: AlgorithmInfo = AlgorithmInfo {
    name: "sliding_log",
    lua: "permits",
    window: true,
    calendar: false,
    count_denied: false,
    phase: false,
    burst: false,
    releasable: false,
    keeps_each_hit: true,
    window_in_key: false,
    refusal_end: RefusalEnd::OneFits,
};

pub(super) const CONCURRENCY: AlgorithmInfo = AlgorithmInfo {
    name: "concurrency",
    window: false,
    releasable: true,
    refusal_end: RefusalEnd::AnyTime,
    ..SLIDING_LOG
};

/// [`step`] and [`undo`] in Lua.
pub(crate) const LUA: &str = include_str!("permits.lua");

/// The largest limit: it bounds the length of the list.
pub const MAX_REQUESTS: u32 = 1_000;

/// The hits that were granted at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The moment.
    pub granted_at: Timestamp,
    /// The hits, each of which holds a permit.
    pub hits: u64,
}

/// The permits in ascending order. The list is shared, because most charges leave it unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub Arc<Vec<Grant>>);

impl State {
    /// The memory that the list takes, in bytes.
    pub(crate) fn allocated(&self) -> usize {
        let Self(permits) = self;
        let reference_counts = 2 * size_of::<usize>();
        let elements = permits.capacity() * size_of::<Grant>();
        reference_counts + size_of_val(&**permits) + elements
    }
}

/// The part of a state that its outcome depends on. Stores return it in place of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hits that hold a permit.
    pub held: u64,
    /// The moment at which the same hits pass, or pass again; the epoch if they pass at
    /// once or never.
    pub free: Timestamp,
    /// The moment at which the last permit expires; the epoch if the list is empty.
    pub last: Timestamp,
}

/// The time after which a permit of `limit` expires.
pub fn lifetime(limit: &Limit) -> Duration {
    limit.algorithm.lifetime().unwrap_or(Duration::from_secs(limit.window.seconds()))
}

/// The permits that have not expired.
struct Active<'a> {
    /// In ascending order, each with at least one hit.
    permits: Cow<'a, [Grant]>,
    /// The present moment, or the latest moment in the list if a clock is ahead.
    latest: Timestamp,
}

impl<'a> Active<'a> {
    fn new(state: &'a State, lifetime: Duration, now: Timestamp) -> Self {
        let permits = &state.0[..];
        let mut latest = now;
        for grant in permits {
            latest = latest.max(grant.granted_at);
        }
        let is_active = |grant: &Grant| latest < grant.granted_at.plus(lifetime) && grant.hits > 0;
        let first = permits.iter().position(is_active).unwrap_or(permits.len());
        let rest = &permits[first..];
        if rest.iter().all(is_active) && rest.is_sorted_by_key(|grant| grant.granted_at) {
            return Self { permits: Cow::Borrowed(rest), latest };
        }
        let mut rest = rest.to_vec();
        rest.retain(is_active);
        rest.sort_by_key(|grant| grant.granted_at);
        Self { permits: Cow::Owned(rest), latest }
    }
}

fn summary(permits: &[Grant], lifetime: Duration) -> Summary {
    let last = match permits.last() {
        Some(last) => last.granted_at.plus(lifetime),
        None => Timestamp::default(),
    };
    Summary { held: total(permits), free: Timestamp::default(), last }
}

/// A charge on a list of permits.
pub(super) struct PermitStep {
    /// The state after the charge; `None` if it is unchanged.
    pub(super) state: Option<State>,
    pub(super) before: Summary,
    pub(super) after: Summary,
    /// False if the hits were refused.
    pub(super) passes: bool,
}

impl PermitStep {
    fn unchanged(summary: Summary, passes: bool) -> Self {
        Self { state: None, before: summary, after: summary, passes }
    }
}

/// Applies `amount` to the state.
pub(super) fn step(state: &State, limit: &Limit, amount: Amount, now: Timestamp) -> PermitStep {
    let lifetime = lifetime(limit);
    let requests = u64::from(limit.requests);
    let Active { permits, latest } = Active::new(state, lifetime, now);
    let before = summary(&permits, lifetime);
    let (permits, free) = match amount.hits {
        Hits::Add(0) => return PermitStep::unchanged(before, true),
        Hits::Add(hits) => {
            let excess = before.held.saturating_add(hits).saturating_sub(requests);
            if excess > 0 && !amount.is_forced() {
                let refused = Summary { free: expiry_of(&permits, lifetime, excess), ..before };
                return PermitStep::unchanged(refused, false);
            }
            // The sum of all hits stays a number that Lua counts exactly.
            let added = hits.min(Hits::MAX.saturating_sub(before.held));
            let permits = with_grant(&permits, latest, added);
            let excess = total(&permits).saturating_add(hits).saturating_sub(requests);
            let free = expiry_of(&permits, lifetime, excess);
            (permits, free)
        }
        Hits::Refund(hits) if hits == 0 || before.held == 0 => {
            return PermitStep::unchanged(before, true);
        }
        Hits::Refund(hits) => {
            let mut permits = permits.into_owned();
            release(&mut permits, hits, |_| true);
            (permits, Timestamp::default())
        }
    };
    let after = Summary { free, ..summary(&permits, lifetime) };
    PermitStep { state: Some(State(Arc::new(permits))), before, after, passes: true }
}

/// The permits and those of `hits` more, granted at `latest`.
fn with_grant(permits: &[Grant], latest: Timestamp, hits: u64) -> Vec<Grant> {
    let mut all = Vec::with_capacity(permits.len() + 1);
    all.extend_from_slice(permits);
    match all.last_mut() {
        Some(last) if last.granted_at == latest => last.hits = last.hits.saturating_add(hits),
        _ if hits > 0 => all.push(Grant { granted_at: latest, hits }),
        _ => {}
    }
    all
}

/// The state without `hits` of the permits that were granted with the summary `granted`.
pub(super) fn undo(
    state: &State,
    limit: &Limit,
    hits: u64,
    granted: Summary,
    now: Timestamp,
) -> State {
    let lifetime = lifetime(limit);
    let mut permits = Active::new(state, lifetime, now).permits.into_owned();
    release(&mut permits, hits, |moment| moment.plus(lifetime) == granted.last);
    State(Arc::new(permits))
}

/// The arguments of the Lua function.
pub(super) fn arguments(limit: &Limit) -> [u64; 2] {
    let lifetime = u64::try_from(lifetime(limit).as_micros()).unwrap_or(u64::MAX);
    [limit.requests.into(), lifetime]
}

/// The time after which all permits have expired and the state can be deleted.
pub(super) fn ttl(summary: Summary, limit: &Limit, now: Timestamp) -> Duration {
    summary.last.since(now).min(lifetime(limit))
}

fn total(permits: &[Grant]) -> u64 {
    let mut total: u64 = 0;
    for grant in permits {
        total = total.saturating_add(grant.hits);
    }
    total
}

/// The moment at which the permits of the first `excess` hits have expired; the epoch if
/// `excess` is 0 or larger than the number of hits.
fn expiry_of(permits: &[Grant], lifetime: Duration, mut excess: u64) -> Timestamp {
    if excess == 0 {
        return Timestamp::default();
    }
    for Grant { granted_at, hits } in permits {
        excess = excess.saturating_sub(*hits);
        if excess == 0 {
            return granted_at.plus(lifetime);
        }
    }
    Timestamp::default()
}

/// Releases `hits` of the permits whose moment is `eligible`, the earliest first.
fn release(permits: &mut Vec<Grant>, mut hits: u64, eligible: impl Fn(Timestamp) -> bool) {
    for grant in permits.iter_mut() {
        if eligible(grant.granted_at) {
            let released = hits.min(grant.hits);
            grant.hits -= released;
            hits -= released;
        }
    }
    permits.retain(|grant| grant.hits > 0);
}

/// The outcome of a charge that left the permits as in `summary`.
///
/// For `concurrency`, `retry_after` is an upper bound, because another caller may release
/// a permit earlier.
pub(super) fn outcome(
    limit: &Limit,
    summary: Summary,
    decided: DecidedHits,
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let Summary { held, free, last } = summary;
    let fits = decided.hits.requested() <= requests;
    Outcome {
        over: !decided.passed,
        counted: false,
        used: held,
        remaining: u32::try_from(requests.saturating_sub(held)).unwrap_or(u32::MAX),
        reset_after: last.since(now),
        retry_after: if fits { Some(free.since(now)) } else { None },
        banned: Duration::ZERO,
        cached: false,
    }
}
