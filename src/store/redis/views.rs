//! Who has which slots of a cluster, by what several nodes say.
//!
//! They learn of changes one after the other, and one that was cut off says what was.
//! What most of them say of a slot counts; where as many say either, what was known
//! before stays, which nodes correct by sending a call on.

use super::{settings::RedisAddress, slots::SLOTS};

/// Who has some slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) owner: RedisAddress,
}

/// Which slots has whom, if these are `views` of it and `before` says who had a slot.
pub(super) fn agree<'a>(
    views: &[Vec<Slots>],
    before: impl Fn(u16) -> Option<&'a RedisAddress>,
) -> Vec<Slots> {
    if let [view] = views {
        return view.clone();
    }
    let mut owners: Vec<&RedisAddress> = views.iter().flatten().map(|it| &it.owner).collect();
    // In an order that has nothing to do with who has answered first.
    owners.sort_by_key(ToString::to_string);
    owners.dedup();
    let place = |owner: &RedisAddress| owners.iter().position(|it| *it == owner);
    let votes: Vec<_> = views.iter().map(|view| by_slot(view, place)).collect();
    let mut agreed: Vec<Slots> = Vec::new();
    for slot in 0..SLOTS {
        let had = before(slot).and_then(place);
        let said = || votes.iter().map(|it| it[usize::from(slot)]);
        let rank = |owner: Option<usize>| {
            let count = said().filter(|it| *it == owner).count();
            (count, owner.is_some() && owner == had, owner)
        };
        let Some(owner) = said().max_by_key(|it| rank(*it)).flatten() else { continue };
        match agreed.last_mut() {
            Some(it) if it.last + 1 == slot && it.owner == *owners[owner] => it.last = slot,
            _ => agreed.push(Slots { first: slot, last: slot, owner: owners[owner].clone() }),
        }
    }
    agreed
}

/// The place of the owner of each slot.
fn by_slot(view: &[Slots], place: impl Fn(&RedisAddress) -> Option<usize>) -> Box<[Option<usize>]> {
    let mut owners = vec![None; SLOTS.into()].into_boxed_slice();
    for Slots { first, last, owner } in view {
        owners[usize::from(*first)..=usize::from(*last)].fill(place(owner));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> RedisAddress {
        RedisAddress::Tcp { host: host.into(), port: 1 }
    }

    /// Of a cluster of two, of which the second has the upper half.
    fn view(first: &str, second: &str) -> Vec<Slots> {
        vec![
            Slots { first: 0, last: 8_191, owner: at(first) },
            Slots { first: 8_192, last: SLOTS - 1, owner: at(second) },
        ]
    }

    #[test]
    fn what_most_nodes_say_counts_and_then_what_was_known() {
        let check = |views: &[Vec<Slots>], before: &str, expected: &[Slots]| {
            let owner = at(before);
            let mut views = views.to_vec();
            for _ in 0..views.len() {
                views.rotate_left(1);
                assert_eq!(agree(&views, |_| Some(&owner)), expected, "{views:?}");
            }
        };
        let (old, new) = (view("a", "b"), view("a", "c"));
        check(std::slice::from_ref(&old), "a", &old);
        check(&[old.clone(), new.clone(), new.clone()], "b", &new);
        check(&[old.clone(), old.clone(), new.clone()], "c", &old);
        check(&[old.clone(), new.clone()], "b", &old);
        check(&[old.clone(), new.clone()], "c", &new);
        // One node knows of no owner.
        check(&[old.clone(), old[..1].to_vec()], "x", &old);
        check(&[old.clone(), old[..1].to_vec(), old[..1].to_vec()], "x", &old[..1]);
        let all = Slots { first: 0, last: SLOTS - 1, owner: at("a") };
        check(&[view("a", "a"), view("a", "a")], "a", &[all]);
    }
}
