//! The connections that share the budget, by their peer, and the choice of one to close.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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

#[derive(Debug)]
struct PeerConnections {
    usage: Arc<PeerUsage>,
    count: usize,
    in_vain: Option<VainSearch>,
}

/// The last search that found no connection to close.
#[derive(Clone, Copy, Debug)]
struct VainSearch {
    at: Instant,
    /// The bytes that waited for the connection that searched.
    own: usize,
}

impl VainSearch {
    /// Whether a connection for which `own` bytes wait would search in vain, too.
    fn covers(self, own: usize, now: Instant) -> bool {
        self.own <= own && now.saturating_duration_since(self.at) < SEARCH_PAUSE
    }
}

/// The bytes that all connections of one peer use, without those that are being closed.
#[derive(Debug)]
pub(super) struct PeerUsage {
    used: AtomicUsize,
    /// The bytes above which it has no room, and does not take room from others.
    most: usize,
}

impl PeerUsage {
    pub(super) fn has_room(&self) -> bool {
        self.used.load(Relaxed) <= self.most
    }

    /// Counts the change of a connection from `before` to `after` bytes. Returns the bytes
    /// of the peer before and after it, up to the most.
    pub(super) fn update(&self, before: usize, after: usize) -> [usize; 2] {
        // It wraps around, so a decrease is an increase.
        let change = after.wrapping_sub(before);
        let old = self.used.fetch_add(change, Relaxed);
        [old, old.wrapping_add(change)].map(|used| used.min(self.most))
    }
}

impl Connections {
    /// Adds a connection that uses nothing. A peer with an address may use `most_per_peer`
    /// bytes. Returns its ID, too.
    pub(super) fn add(
        &mut self,
        address: Option<SocketAddr>,
        most_per_peer: usize,
    ) -> (u64, Arc<Usage>) {
        let peer = Peer::of(address);
        let connections = self.peers.entry(peer).or_insert_with(|| {
            let most = if peer == Peer::Local { usize::MAX } else { most_per_peer };
            let usage = Arc::new(PeerUsage { used: AtomicUsize::new(0), most });
            PeerConnections { usage, count: 0, in_vain: None }
        });
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

    /// The connection to close for another one, for which `own` bytes wait: the one that
    /// waits for most, if that is above its share. If `peer` is set, one of that peer.
    ///
    /// Does not search shortly after a search in vain of a connection that waits for as
    /// little. One that waits for much does not keep others from a search of their own.
    pub(super) fn find_hoarder(
        &mut self,
        most: usize,
        own: usize,
        peer: Option<Peer>,
    ) -> Option<Arc<Usage>> {
        let least = self.fair_share(most).max(own);
        let in_vain = match peer {
            None => &mut self.in_vain,
            Some(peer) => &mut self.peers.get_mut(&peer)?.in_vain,
        };
        let now = Instant::now();
        if in_vain.is_some_and(|last| last.covers(own, now)) {
            return None;
        }
        let mut largest = None;
        let mut found = least;
        for usage in self.open.values() {
            if peer.is_some_and(|peer| peer != Peer::of(usage.address)) {
                continue;
            }
            let waiting = usage.bytes.lock().waiting();
            if found < waiting {
                found = waiting;
                largest = Some(usage);
            }
        }
        *in_vain = if largest.is_some() { None } else { Some(VainSearch { at: now, own }) };
        largest.cloned()
    }
}
