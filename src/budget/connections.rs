//! The connections that share the budget, by their peer, and the choice of one to close.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::time::Instant;

use super::{LEAST_SHARE, Usage};
use crate::net::Peer;

/// The pause after a search that found no connection to close.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    next_id: u64,
    open: HashMap<u64, Arc<Usage>>,
    peers: HashMap<Peer, PeerConnections>,
    in_vain: Option<VainSearch>,
}

#[derive(Debug, Default)]
struct PeerConnections {
    usage: Arc<PeerUsage>,
    count: usize,
}

/// The last search that found no connection to close.
#[derive(Clone, Copy, Debug)]
struct VainSearch {
    at: Instant,
    /// The bytes that waited for the connection that searched.
    own: usize,
}

/// The bytes that the connections of one peer use.
#[derive(Debug, Default)]
pub(super) struct PeerUsage {
    /// Without those of connections that are being closed.
    pub(super) used: AtomicUsize,
}

impl Connections {
    /// Adds a connection that uses nothing. Returns its ID, too.
    pub(super) fn add(&mut self, address: Option<SocketAddr>) -> (u64, Arc<Usage>) {
        let connections = self.peers.entry(Peer::of(address)).or_default();
        connections.count += 1;
        let usage = Arc::new(Usage::new(address, Arc::clone(&connections.usage)));
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, Arc::clone(&usage));
        (id, usage)
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(usage) = self.open.remove(&id) else { return };
        let peer = Peer::of(usage.address);
        if let Some(connections) = self.peers.get_mut(&peer) {
            connections.count -= 1;
            if connections.count == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.peers.is_empty()
    }

    /// The part of a budget of `most` bytes that each connection may use in any case.
    pub(super) fn fair_share(&self, most: usize) -> usize {
        (most / self.open.len().max(1)).max(LEAST_SHARE)
    }

    /// The part of a budget of `most` bytes that the connections of a peer may use together
    /// in any case.
    pub(super) fn fair_share_of_peer(&self, most: usize) -> usize {
        most / self.peers.len().max(1)
    }

    /// The connection to close for another one, for which `own` bytes wait: the one that
    /// waits for most, if that is above its share.
    ///
    /// Does not search shortly after a search in vain of a connection that waits for as
    /// little. One that waits for much does not keep others from a search of their own.
    pub(super) fn find_hoarder(&mut self, most: usize, own: usize) -> Option<Arc<Usage>> {
        let now = Instant::now();
        if let Some(last) = self.in_vain
            && last.own <= own
            && now.saturating_duration_since(last.at) < SEARCH_PAUSE
        {
            return None;
        }
        let mut largest = None;
        let mut found = self.fair_share(most).max(own);
        for usage in self.open.values() {
            let waiting = usage.bytes.lock().waiting();
            if found < waiting {
                found = waiting;
                largest = Some(usage);
            }
        }
        self.in_vain = if largest.is_some() { None } else { Some(VainSearch { at: now, own }) };
        largest.cloned()
    }
}
