//! Hits on the same counter, added up.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use redis::Cmd;

use super::{
    fixed_window::{Found, Plain},
    jitter::Jitter,
    number,
};
use crate::{limit::Hits, store::GRACE};

/// The charges of several calls, with the hits on one counter added up.
#[derive(Debug, Default)]
pub(super) struct Sums<'a> {
    pub(super) charges: Vec<Sum<'a>>,
    /// One for each charge of the calls.
    pub(super) places: Vec<Place>,
}

/// Charges to one counter, with no look and nothing given back between them.
#[derive(Debug)]
pub(super) struct Sum<'a> {
    pub(super) key: &'a [u8],
    pub(super) change: i64,
    kept: u64,
}

/// Where the answer for a charge is found.
#[derive(Debug)]
pub(super) struct Place {
    /// In which sum.
    pub(super) sum: usize,
    /// The hits of this sum that came before.
    before: u64,
}

impl<'a> Sums<'a> {
    pub(super) fn of(charges: impl Iterator<Item = &'a Plain>) -> Self {
        let mut sums = Self::default();
        let mut open: HashMap<&[u8], usize, RandomState> = HashMap::default();
        for charge in charges {
            let Plain { ref key, change, kept } = *charge;
            let key = key.as_bytes();
            let hits = u64::try_from(change).ok().filter(|it| *it > 0);
            let place = hits.and(open.get(key)).and_then(|&sum| {
                let so_far = &mut sums.charges[sum];
                let before = so_far.change.unsigned_abs();
                let change = (so_far.change + change).unsigned_abs();
                (change <= Hits::MAX).then(|| {
                    so_far.change = change.cast_signed();
                    so_far.kept = kept.max(so_far.kept);
                    Place { sum, before }
                })
            });
            sums.places.push(place.unwrap_or_else(|| {
                let sum = sums.charges.len();
                sums.charges.push(Sum { key, change, kept });
                if hits.is_some() {
                    open.insert(key, sum);
                } else {
                    open.remove(key);
                }
                Place { sum, before: 0 }
            }));
        }
        sums
    }
}

/// The command that makes `sums`, and begins with `begin`.
pub(super) fn ask(begin: [&str; 2], sums: &[Sum<'_>], jitter: Jitter) -> Cmd {
    let names = sums.iter().map(|it| it.key.len()).sum::<usize>();
    let room = begin[1].len() + names + 40 * (1 + sums.len());
    let mut call = Cmd::with_capacity(4 + 3 * sums.len(), room);
    call.arg(&begin).arg(sums.len());
    for sum in sums {
        call.arg(sum.key);
    }
    call.arg(GRACE.as_millis());
    for sum in sums {
        call.arg(sum.change).arg(sum.kept);
    }
    for more in sums.iter().map_while(|_| jitter.draw()) {
        call.arg(more);
    }
    call
}

impl Place {
    /// The counter before the charge, if its sum got this answer.
    pub(super) fn found(&self, answer: &redis::Value) -> Option<Found> {
        match answer {
            redis::Value::Int(-1) => Some(Found::Held),
            answer => {
                let count = number(answer)?.saturating_add(self.before).min(Hits::MAX);
                Some(Found::Count(count))
            }
        }
    }
}
