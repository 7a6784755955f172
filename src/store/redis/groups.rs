//! Groups of charges, each of which one script makes.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
};

use foldhash::fast::RandomState;
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};

use super::{
    call::cost,
    dispatcher::{Location, Servers},
};
use crate::store::Charge;

/// The charges of a call at one place, by their positions in the call.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) place: Location,
    pub(super) at: SmallVec<[usize; 4]>,
    /// What they [cost].
    pub(super) cost: usize,
}

impl Group {
    pub(super) fn add(&mut self, at: usize, cost: usize) {
        self.at.push(at);
        self.cost += cost;
    }

    /// Splits a group of dependent charges by counter into groups of at most `most` charges.
    /// Charges to one counter stay in one group.
    pub(super) fn divided(mut self, charges: &[Charge], most: usize) -> SmallVec<[Self; 4]> {
        if self.at.len() <= most {
            return smallvec![self];
        }
        let key = |at: usize| charges[at].counter.key.as_bytes();
        self.at.sort_unstable_by_key(|at| (key(*at), *at));
        let mut parts = SmallVec::<[Self; 4]>::new();
        for counter in self.at.chunk_by(|one, next| key(*one) == key(*next)) {
            let cost = counter.iter().map(|at| cost(&charges[*at])).sum();
            match parts.last_mut() {
                Some(part) if part.at.len() + counter.len() <= most => {
                    part.at.extend_from_slice(counter);
                    part.cost += cost;
                }
                _ => parts.push(Self { place: self.place, at: counter.into(), cost }),
            }
        }
        parts
    }
}

/// The largest number of different charges to one counter. Equal ones hardly cost more than
/// one, but different ones do, and no script can be divided within a counter.
pub(super) fn different(charges: &[Charge]) -> usize {
    let mut counters: HashMap<_, HashSet<_, RandomState>, RandomState> = HashMap::default();
    let mut most = 0;
    for charge in charges {
        let different = counters.entry(&charge.counter.key).or_default();
        different.insert(charge.hits.signed());
        most = most.max(different.len());
    }
    most
}

/// Runs `ask` for each of `groups`, and returns the results with the positions of the groups.
/// Servers are asked concurrently. On each server at most [`Servers::max_cost_in_flight`] is in flight, so
/// that other requests are served between the parts of a very large one.
pub(super) async fn of_each<S: Servers, T, A: Future<Output = T>>(
    servers: &S,
    groups: &[Group],
    ask: impl Fn(usize) -> A,
) -> Vec<(usize, T)> {
    let mut order: SmallVec<[(u32, usize); 4]> =
        groups.iter().enumerate().map(|(at, it)| (servers.owner(it.place), at)).collect();
    order.sort_unstable();
    let ask = &ask;
    let on_one = |own| async move {
        let mut found = Vec::new();
        for some in parts(groups, own, servers.max_cost_in_flight()) {
            let places = some.iter().map(|(_, at)| *at);
            let answers = join_all(places.clone().map(ask)).await;
            found.extend(places.zip(answers));
        }
        found
    };
    let servers = order.chunk_by(|one, next| one.0 == next.0);
    join_all(servers.map(on_one)).await.into_iter().flatten().collect()
}

/// Splits `own`, positions in `groups`, into runs that cost at most `most`; a group that costs
/// more is a run of its own.
fn parts<'a>(
    groups: &'a [Group],
    own: &'a [(u32, usize)],
    most: usize,
) -> impl Iterator<Item = &'a [(u32, usize)]> {
    let mut sum = 0;
    own.chunk_by(move |one, next| {
        let [one, next] = [one, next].map(|it| groups[it.1].cost);
        sum = if sum == 0 { one } else { sum } + next;
        let fits = sum <= most;
        if !fits {
            sum = 0;
        }
        fits
    })
}
