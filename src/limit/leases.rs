//! Grants that end: each hit holds a slot until its lease is over, or until it
//! is given back. What finds no free slot is refused, and takes none.
//!
//! With leases as long as the window this is `sliding_log`: never more than
//! `limit` hits in any trailing window, exactly. With leases that are given back
//! it is `concurrency`: never more than `limit` calls in flight, and the slot of
//! a caller that died is free again when its lease is over.
//!
//! What is given back is taken from the lease that ends first, since nobody says
//! whose it was. So a slot may be held for longer than needed, but never for
//! less.
//!
//! The state is a list of the moments at which leases were granted, so it is
//! bounded by the limit, and limits are bounded by [`MAX_REQUESTS`]. Time never goes back
//! within it: a clock that is behind sees the latest moment of the list, so that
//! leases last as long whoever looks.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{AlgorithmInfo, Denial, Hits, Limit, Outcome};
use crate::time::Timestamp;

/// What the other modules may know of a sliding log.
pub(super) const SLIDING_LOG: AlgorithmInfo = AlgorithmInfo {
    name: "sliding_log",
    lua: "leases",
    window: true,
    calendar: false,
    count_denied: false,
    phase: false,
    burst: false,
    lease: false,
    keeps_each_hit: true,
    window_in_key: false,
    denial: Denial::UntilOneFits,
};

/// The same of calls in flight.
pub(super) const CONCURRENCY: AlgorithmInfo = AlgorithmInfo {
    name: "concurrency",
    window: false,
    lease: true,
    denial: Denial::Never,
    ..SLIDING_LOG
};

/// The twin of [`step`] and [`undo`].
pub(crate) const LUA: &str = include_str!("leases.lua");

/// The largest limit.
pub const MAX_REQUESTS: u32 = 1_000;

/// When leases were granted, and how many, the first first. It is shared, as most
/// charges leave it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub Arc<Vec<(Timestamp, u64)>>);

impl State {
    /// How much memory the list takes, in bytes.
    pub(crate) fn allocated(&self) -> usize {
        let Self(leases) = self;
        let counts = 2 * size_of::<usize>();
        counts + size_of_val(&**leases) + leases.capacity() * size_of::<(Timestamp, u64)>()
    }
}

/// What is told of a state: the list itself may stay where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many leases are held.
    pub held: u64,
    /// When enough of them have ended for the same hits to pass, or pass again; the
    /// epoch if they do at once, or never will.
    pub free: Timestamp,
    /// When the last of them ends; the epoch if there is none.
    pub last: Timestamp,
}

/// How long a lease of `limit` lasts.
pub fn lease(limit: &Limit) -> Duration {
    limit.algorithm.lease().unwrap_or(Duration::from_secs(limit.window.seconds()))
}

/// The leases that have not ended, in order, and the latest moment that is known.
fn live(
    State(leases): &State,
    lease: Duration,
    now: Timestamp,
) -> (Cow<'_, [(Timestamp, u64)]>, Timestamp) {
    let latest = leases.iter().map(|(granted, _)| *granted).fold(now, Timestamp::max);
    let counts = |(granted, hits): &(Timestamp, u64)| latest < granted.plus(lease) && *hits > 0;
    let ended = leases.iter().take_while(|it| !counts(it)).count();
    let rest = &leases[ended..];
    if rest.iter().all(counts) && rest.is_sorted_by_key(|(granted, _)| *granted) {
        return (Cow::Borrowed(rest), latest);
    }
    let mut rest: Vec<_> = rest.iter().copied().filter(counts).collect();
    rest.sort_by_key(|(granted, _)| *granted);
    (Cow::Owned(rest), latest)
}

fn summary(leases: &[(Timestamp, u64)], lease: Duration) -> Summary {
    let last = leases.last().map(|(granted, _)| granted.plus(lease));
    Summary { held: total(leases), free: Timestamp::default(), last: last.unwrap_or_default() }
}

/// The state after `hits` at `now` if that changes, what is told of it before and after,
/// and whether they pass. They do in any case if `forced`.
pub(super) fn step(
    state: &State,
    limit: &Limit,
    hits: Hits,
    now: Timestamp,
    forced: bool,
) -> (Option<State>, [Summary; 2], bool) {
    let lease = lease(limit);
    let (leases, latest) = live(state, lease, now);
    let before = summary(&leases, lease);
    let (leases, free) = match hits {
        Hits::Add(0) => return (None, [before; 2], true),
        Hits::Add(hits) => {
            let excess = before.held.saturating_add(hits).saturating_sub(limit.requests.into());
            if excess > 0 && !forced {
                let refused = Summary { free: freed(&leases, lease, excess), ..before };
                return (None, [refused; 2], false);
            }
            // All of them together are a number that Lua counts exactly.
            let added = hits.min(Hits::MAX.saturating_sub(before.held));
            let leases = with(&leases, latest, added);
            let again = total(&leases).saturating_add(hits);
            let free = freed(&leases, lease, again.saturating_sub(limit.requests.into()));
            (leases, free)
        }
        Hits::Refund(hits) if hits == 0 || before.held == 0 => return (None, [before; 2], true),
        Hits::Refund(hits) => {
            let mut leases = leases.into_owned();
            give_back(&mut leases, hits, |_| true);
            (leases, Timestamp::default())
        }
    };
    let after = Summary { free, ..summary(&leases, lease) };
    (Some(State(Arc::new(leases))), [before, after], true)
}

/// The leases with another of so many hits at `latest`.
fn with(leases: &[(Timestamp, u64)], latest: Timestamp, added: u64) -> Vec<(Timestamp, u64)> {
    let mut all = Vec::with_capacity(leases.len() + 1);
    all.extend_from_slice(leases);
    match all.last_mut() {
        Some((granted, held)) if *granted == latest => *held = held.saturating_add(added),
        _ if added > 0 => all.push((latest, added)),
        _ => {}
    }
    all
}

/// The state without `hits` of the very lease that was granted when it was as `told`.
pub(super) fn undo(
    state: &State,
    limit: &Limit,
    hits: u64,
    told: Summary,
    now: Timestamp,
) -> State {
    let lease = lease(limit);
    let mut leases = live(state, lease, now).0.into_owned();
    give_back(&mut leases, hits, |granted| granted.plus(lease) == told.last);
    State(Arc::new(leases))
}

/// What the script is told of a charge.
pub(super) fn arguments(limit: &Limit) -> [u64; 2] {
    let lease = u64::try_from(lease(limit).as_micros()).unwrap_or(u64::MAX);
    [limit.requests.into(), lease]
}

/// How long a state of which this is told means something from now on.
pub(super) fn ttl(summary: Summary, limit: &Limit, now: Timestamp) -> Duration {
    summary.last.since(now).min(lease(limit))
}

fn total(leases: &[(Timestamp, u64)]) -> u64 {
    leases.iter().fold(0, |total, (_, hits)| total.saturating_add(*hits))
}

/// When `excess` leases have ended; the epoch if there are not so many, or if none
/// has to.
fn freed(leases: &[(Timestamp, u64)], lease: Duration, mut excess: u64) -> Timestamp {
    let leases = if excess == 0 { &[] } else { leases };
    for (granted, hits) in leases {
        excess = excess.saturating_sub(*hits);
        if excess == 0 {
            return granted.plus(lease);
        }
    }
    Timestamp::default()
}

fn give_back(leases: &mut Vec<(Timestamp, u64)>, mut hits: u64, of: impl Fn(Timestamp) -> bool) {
    for (_, held) in leases.iter_mut().filter(|(granted, _)| of(*granted)) {
        let given = hits.min(*held);
        *held -= given;
        hits -= given;
    }
    leases.retain(|(_, held)| *held > 0);
}

/// What it means that `summary` is what is held, and that `hits` passed or did
/// not.
///
/// For `concurrency` the moment to come back is the latest: somebody may give
/// a slot back before.
pub(super) fn outcome(
    limit: &Limit,
    hits: Hits,
    (summary, passed): (Summary, bool),
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let Summary { held, free, last } = summary;
    let fits = hits.requested() <= requests;
    Outcome {
        over: !passed,
        counted: false,
        used: held,
        remaining: u32::try_from(requests.saturating_sub(held)).unwrap_or(u32::MAX),
        reset_after: last.since(now),
        retry_after: fits.then(|| free.since(now)),
        banned: Duration::ZERO,
        cached: false,
    }
}
