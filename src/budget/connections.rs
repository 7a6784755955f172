//! The connections that share the budget, by their peer, and the choice of one to close.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use super::{LEAST_SHARE, Totals, Usage};
use crate::net::Peer;

/// The most connections to compare.
const TRIES: usize = 16;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    next_id: u64,
    count: usize,
    peers: HashMap<Peer, PeerConnections>,
}

#[derive(Debug, Default)]
struct PeerConnections {
    totals: Arc<Totals>,
    open: BTreeMap<u64, Arc<Usage>>,
    /// The ID from which to look for the next to close, so that all get their turn.
    next: u64,
}

impl Connections {
    /// Adds a connection that uses nothing. Returns its ID, too.
    pub(super) fn add(&mut self, address: Option<SocketAddr>) -> (u64, Arc<Usage>) {
        let id = self.next_id;
        self.next_id += 1;
        let peer = self.peers.entry(Peer::of(address)).or_default();
        let usage = Arc::new(Usage::new(address, Arc::clone(&peer.totals)));
        peer.open.insert(id, Arc::clone(&usage));
        self.count += 1;
        (id, usage)
    }

    pub(super) fn remove(&mut self, address: Option<SocketAddr>, id: u64) {
        let peer = Peer::of(address);
        let Some(connections) = self.peers.get_mut(&peer) else { return };
        if connections.open.remove(&id).is_some() {
            self.count -= 1;
        }
        if connections.open.is_empty() {
            self.peers.remove(&peer);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The part of `most` bytes that each peer may use in any case.
    pub(super) fn share_of_peer(&self, most: usize) -> usize {
        (most / self.peers.len().max(1)).max(LEAST_SHARE)
    }

    /// The part of `most` bytes that each connection may use in any case.
    pub(super) fn share_of_connection(&self, most: usize) -> usize {
        most / self.count.max(1)
    }

    /// The connection to close: of the peer that waits for most, one that waits for much.
    pub(super) fn find_hoarder(&mut self) -> Option<Arc<Usage>> {
        let largest = self.peers.values_mut().max_by_key(|peer| peer.totals.waiting());
        largest.and_then(PeerConnections::find_hoarder)
    }
}

impl PeerConnections {
    /// The connection that waits for most, of the next few that wait for no less than the
    /// average, so that none is closed because of the first bytes of a frame while others
    /// wait for much.
    fn find_hoarder(&mut self) -> Option<Arc<Usage>> {
        let average = self.totals.waiting() / self.open.len().max(1);
        let mut largest = None;
        let (mut most, mut tries, mut next) = (0, 0, self.next);
        for (id, usage) in self.open.range(self.next..).chain(self.open.range(..self.next)) {
            let waiting = usage.waiting();
            if waiting == 0 {
                continue;
            }
            if most < waiting {
                most = waiting;
                largest = Some(Arc::clone(usage));
            }
            if waiting < average {
                continue;
            }
            next = id + 1;
            tries += 1;
            if tries == TRIES {
                break;
            }
        }
        self.next = next;
        largest
    }
}
