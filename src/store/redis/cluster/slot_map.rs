//! The nodes of a cluster, and the owner of each slot.

use std::sync::Arc;

use crate::store::redis::{node::Node, settings::RedisAddress, slots::SLOT_COUNT};

/// The index of an owner for a slot without one.
pub(super) const UNASSIGNED: u16 = u16::MAX;

#[derive(Clone, Debug)]
pub(super) struct ClusterNode {
    pub(super) address: RedisAddress,
    pub(super) node: Arc<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct SlotMap {
    pub(super) nodes: Vec<ClusterNode>,
    /// For each slot, an index of `nodes`, or [`UNASSIGNED`].
    owner_indexes: Box<[u16]>,
}

impl SlotMap {
    /// A map without nodes.
    pub(super) fn empty() -> Self {
        Self { nodes: Vec::new(), owner_indexes: vec![UNASSIGNED; SLOT_COUNT.into()].into() }
    }

    pub(super) fn owner_index(&self, slot: u16) -> u16 {
        self.owner_indexes.get(usize::from(slot)).copied().unwrap_or(UNASSIGNED)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&ClusterNode> {
        self.nodes.get(usize::from(self.owner_index(slot)))
    }

    /// Makes the node at `index` the owner of the slots from `first` to `last`. Slots out of
    /// range are ignored.
    pub(super) fn assign(&mut self, first: u16, last: u16, index: u16) {
        let last = last.min(SLOT_COUNT - 1);
        if first <= last {
            self.owner_indexes[usize::from(first)..=usize::from(last)].fill(index);
        }
    }

    /// Returns the indexes of the nodes that own slots.
    pub(super) fn owners(&self) -> Vec<u16> {
        let mut owners = self.owner_indexes.to_vec();
        owners.retain(|owner| *owner != UNASSIGNED);
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    pub(super) fn node_at(&self, address: &RedisAddress) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.address == *address)
    }

    /// Returns the addresses of all nodes, for the log.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.to_string()).collect()
    }

    /// Returns whether every slot has the same owner in `other`.
    pub(super) fn has_same_owners(&self, other: &Self) -> bool {
        for slot in 0..SLOT_COUNT {
            let is_same = match (self.owner(slot), other.owner(slot)) {
                (Some(own), Some(others)) => Arc::ptr_eq(&own.node, &others.node),
                (own, others) => own.is_none() && others.is_none(),
            };
            if !is_same {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unassigned_slot_has_no_owner() {
        let mut map = SlotMap::empty();
        assert!(map.owners().is_empty());
        map.assign(0, 99, 1);
        map.assign(200, SLOT_COUNT, 0);
        assert_eq!(map.owners(), [0, 1]);
        assert_eq!(map.owner_index(100), UNASSIGNED);
    }
}
