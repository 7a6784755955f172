//! Connections by their peer, and the choice of one to close.

use std::{
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
    id: u64,
    /// When it became a handshake or a connection, in milliseconds from the start of the room.
    begin: AtomicU64,
    /// The time of the last call that was answered; 0 for none.
    last_call: AtomicU64,
    evict: Mutex<Option<oneshot::Sender<()>>>,
}

impl Member {
    /// `id` grows with each new member.
    pub(super) fn new(id: u64, evict: oneshot::Sender<()>) -> Self {
        let evict = Mutex::new(Some(evict));
        Self { id, begin: AtomicU64::new(0), last_call: AtomicU64::new(0), evict }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A call was answered.
    pub(super) fn note_call(&self, now: Duration) {
        self.last_call.store(milliseconds(now).max(1), Relaxed);
    }

    /// How soon it has to make room, the least first, or `None` if it does not have to:
    /// those without an answered call, and those whose last one is longest ago.
    fn rank(&self, now: Duration) -> Option<Rank> {
        let last_call = self.last_call.load(Relaxed);
        let (since, pause) = match last_call {
            0 => (self.begin.load(Relaxed), FIRST_CALL),
            _ => (last_call, SILENCE),
        };
        let is_silent = milliseconds(pause) <= milliseconds(now).saturating_sub(since);
        is_silent.then_some(Rank { last_call, id: self.id })
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
    id: u64,
}

/// Connections by their peer.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    peers: BTreeMap<Peer, PeerMembers>,
    /// The peer after which to look for the next silent member.
    last: Option<Peer>,
    /// All peers, by the number of their members.
    by_count: BTreeSet<(usize, Peer)>,
    len: usize,
}

#[derive(Debug, Default)]
struct PeerMembers {
    /// By their IDs, so the oldest is the first.
    members: BTreeMap<u64, Arc<Member>>,
    /// The ID from which to look for the next silent member, so that all get their turn.
    next: u64,
}

impl PeerMembers {
    /// The first to make room of the next few members, if they have to.
    fn find_silent(&mut self, tries: usize, now: Duration) -> Option<Rank> {
        let mut first: Option<Rank> = None;
        for _ in 0..tries.min(self.members.len()) {
            let mut turn = self.members.range(self.next..).chain(&self.members);
            let Some((id, member)) = turn.next() else { break };
            self.next = id + 1;
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

    /// The peer with the most members, and their number.
    pub(super) fn largest_peer(&self) -> Option<(Peer, usize)> {
        self.by_count.last().map(|(count, peer)| (*peer, *count))
    }

    pub(super) fn insert(&mut self, peer: Peer, member: Arc<Member>, now: Duration) {
        member.begin.store(milliseconds(now), Relaxed);
        let members = &mut self.peers.entry(peer).or_default().members;
        let before = members.len();
        members.insert(member.id, member);
        let after = members.len();
        self.recount(peer, before, after);
    }

    /// Removes a member, if it is there.
    pub(super) fn remove(&mut self, peer: Peer, id: u64) -> Option<Arc<Member>> {
        let members = &mut self.peers.get_mut(&peer)?.members;
        let before = members.len();
        let removed = members.remove(&id)?;
        let after = members.len();
        if after == 0 {
            self.peers.remove(&peer);
        }
        self.recount(peer, before, after);
        Some(removed)
    }

    fn recount(&mut self, peer: Peer, before: usize, after: usize) {
        self.by_count.remove(&(before, peer));
        if 0 < after {
            self.by_count.insert((after, peer));
        }
        self.len = self.len + after - before;
    }

    /// Closes the oldest member of a peer.
    pub(super) fn evict_oldest(&mut self, peer: Peer) {
        let oldest = self.peers.get(&peer).and_then(|it| it.members.keys().next().copied());
        if let Some(id) = oldest {
            self.evict(peer, id);
        }
    }

    fn evict(&mut self, peer: Peer, id: u64) {
        if let Some(member) = self.remove(peer, id) {
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
        let Some(Rank { id, .. }) = members.find_silent(TRIES, now) else { return false };
        self.evict(peer, id);
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
        let Some((Rank { id, .. }, peer)) = first else { return false };
        self.evict(peer, id);
        true
    }
}
