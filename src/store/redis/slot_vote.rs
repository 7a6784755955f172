//! Combines the slot maps of several cluster nodes by a vote on each slot.
//!
//! Nodes learn of changes one after the other, and the map of a node that was partitioned
//! is out of date. The owner that most nodes name for a slot wins. In a tie the known owner
//! stays: if it is wrong, it redirects calls with MOVED.

use super::{settings::RedisAddress, slots::SLOT_COUNT};

/// Consecutive slots with the same owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) owner: RedisAddress,
}

/// The index of an owner in a list of candidates; `None` for an unassigned slot.
type CandidateIndex = Option<usize>;

/// Returns the slot map that most of `maps` agree on. `known_owner` returns the owner of a
/// slot before the vote.
pub(super) fn majority<'a>(
    maps: &[Vec<SlotRange>],
    known_owner: impl Fn(u16) -> Option<&'a RedisAddress>,
) -> Vec<SlotRange> {
    if let [map] = maps {
        return map.clone();
    }
    let candidates = candidates(maps);
    let mut ballots = Vec::with_capacity(maps.len());
    for map in maps {
        ballots.push(ballot(map, &candidates));
    }
    let mut agreed: Vec<SlotRange> = Vec::new();
    for slot in 0..SLOT_COUNT {
        let known = known_owner(slot).and_then(|owner| index_of(&candidates, owner));
        let Some(winner) = winner(&ballots, slot, known) else { continue };
        let owner = candidates[winner];
        match agreed.last_mut() {
            Some(range) if range.last + 1 == slot && range.owner == *owner => range.last = slot,
            _ => agreed.push(SlotRange { first: slot, last: slot, owner: owner.clone() }),
        }
    }
    agreed
}

/// Returns every owner once, in an order that does not depend on which node replied first.
fn candidates(maps: &[Vec<SlotRange>]) -> Vec<&RedisAddress> {
    let mut owners = Vec::new();
    for range in maps.iter().flatten() {
        owners.push(&range.owner);
    }
    owners.sort_by_key(ToString::to_string);
    owners.dedup();
    owners
}

fn index_of(candidates: &[&RedisAddress], owner: &RedisAddress) -> CandidateIndex {
    candidates.iter().position(|candidate| *candidate == owner)
}

/// Returns the owner of every slot according to `map`.
fn ballot(map: &[SlotRange], candidates: &[&RedisAddress]) -> Box<[CandidateIndex]> {
    let mut owners = vec![None; SLOT_COUNT.into()].into_boxed_slice();
    for SlotRange { first, last, owner } in map {
        owners[usize::from(*first)..=usize::from(*last)].fill(index_of(candidates, owner));
    }
    owners
}

/// Returns the candidate with the most votes for `slot`; in a tie the known owner, then the
/// last candidate.
fn winner(ballots: &[Box<[CandidateIndex]>], slot: u16, known: CandidateIndex) -> CandidateIndex {
    let slot = usize::from(slot);
    let mut best = (0, false, None);
    for ballot in ballots {
        let candidate = ballot[slot];
        let votes = ballots.iter().filter(|other| other[slot] == candidate).count();
        let is_known = candidate.is_some() && candidate == known;
        best = best.max((votes, is_known, candidate));
    }
    best.2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> RedisAddress {
        RedisAddress::Tcp { host: host.into(), port: 1 }
    }

    /// The slot map of a cluster of two nodes; the second owns the upper half.
    fn map(first: &str, second: &str) -> Vec<SlotRange> {
        vec![
            SlotRange { first: 0, last: 8_191, owner: at(first) },
            SlotRange { first: 8_192, last: SLOT_COUNT - 1, owner: at(second) },
        ]
    }

    #[test]
    fn the_majority_wins_and_then_the_known_owner() {
        let check = |maps: &[Vec<SlotRange>], before: &str, expected: &[SlotRange]| {
            let owner = at(before);
            let mut maps = maps.to_vec();
            for _ in 0..maps.len() {
                maps.rotate_left(1);
                assert_eq!(majority(&maps, |_| Some(&owner)), expected, "{maps:?}");
            }
        };
        let (old, new) = (map("a", "b"), map("a", "c"));
        check(std::slice::from_ref(&old), "a", &old);
        check(&[old.clone(), new.clone(), new.clone()], "b", &new);
        check(&[old.clone(), old.clone(), new.clone()], "c", &old);
        check(&[old.clone(), new.clone()], "b", &old);
        check(&[old.clone(), new.clone()], "c", &new);
        // One node has an unassigned slot.
        check(&[old.clone(), old[..1].to_vec()], "x", &old);
        check(&[old.clone(), old[..1].to_vec(), old[..1].to_vec()], "x", &old[..1]);
        let all = SlotRange { first: 0, last: SLOT_COUNT - 1, owner: at("a") };
        check(&[map("a", "a"), map("a", "a")], "a", &[all]);
    }
}
