//! The places for the connections of one listener, so that no peer can take them all.
//!
//! A connection is first a handshake, until its TLS handshake is done and the preface of
//! its protocol has arrived. Handshakes have places of their own: if these are used up, the
//! oldest handshake of the address with the most of them is closed. Then the connection
//! takes one of `MAX_CONNECTIONS` places. If its address has as many as it may, or if there
//! is none left, a silent connection is closed for it: of the same address, or of that
//! with the most. If all addresses have few, none of them is to blame, and it may be of any.
//! One without an answered call is closed before others. If none is silent, the new
//! connection is closed; but if its address has less than half as many as that with the
//! most, the oldest of the latter is.
//!
//! Age breaks all ties, and never the order of addresses: of addresses with as many, the one
//! with the oldest is to blame, and of connections with calls as long ago, or none, the oldest
//! is closed. A connection's age counts from the end of its handshake, so one whose preface
//! arrives late is the youngest then.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

mod crowd;
mod watched;

use self::crowd::{Crowd, Member};
pub(super) use self::watched::Watched;
use super::Purpose;
use crate::{
    metrics::{ClosedConnection, Metrics},
    net::Peer,
    warnings::WarningLimiter,
};

/// A connection is silent if no call was answered for this time.
const SILENCE: Duration = Duration::from_secs(2);

/// A new connection is silent if no call was answered until then.
const FIRST_CALL: Duration = Duration::from_millis(200);

/// Addresses with so many connections have few.
const FEW: usize = 16;

/// The fewest places for handshakes.
const MIN_HANDSHAKES: usize = 16;

/// The bounds on the connections of each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBounds {
    /// The most connections, at least 1.
    pub most: usize,
    /// The most connections of one address, at least 1; `None` for no bound. Connections of a
    /// unix socket have no address.
    pub most_per_peer: Option<usize>,
}

impl ConnectionBounds {
    /// The most handshakes at a time: beside the connections, and far more than clients have
    /// that start at the same time.
    pub fn most_handshakes(&self) -> usize {
        (self.most / 4).max(MIN_HANDSHAKES)
    }

    /// The connections that an address can have without being to blame for a lack of places.
    fn few(&self) -> usize {
        (self.most / 4).min(FEW)
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Room {
    purpose: Purpose,
    bounds: ConnectionBounds,
    start: Instant,
    members: Mutex<Members>,
    metrics: OnceLock<Arc<Metrics>>,
    warnings: Warnings,
}

#[derive(Debug, Default)]
struct Members {
    handshakes: Crowd,
    connections: Crowd,
    /// The number of handshakes and connections that have begun.
    begun: u64,
}

impl Members {
    fn next_order(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }
}

#[derive(Debug)]
struct Warnings {
    nearly_full: WarningLimiter,
    full: WarningLimiter,
    peer: WarningLimiter,
    handshakes: WarningLimiter,
}

impl Default for Warnings {
    fn default() -> Self {
        let often = "connections were closed";
        Self {
            nearly_full: WarningLimiter::new(
                "few places for connections are left",
                "connections were opened while few places were left",
            ),
            full: WarningLimiter::new("a connection was closed", often),
            peer: WarningLimiter::new("a connection was closed", often),
            handshakes: WarningLimiter::new(
                "an unfinished handshake was closed",
                "unfinished handshakes were closed",
            ),
        }
    }
}

/// The place of a connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    peer: Peer,
    member: Arc<Member>,
    established: bool,
}

/// A connection was closed so that others have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closed {
    reason: ClosedConnection,
    /// The address to blame, and its connections.
    peer: Peer,
    count: usize,
}

impl Room {
    pub(super) fn new(purpose: Purpose, bounds: ConnectionBounds) -> Arc<Self> {
        Arc::new(Self {
            purpose,
            bounds,
            start: Instant::now(),
            members: Mutex::default(),
            metrics: OnceLock::new(),
            warnings: Warnings::default(),
        })
    }

    /// Reports to `metrics` from now on. Only the first call has an effect.
    pub(super) fn report_to(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
        // Shown from the start.
        self.with_metrics(|it, label| {
            it.add_connections(label, 0);
            it.add_handshakes(label, 0);
        });
    }

    /// The place of a new connection, as a handshake, and its stream, which fails once the
    /// connection has to make room for others.
    pub(super) fn enter<S>(
        self: &Arc<Self>,
        stream: S,
        address: Option<SocketAddr>,
    ) -> (Place, Watched<S>) {
        let peer = Peer::of(address);
        let (sender, evicted) = oneshot::channel();
        let mut members = self.members.lock();
        let member = Arc::new(Member::new(sender));
        let mut closed = None;
        if self.bounds.most_handshakes() <= members.handshakes.len()
            && let Some((peer, count)) = members.handshakes.largest_peer()
        {
            members.handshakes.evict_oldest(peer);
            closed = Some(Closed { reason: ClosedConnection::Handshake, peer, count });
        }
        member.begin(members.next_order(), self.now());
        members.handshakes.insert(peer, Arc::clone(&member));
        drop(members);
        self.with_metrics(|it, label| it.add_handshakes(label, 1));
        if let Some(closed) = closed {
            self.report(closed);
        }
        let place = Place { room: Arc::clone(self), peer, member, established: false };
        (place, Watched { stream, evicted })
    }

    /// Makes a handshake a connection. `Err` if it has been closed, or if there is no place
    /// for it.
    fn establish(&self, peer: Peer, member: &Arc<Member>) -> Result<(), ()> {
        let mut members = self.members.lock();
        if members.handshakes.remove(peer, member.order()).is_none() {
            return Err(());
        }
        let found = members.connections.find_place(peer, self.bounds, self.now());
        if found.is_ok() {
            member.begin(members.next_order(), self.now());
            members.connections.insert(peer, Arc::clone(member));
        }
        let count = members.connections.len();
        drop(members);
        let (result, closed) = match found {
            Ok(closed) => (Ok(()), closed),
            Err(closed) => (Err(()), Some(closed)),
        };
        if let Some(closed) = closed {
            self.report(closed);
        }
        if result.is_ok() {
            self.with_metrics(|it, label| {
                it.add_handshakes(label, -1);
                it.add_connections(label, 1);
            });
            // Nine tenths.
            if self.bounds.most - self.bounds.most / 10 <= count {
                self.warnings.nearly_full.warn(&format!(
                    "the {} listener has {count} of {} connections (MAX_CONNECTIONS)",
                    self.purpose, self.bounds.most
                ));
            }
        }
        result
    }

    fn report(&self, closed: Closed) {
        let Closed { reason, peer, count } = closed;
        self.with_metrics(|it, _| it.count_closed_connection(reason));
        let purpose = self.purpose;
        let ConnectionBounds { most, most_per_peer } = self.bounds;
        match reason {
            ClosedConnection::Full => self.warnings.full.warn(&format!(
                "the {purpose} listener has all of its {most} connections (MAX_CONNECTIONS), \
                 {count} of them from {peer}"
            )),
            ClosedConnection::Peer => self.warnings.peer.warn(&format!(
                "the {purpose} listener has {count} connections from {peer}, and at most {} are \
                 allowed from one address (MAX_CONNECTIONS_PER_PEER)",
                most_per_peer.unwrap_or(most)
            )),
            ClosedConnection::Handshake => self.warnings.handshakes.warn(&format!(
                "the {purpose} listener has {} unfinished handshakes, a fourth of MAX_CONNECTIONS, \
                 {count} of them from {peer}",
                self.bounds.most_handshakes()
            )),
        }
    }

    fn with_metrics(&self, report: impl FnOnce(&Metrics, &'static str)) {
        if let Some(metrics) = self.metrics.get() {
            report(metrics, self.purpose.label());
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Tells the room of a connection about its calls.
#[derive(Clone, Debug)]
pub struct Activity {
    room: Arc<Room>,
    member: Arc<Member>,
}

impl Activity {
    /// A call was answered.
    pub fn note_call(&self) {
        self.member.note_call(self.room.now());
    }
}

impl Place {
    pub(super) fn activity(&self) -> Activity {
        Activity { room: Arc::clone(&self.room), member: Arc::clone(&self.member) }
    }

    /// Takes the place of a connection, now that the handshake is done.
    ///
    /// # Errors
    ///
    /// If there is no place, and no other connection can be closed for it.
    pub(super) fn establish(&mut self) -> io::Result<()> {
        if self.established {
            return Ok(());
        }
        match self.room.establish(self.peer, &self.member) {
            Ok(()) => {
                self.established = true;
                Ok(())
            }
            Err(()) => Err(no_place()),
        }
    }
}

fn no_place() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room for other connections")
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.room.members.lock();
        let crowd =
            if self.established { &mut members.connections } else { &mut members.handshakes };
        crowd.remove(self.peer, self.member.order());
        drop(members);
        let established = self.established;
        self.room.with_metrics(|it, label| {
            if established {
                it.add_connections(label, -1);
            } else {
                it.add_handshakes(label, -1);
            }
        });
    }
}

#[cfg(test)]
mod tests;
