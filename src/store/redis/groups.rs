//! Groups: the charges of a request that one script run makes.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
};

use foldhash::fast::RandomState;
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};

use super::{
    call::cost,
    limits::FULL_BATCH_COST,
    servers::{CounterLocation, Servers},
};
use crate::{counter::CounterKey, store::Charge};

pub(super) type Groups = SmallVec<[ChargeGroup; 4]>;

/// Charges at one location, by their positions in the request.
#[derive(Clone, Debug)]
pub(super) struct ChargeGroup {
    pub(super) location: CounterLocation,
    pub(super) positions: SmallVec<[usize; 4]>,
    /// The sum of their [costs](cost).
    pub(super) cost: usize,
}

impl ChargeGroup {
    fn add(&mut self, position: usize, cost: usize) {
        self.positions.push(position);
        self.cost += cost;
    }

    pub(super) fn charges(&self, charges: &[Charge]) -> SmallVec<[Charge; 4]> {
        let mut own = SmallVec::new();
        for position in &self.positions {
            own.push(charges[*position].clone());
        }
        own
    }
}

/// The location of a charge, by its position in the request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LocatedCharge {
    location: CounterLocation,
    position: usize,
}

/// The server of a group, by the group's position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OwnedGroup {
    owner: u32,
    group: usize,
}

/// Charges that may share a group.
#[derive(PartialEq, Eq, Hash)]
struct GroupKey<'a> {
    location: CounterLocation,
    /// Set where each counter has groups of its own.
    counter: Option<&'a CounterKey>,
}

/// Divides charges that do not depend on each other. A group costs at most as much as a full
/// batch.
pub(super) fn independent_groups<S: Servers>(servers: &S, charges: &[Charge]) -> Groups {
    let mut groups = Groups::new();
    let mut last: HashMap<GroupKey<'_>, usize, RandomState> = HashMap::default();
    for (position, charge) in charges.iter().enumerate() {
        let location = servers.locate(charge);
        let counter = servers.splits_by_counter(location).then_some(&charge.counter.key);
        let (key, cost) = (GroupKey { location, counter }, cost(charge));
        if let Some(&last) = last.get(&key)
            && groups[last].cost + cost <= FULL_BATCH_COST
        {
            groups[last].add(position, cost);
            continue;
        }
        last.insert(key, groups.len());
        groups.push(ChargeGroup { location, positions: smallvec![position], cost });
    }
    groups
}

/// Divides charges that depend on each other: one group for each location, or several, divided
/// by counter, where one would have too many charges. Groups are ordered by location and then
/// by counter. All requests reserve them in this order, so no two wait for each other.
pub(super) fn dependent_groups<S: Servers>(servers: &S, charges: &[Charge]) -> Groups {
    let mut order = SmallVec::<[LocatedCharge; 4]>::new();
    for (position, charge) in charges.iter().enumerate() {
        order.push(LocatedCharge { location: servers.locate(charge), position });
    }
    order.sort_unstable();
    let mut groups = Groups::new();
    for own in order.chunk_by(|left, right| left.location == right.location) {
        let location = own[0].location;
        let mut group = ChargeGroup { location, positions: SmallVec::new(), cost: 0 };
        for &LocatedCharge { position, .. } in own {
            group.add(position, cost(&charges[position]));
        }
        if group.positions.len() <= servers.max_dependent_charges() {
            groups.push(group);
        } else {
            groups.extend(divided_by_counter(group, charges, servers.max_dependent_charges()));
        }
    }
    groups
}

/// Divides a group into groups of at most `max_charges`, unless a single counter has more.
fn divided_by_counter(mut group: ChargeGroup, charges: &[Charge], max_charges: usize) -> Groups {
    let key = |position: usize| charges[position].counter.key.as_bytes();
    group.positions.sort_unstable_by_key(|&position| (key(position), position));
    let mut parts = Groups::new();
    for counter in group.positions.chunk_by(|&left, &right| key(left) == key(right)) {
        let fits = match parts.last() {
            Some(part) => part.positions.len() + counter.len() <= max_charges,
            None => false,
        };
        if !fits {
            parts.push(ChargeGroup {
                location: group.location,
                positions: SmallVec::new(),
                cost: 0,
            });
        }
        if let Some(part) = parts.last_mut() {
            for &position in counter {
                part.add(position, cost(&charges[position]));
            }
        }
    }
    parts
}

/// The largest number of distinct changes to one counter. Equal charges hardly cost more than
/// one, but distinct ones do, and no script can be divided within a counter.
pub(super) fn max_distinct_changes(charges: &[Charge]) -> usize {
    let mut changes: HashMap<_, HashSet<_, RandomState>, RandomState> = HashMap::default();
    let mut max = 0;
    for charge in charges {
        let distinct = changes.entry(&charge.counter.key).or_default();
        distinct.insert(charge.hits.signed());
        max = max.max(distinct.len());
    }
    max
}

/// The result of a call for one group.
pub(super) struct GroupResult<T> {
    /// The position of the group.
    pub(super) group: usize,
    pub(super) result: T,
}

/// Runs `call` for the position of each of `groups`. Servers work concurrently. On each server
/// at most [`Servers::max_cost_in_flight`] is in flight, so that it serves other requests
/// between the parts of a very large one.
pub(super) async fn call_each<S: Servers, T, F: Future<Output = T>>(
    servers: &S,
    groups: &[ChargeGroup],
    call: impl Fn(usize) -> F,
) -> Vec<GroupResult<T>> {
    let mut order = SmallVec::<[OwnedGroup; 4]>::new();
    for (position, group) in groups.iter().enumerate() {
        order.push(OwnedGroup { owner: servers.owner(group.location), group: position });
    }
    order.sort_unstable();
    let mut calls = Vec::new();
    for own in order.chunk_by(|left, right| left.owner == right.owner) {
        calls.push(call_in_waves(groups, own, servers.max_cost_in_flight(), &call));
    }
    let mut results = Vec::with_capacity(groups.len());
    for own in join_all(calls).await {
        results.extend(own);
    }
    results
}

/// Runs `call` for the groups of one server, in waves that cost at most `max_cost` each.
async fn call_in_waves<T, F: Future<Output = T>>(
    groups: &[ChargeGroup],
    mut order: &[OwnedGroup],
    max_cost: usize,
    call: &impl Fn(usize) -> F,
) -> Vec<GroupResult<T>> {
    let mut results = Vec::with_capacity(order.len());
    while !order.is_empty() {
        let (wave, rest) = order.split_at(wave_length(groups, order, max_cost));
        let mut calls = Vec::with_capacity(wave.len());
        for own in wave {
            calls.push(call(own.group));
        }
        for (own, result) in wave.iter().zip(join_all(calls).await) {
            results.push(GroupResult { group: own.group, result });
        }
        order = rest;
    }
    results
}

/// The number of groups in the next wave. A group that costs more is a wave of its own.
fn wave_length(groups: &[ChargeGroup], order: &[OwnedGroup], max_cost: usize) -> usize {
    let mut cost = 0;
    for (length, own) in order.iter().enumerate() {
        cost += groups[own.group].cost;
        if max_cost < cost && 0 < length {
            return length;
        }
    }
    order.len()
}
