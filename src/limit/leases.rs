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
//! The state is a list of ends, so it is bounded by the limit, and limits are
//! bounded by [`MOST`].

use std::time::Duration;

use crate::{
    limit::{Algorithm, Hits, Limit, Outcome, SKEW},
    time::Timestamp,
};

/// The largest limit.
pub const MOST: u32 = 1_000;

/// When how many leases end, the first first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub Vec<(Timestamp, u64)>);

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
    match limit.algorithm {
        Algorithm::Concurrency { lease } => lease,
        _ => Duration::from_secs(limit.window.seconds()),
    }
}

/// The state after `hits` at `now`, and whether they pass.
pub fn step(state: State, limit: &Limit, hits: Hits, now: Timestamp) -> (State, Summary, bool) {
    let State(mut leases) = state;
    let end = now.plus(lease(limit));
    // A clock that was far ahead has granted leases that would last too long.
    let latest = end.plus(SKEW);
    leases.retain(|(end, hits)| now < *end && *end <= latest && *hits > 0);
    leases.sort_by_key(|(end, _)| *end);
    let held = total(&leases);
    let mut passes = true;
    let mut free = Timestamp::default();
    match hits {
        Hits::Add(0) => {}
        Hits::Add(hits) => {
            let excess = held.saturating_add(hits).saturating_sub(limit.requests.into());
            passes = excess == 0;
            if passes {
                grant(&mut leases, end, hits);
                let again = held.saturating_add(hits).saturating_add(hits);
                free = freed(&leases, again.saturating_sub(limit.requests.into()));
            } else {
                free = freed(&leases, excess);
            }
        }
        Hits::Refund(hits) => give_back(&mut leases, hits),
    }
    let summary = Summary {
        held: total(&leases),
        free,
        last: leases.last().map(|(end, _)| *end).unwrap_or_default(),
    };
    (State(leases), summary, passes)
}

fn total(leases: &[(Timestamp, u64)]) -> u64 {
    leases.iter().fold(0, |total, (_, hits)| total.saturating_add(*hits))
}

fn grant(leases: &mut Vec<(Timestamp, u64)>, end: Timestamp, hits: u64) {
    let at = leases.partition_point(|(it, _)| *it <= end);
    match at.checked_sub(1).and_then(|it| leases.get_mut(it)) {
        Some((same, held)) if *same == end => *held += hits,
        _ => leases.insert(at, (end, hits)),
    }
}

/// When `excess` leases have ended; the epoch if there are not so many, or if none
/// has to.
fn freed(leases: &[(Timestamp, u64)], mut excess: u64) -> Timestamp {
    let leases = if excess == 0 { &[] } else { leases };
    for (end, hits) in leases {
        excess = excess.saturating_sub(*hits);
        if excess == 0 {
            return *end;
        }
    }
    Timestamp::default()
}

fn give_back(leases: &mut Vec<(Timestamp, u64)>, mut hits: u64) {
    for (_, held) in leases.iter_mut() {
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
pub fn describe(
    limit: &Limit,
    hits: Hits,
    (summary, passed): (Summary, bool),
    now: Timestamp,
) -> Outcome {
    let requests = u64::from(limit.requests);
    let Summary { held, free, last } = summary;
    let fits = hits.asked() <= requests;
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
