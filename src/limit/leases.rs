//! Leases: each hit holds a slot until its lease expires or the slot is released. A hit
//! that finds no free slot is refused and takes none.
//!
//! With leases as long as the window this is `sliding_log`: never more than `requests`
//! hits in any trailing window, exactly. With leases that callers release it is
//! `concurrency`: never more than `requests` calls in flight; the slot of a caller that
//! crashed is free again when its lease expires.
//!
//! A refund shortens the lease that expires first, because a refund does not name the
//! lease it belongs to. So a slot may be held for longer than needed, but never for less.
//!
//! The state is a list of the moments at which leases were granted. Its length is bounded
//! by the limit, and limits are bounded by [`MAX_REQUESTS`]. Time never moves back within
//! a list: a clock that is behind uses the latest moment in the list, so that leases last
//! equally long for all clocks.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    algorithm::{AlgorithmInfo, Denial, Limit},
    hits::{Amount, Decided, Hits},
    outcome::Outcome,
};
use crate::time::Timestamp;

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

pub(super) const CONCURRENCY: AlgorithmInfo = AlgorithmInfo {
    name: "concurrency",
    window: false,
    lease: true,
    denial: Denial::Never,
    ..SLIDING_LOG
};

/// [`step`] and [`undo`] in Lua.
pub(crate) const LUA: &str = include_str!("leases.lua");

/// The largest limit: it bounds the length of the list.
pub const MAX_REQUESTS: u32 = 1_000;

/// The hits that were granted at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The moment.
    pub granted: Timestamp,
    /// The hits, each of which holds a slot.
    pub hits: u64,
}

/// The leases in ascending order. The list is shared, because most charges leave it unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub Arc<Vec<Lease>>);

impl State {
    /// The memory that the list takes, in bytes.
    pub(crate) fn allocated(&self) -> usize {
        let Self(leases) = self;
        let reference_counts = 2 * size_of::<usize>();
        let elements = leases.capacity() * size_of::<Lease>();
        reference_counts + size_of_val(&**leases) + elements
    }
}

/// The part of a state that its outcome depends on. Stores return it in place of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hits that hold a slot.
    pub held: u64,
    /// The moment at which the same hits pass, or pass again; the epoch if they pass at
    /// once or never.
    pub free: Timestamp,
    /// The moment at which the last lease expires; the epoch if the list is empty.
    pub last: Timestamp,
}

/// The duration of a lease of `limit`.
pub fn lease(limit: &Limit) -> Duration {
    limit.algorithm.lease().unwrap_or(Duration::from_secs(limit.window.seconds()))
}

/// The leases that have not expired.
struct Active<'a> {
    /// In ascending order, each with at least one hit.
    leases: Cow<'a, [Lease]>,
    /// The present moment, or the latest moment in the list if a clock is ahead.
    latest: Timestamp,
}

impl<'a> Active<'a> {
    fn new(state: &'a State, lease: Duration, now: Timestamp) -> Self {
        let leases = &state.0[..];
        let mut latest = now;
        for lease in leases {
            latest = latest.max(lease.granted);
        }
        let is_active = |one: &Lease| latest < one.granted.plus(lease) && one.hits > 0;
        let first = leases.iter().position(is_active).unwrap_or(leases.len());
        let rest = &leases[first..];
        if rest.iter().all(is_active) && rest.is_sorted_by_key(|one| one.granted) {
            return Self { leases: Cow::Borrowed(rest), latest };
        }
        let mut rest = rest.to_vec();
        rest.retain(is_active);
        rest.sort_by_key(|one| one.granted);
        Self { leases: Cow::Owned(rest), latest }
    }
}

fn summary(leases: &[Lease], lease: Duration) -> Summary {
    let last = match leases.last() {
        Some(last) => last.granted.plus(lease),
        None => Timestamp::default(),
    };
    Summary { held: total(leases), free: Timestamp::default(), last }
}

/// A charge on a list of leases.
pub(super) struct LeaseStep {
    /// The state after the charge; `None` if it is unchanged.
    pub(super) state: Option<State>,
    pub(super) before: Summary,
    pub(super) after: Summary,
    /// False if the hits were refused.
    pub(super) passes: bool,
}

impl LeaseStep {
    fn unchanged(summary: Summary, passes: bool) -> Self {
        Self { state: None, before: summary, after: summary, passes }
    }
}

/// Applies `amount` to the state.
pub(super) fn step(state: &State, limit: &Limit, amount: Amount, now: Timestamp) -> LeaseStep {
    let lease = lease(limit);
    let requests = u64::from(limit.requests);
    let Active { leases, latest } = Active::new(state, lease, now);
    let before = summary(&leases, lease);
    let (leases, free) = match amount.hits {
        Hits::Add(0) => return LeaseStep::unchanged(before, true),
        Hits::Add(hits) => {
            let excess = before.held.saturating_add(hits).saturating_sub(requests);
            if excess > 0 && !amount.is_forced() {
                let refused = Summary { free: expiry_of(&leases, lease, excess), ..before };
                return LeaseStep::unchanged(refused, false);
            }
            // The sum of all hits stays a number that Lua counts exactly.
            let added = hits.min(Hits::MAX.saturating_sub(before.held));
            let leases = with_lease(&leases, latest, added);
            let excess = total(&leases).saturating_add(hits).saturating_sub(requests);
            let free = expiry_of(&leases, lease, excess);
            (leases, free)
        }
        Hits::Refund(hits) if hits == 0 || before.held == 0 => {
            return LeaseStep::unchanged(before, true);
        }
        Hits::Refund(hits) => {
            let mut leases = leases.into_owned();
            release(&mut leases, hits, |_| true);
            (leases, Timestamp::default())
        }
    };
    let after = Summary { free, ..summary(&leases, lease) };
    LeaseStep { state: Some(State(Arc::new(leases))), before, after, passes: true }
}

/// The leases and one more, granted at `latest`.
fn with_lease(leases: &[Lease], latest: Timestamp, hits: u64) -> Vec<Lease> {
    let mut all = Vec::with_capacity(leases.len() + 1);
    all.extend_from_slice(leases);
    match all.last_mut() {
        Some(last) if last.granted == latest => last.hits = last.hits.saturating_add(hits),
        _ if hits > 0 => all.push(Lease { granted: latest, hits }),
        _ => {}
    }
    all
}

/// The state without `hits` of the lease that was granted with the summary `granted`.
pub(super) fn undo(
    state: &State,
    limit: &Limit,
    hits: u64,
    granted: Summary,
    now: Timestamp,
) -> State {
    let lease = lease(limit);
    let mut leases = Active::new(state, lease, now).leases.into_owned();
    release(&mut leases, hits, |moment| moment.plus(lease) == granted.last);
    State(Arc::new(leases))
}

/// The arguments of the Lua function.
pub(super) fn arguments(limit: &Limit) -> [u64; 2] {
    let lease = u64::try_from(lease(limit).as_micros()).unwrap_or(u64::MAX);
    [limit.requests.into(), lease]
}

/// The time after which all leases have expired and the state can be deleted.
pub(super) fn ttl(summary: Summary, limit: &Limit, now: Timestamp) -> Duration {
    summary.last.since(now).min(lease(limit))
}

fn total(leases: &[Lease]) -> u64 {
    let mut total: u64 = 0;
    for lease in leases {
        total = total.saturating_add(lease.hits);
    }
    total
}

/// The moment at which the leases of the first `excess` hits have expired; the epoch if
/// `excess` is 0 or larger than the number of hits.
fn expiry_of(leases: &[Lease], lease: Duration, mut excess: u64) -> Timestamp {
    if excess == 0 {
        return Timestamp::default();
    }
    for Lease { granted, hits } in leases {
        excess = excess.saturating_sub(*hits);
        if excess == 0 {
            return granted.plus(lease);
        }
    }
    Timestamp::default()
}

/// Releases `hits` of the leases whose moment is `eligible`, the earliest first.
fn release(leases: &mut Vec<Lease>, mut hits: u64, eligible: impl Fn(Timestamp) -> bool) {
    for lease in leases.iter_mut() {
        if eligible(lease.granted) {
            let released = hits.min(lease.hits);
            lease.hits -= released;
            hits -= released;
        }
    }
    leases.retain(|lease| lease.hits > 0);
}

/// The outcome of a charge that left the leases as in `summary`.
///
/// For `concurrency`, `retry_after` is an upper bound, because another caller may release
/// a slot earlier.
pub(super) fn outcome(
    limit: &Limit,
    summary: Summary,
    decided: Decided,
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
