//! Connections by their peer, and the choice of one to close.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Closed, ConnectionBounds, FIRST_CALL, SILENCE};
use crate::{metrics::ClosedConnection, net::Peer};

/// The most connections to look at for one to close.
const TRIES: usize = 16;

/// A connection or a handshake.
#[derive(Debug)]
pub(super) struct Member {
    /// Its place in the order in which handshakes and connections began. A connection that was
    /// a handshake for long is no older than others that began at the same time.
    order: AtomicU64,
    /// When it became a handshake or a connection, in milliseconds from the start of the room.
    begin: AtomicU64,
    /// The time of the last call that was answered; 0 for none.
    last_call: AtomicU64,
    evict: Mutex<Option<oneshot::Sender<()>>>,
}

impl Member {
    pub(super) fn new(evict: oneshot::Sender<()>) -> Self {
        Self {
            order: AtomicU64::new(0),
            begin: AtomicU64::new(0),
            last_call: AtomicU64::new(0),
            evict: Mutex::new(Some(evict)),
        }
    }

    /// It becomes a handshake or a connection. Each call has a greater `order`. It must not be
    /// in a crowd.
    pub(super) fn begin(&self, order: u64, now: Duration) {
        self.order.store(order, Relaxed);
        self.begin.store(milliseconds(now), Relaxed);
    }

    pub(super) fn order(&self) -> u64 {
        self.order.load(Relaxed)
    }

    /// A call was answered.
    pub(super) fn note_call(&self, now: Duration) {
        self.last_call.store(milliseconds(now).max(1), Relaxed);
    }

    /// How soon it has to make room, the least first, or `None` if it does not have to:
    /// those without an answered call, and then those whose last one is longest ago. Of
    /// several, the one that became a connection first.
    fn rank(&self, now: Duration) -> Option<Rank> {
        let last_call = self.last_call.load(Relaxed);
        let (since, pause) = match last_call {
            0 => (self.begin.load(Relaxed), FIRST_CALL),
            _ => (last_call, SILENCE),
        };
        let is_silent = milliseconds(pause) <= milliseconds(now).saturating_sub(since);
        is_silent.then_some(Rank { last_call, order: self.order() })
    }

    fn evict(&self) {
        if let Some(sender) = self.evict.lock().take() {
            // An error means that the connection has just ended.
            let _ = sender.send(());
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The order in which members make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    last_call: u64,
    order: u64,
}

/// The order in which peers make room, the greatest first: the one with the most members, and
/// of several that with the oldest one. So the order of their addresses does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    count: usize,
    oldest: Reverse<u64>,
    peer: Peer,
}

/// Connections by their peer.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    peers: BTreeMap<Peer, PeerMembers>,
    /// The peer after which to look for the next silent member.
    last: Option<Peer>,
    /// All peers.
    standings: BTreeSet<Standing>,
    len: usize,
}

#[derive(Debug, Default)]
struct PeerMembers {
    /// By their order, so the oldest is the first.
    members: BTreeMap<u64, Arc<Member>>,
    /// The order from which to look for the next silent member, so that all get their turn.
    next: u64,
}

impl PeerMembers {
    /// The first to make room of the next few members, if they have to.
    fn find_silent(&mut self, tries: usize, now: Duration) -> Option<Rank> {
        let mut first: Option<Rank> = None;
        for _ in 0..tries.min(self.members.len()) {
            let mut turn = self.members.range(self.next..).chain(&self.members);
            let Some((order, member)) = turn.next() else { break };
            self.next = order + 1;
            if let Some(rank) = member.rank(now) {
                first = Some(first.map_or(rank, |first| first.min(rank)));
            }
        }
        first
    }
}

impl Crowd {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn count(&self, peer: Peer) -> usize {
        self.peers.get(&peer).map_or(0, |it| it.members.len())
    }

    /// The first peer to make room, and the number of its members.
    pub(super) fn largest_peer(&self) -> Option<(Peer, usize)> {
        self.standings.last().map(|it| (it.peer, it.count))
    }

    pub(super) fn insert(&mut self, peer: Peer, member: Arc<Member>) {
        let before = self.standing(peer);
        self.peers.entry(peer).or_default().members.insert(member.order(), member);
        self.update(peer, before);
    }

    /// Removes a member, if it is there.
    pub(super) fn remove(&mut self, peer: Peer, order: u64) -> Option<Arc<Member>> {
        let before = self.standing(peer);
        let members = &mut self.peers.get_mut(&peer)?.members;
        let removed = members.remove(&order)?;
        if members.is_empty() {
            self.peers.remove(&peer);
        }
        self.update(peer, before);
        Some(removed)
    }

    /// `None` if the peer has no members.
    fn standing(&self, peer: Peer) -> Option<Standing> {
        let members = &self.peers.get(&peer)?.members;
        let (oldest, _) = members.first_key_value()?;
        Some(Standing { count: members.len(), oldest: Reverse(*oldest), peer })
    }

    fn update(&mut self, peer: Peer, before: Option<Standing>) {
        if let Some(before) = before {
            self.standings.remove(&before);
            self.len -= before.count;
        }
        if let Some(after) = self.standing(peer) {
            self.standings.insert(after);
            self.len += after.count;
        }
    }

    /// Closes the oldest member of a peer.
    pub(super) fn evict_oldest(&mut self, peer: Peer) {
        let oldest = self.peers.get(&peer).and_then(|it| it.members.keys().next().copied());
        if let Some(order) = oldest {
            self.evict(peer, order);
        }
    }

    fn evict(&mut self, peer: Peer, order: u64) {
        if let Some(member) = self.remove(peer, order) {
            member.evict();
        }
    }

    /// Makes sure that there is a place for a connection of `peer`. Returns the member
    /// that was closed for it, or that the new connection is the one to close.
    pub(super) fn find_place(
        &mut self,
        peer: Peer,
        bounds: ConnectionBounds,
        now: Duration,
    ) -> Result<Option<Closed>, Closed> {
        let own = self.count(peer);
        let is_bounded = peer != Peer::Local;
        if is_bounded && bounds.most_per_peer.is_some_and(|most| most <= own) {
            let closed = Closed { reason: ClosedConnection::Peer, peer, count: own };
            return self.evict_silent_of(peer, now).then_some(Some(closed)).ok_or(closed);
        }
        if self.len < bounds.most {
            return Ok(None);
        }
        let Some((largest, count)) = self.largest_peer() else { return Ok(None) };
        let closed = Closed { reason: ClosedConnection::Full, peer: largest, count };
        if count <= bounds.few() {
            return self.evict_silent(now).then_some(Some(closed)).ok_or(closed);
        }
        if self.evict_silent_of(largest, now) {
            return Ok(Some(closed));
        }
        // A peer with few connections, such as a health check, is served in any case.
        if 2 * (own + 1) <= count {
            self.evict_oldest(largest);
            return Ok(Some(closed));
        }
        Err(closed)
    }

    fn evict_silent_of(&mut self, peer: Peer, now: Duration) -> bool {
        let Some(members) = self.peers.get_mut(&peer) else { return false };
        let Some(Rank { order, .. }) = members.find_silent(TRIES, now) else { return false };
        self.evict(peer, order);
        true
    }

    /// Closes a silent member of any peer.
    fn evict_silent(&mut self, now: Duration) -> bool {
        let mut first: Option<(Rank, Peer)> = None;
        for _ in 0..TRIES.min(self.peers.len()) {
            let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            let mut turn = self.peers.range((after, Bound::Unbounded)).chain(&self.peers);
            let Some((&peer, _)) = turn.next() else { break };
            self.last = Some(peer);
            let Some(members) = self.peers.get_mut(&peer) else { break };
            if let Some(rank) = members.find_silent(TRIES, now) {
                first = Some(first.map_or((rank, peer), |first| first.min((rank, peer))));
            }
        }
        let Some((Rank { order, .. }, peer)) = first else { return false };
        self.evict(peer, order);
        true
    }
}
