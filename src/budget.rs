//! A bound on the memory for calls in flight, over all connections.
//!
//! A call counts as [`CALL_BYTES`] and the bytes of its headers, its message and its
//! answer, from the first byte to the last. Its bytes wait while the peer has to send the
//! rest of the message or to take the answer. The others are in use for decisions.
//! [`Arriving`] counts what else arrives in part, such as heads and frames, and
//! [`CONNECTION_BYTES`] count once for a connection on which something waits for the peer.
//!
//! When the budget is used up and at least a quarter of it waits, a connection that waits
//! for much is closed, of the address that waits for most: for no less than the average of
//! its connections. So a call with a whole message is not refused because of unfinished ones:
//! only if decisions use three quarters of the budget, and its address and its connection more
//! than their shares. The share of an address is three quarters of the budget, divided by the
//! number of addresses; the share of a connection is a quarter, divided by the number of
//! connections. Shares are free even while the budget is used up, until connections have been
//! closed.

use std::{
    fmt, mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    metrics::{CutOff, Metrics},
    net::Peer,
    warnings::WarningLimiter,
};

mod arriving;
mod body;
mod connections;
mod totals;

pub use self::{
    arriving::Arriving,
    body::{Body, ReadError, ReadLimits, Reader},
};
use self::{connections::Connections, totals::Totals};

/// The memory of a call without its headers and its message.
pub const CALL_BYTES: usize = 8 << 10;

/// The memory of a connection with its buffers. It counts only while the peer has to send the
/// rest of something, or to take an answer: the number of idle connections has a bound of its own.
pub const CONNECTION_BYTES: usize = 24 << 10;

/// The least share of an address.
const LEAST_SHARE: usize = 2 * CALL_BYTES;

/// The budget of the process.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    totals: Totals,
    connections: Mutex<Connections>,
    metrics: Arc<Metrics>,
    refused: WarningLimiter,
    closed: WarningLimiter,
}

/// The bytes that one connection uses.
#[derive(Debug)]
struct Usage {
    address: Option<SocketAddr>,
    /// The sums over all connections of the peer.
    peer: Arc<Totals>,
    bytes: Mutex<Bytes>,
    closed: Notify,
}

/// The bytes of calls in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    /// Those that do not wait for the peer.
    deciding: usize,
    /// Those that wait for the peer, without those of the connection itself.
    waiting: usize,
    /// The number of things that the peer has to end, for which the connection counts.
    unfinished: usize,
    /// Whether the connection is being closed, so that they will be free soon.
    closed: bool,
}

impl Bytes {
    fn of_kind(&mut self, waits: bool) -> &mut usize {
        if waits { &mut self.waiting } else { &mut self.deciding }
    }

    fn all_waiting(self) -> usize {
        self.waiting + if 0 < self.unfinished { CONNECTION_BYTES } else { 0 }
    }
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory for calls in flight is used up: {most} bytes (MAX_BYTES_IN_FLIGHT)")]
pub struct NoRoom {
    most: usize,
}

/// A connection whose calls count in the budget.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    usage: Arc<Usage>,
    id: u64,
}

/// Bytes of a connection that are in use until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    bytes: usize,
    waits: bool,
    is_answer: bool,
}

/// The memory of a connection that is in use for the peer until this is dropped.
#[derive(Debug)]
pub struct HeldConnection {
    share: Arc<Share>,
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            totals: Totals::default(),
            connections: Mutex::default(),
            metrics,
            refused: WarningLimiter::new("a call was refused", "calls were refused"),
            closed: WarningLimiter::new("a connection was closed", "connections were closed"),
        })
    }

    /// The share of a new connection.
    pub fn connect(self: &Arc<Self>, peer: Option<SocketAddr>) -> Arc<Share> {
        let (id, usage) = self.connections.lock().add(peer);
        Arc::new(Share { budget: Arc::clone(self), usage, id })
    }

    /// Its bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Counts a call that was ended because of its peer.
    pub fn count_cut_off(&self, reason: CutOff) {
        self.metrics.count_cut_off(reason);
    }

    /// Returns true if there is room for all that counts, of whatever connection.
    fn has_plenty(&self) -> bool {
        self.totals.open() <= self.most && self.totals.deciding() <= self.most_deciding()
    }

    /// The part of the budget that decisions may use.
    fn most_deciding(&self) -> usize {
        self.most - self.most / 4
    }

    /// Whether bytes of a connection, which count already, have room. Closes connections
    /// for them.
    fn make_room(&self, usage: &Usage, held: &Held) -> bool {
        // The memory of closed connections is free once their tasks have ended.
        while self.most < self.totals.open()
            && self.most / 4 <= self.totals.waiting()
            && self.totals.closing() < self.most / 4
        {
            let Some(hoarder) = self.connections.lock().find_hoarder() else { break };
            self.close(&hoarder);
        }
        if usage.is_closed() {
            return false;
        }
        let has_room = match (held.waits, held.is_answer) {
            (false, _) => self.totals.deciding() <= self.most_deciding(),
            (true, false) => self.totals.open() <= self.most,
            // While connections are being closed, unfinished calls leave room for answers, and
            // a peer that takes its answers gets them in any case.
            (true, true) => {
                self.totals.open() <= self.most + self.most / 4 || usage.waits_for_little()
            }
        };
        if has_room {
            return true;
        }
        let connections = self.connections.lock();
        usage.peer.open() <= connections.share_of_peer(self.most_deciding())
            || usage.open() <= connections.share_of_connection(self.most / 4)
    }

    fn close(&self, usage: &Usage) {
        let before = usage.change(self, |bytes| bytes.closed = true);
        // Another call may have found it, too.
        if before.closed {
            return;
        }
        usage.closed.notify_one();
        self.count_cut_off(CutOff::ConnectionClosed);
        self.closed.warn(&Hoarder {
            peer: usage.address,
            bytes: before.all_waiting(),
            most: self.most,
        });
    }
}

/// The connection that is closed because its peer holds the most.
struct Hoarder {
    peer: Option<SocketAddr>,
    bytes: usize,
    most: usize,
}

impl fmt::Display for Hoarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, bytes, most } = self;
        match peer {
            Some(peer) => write!(f, "{peer}")?,
            None => f.write_str("a local peer")?,
        }
        write!(
            f,
            " left {bytes} bytes of calls unfinished on this connection, and more than any other peer \
             on all of its connections. The memory for calls in flight is used up: {most} bytes \
             (MAX_BYTES_IN_FLIGHT)"
        )
    }
}

impl Usage {
    fn new(address: Option<SocketAddr>, peer: Arc<Totals>) -> Self {
        Self { address, peer, bytes: Mutex::default(), closed: Notify::new() }
    }

    fn waiting(&self) -> usize {
        let bytes = *self.bytes.lock();
        if bytes.closed { 0 } else { bytes.all_waiting() }
    }

    /// Without the memory of the connection itself.
    fn open(&self) -> usize {
        let bytes = self.bytes.lock();
        bytes.deciding + bytes.waiting
    }

    fn waits_for_little(&self) -> bool {
        self.bytes.lock().waiting <= LEAST_SHARE
    }

    fn is_closed(&self) -> bool {
        self.bytes.lock().closed
    }

    /// Changes the bytes, and returns those of before. The totals change under the same
    /// lock, so none is ever below 0.
    fn change(&self, budget: &Budget, change: impl FnOnce(&mut Bytes)) -> Bytes {
        let mut bytes = self.bytes.lock();
        let before = *bytes;
        change(&mut bytes);
        for totals in [&budget.totals, &*self.peer] {
            totals.update(before, *bytes);
        }
        before
    }
}

impl Share {
    /// Closes the connection.
    pub fn close(&self) {
        self.usage.closed.notify_one();
    }

    /// Completes when the connection has to be closed.
    pub async fn closed(&self) {
        self.usage.closed.notified().await;
    }

    /// The address of the connection.
    pub fn peer(&self) -> Peer {
        Peer::of(self.usage.address)
    }

    /// The IP address of the connection; `None` on Unix sockets and within the process.
    pub fn address(&self) -> Option<IpAddr> {
        self.usage.address.map(|address| address.ip())
    }

    /// The budget that this is a share of.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Uses `bytes`. `waits` means that they are in use because of the peer.
    ///
    /// # Errors
    ///
    /// If the budget has no room.
    pub fn hold(self: &Arc<Self>, bytes: usize, waits: bool) -> Result<Held, NoRoom> {
        let mut held = Held { share: Arc::clone(self), bytes: 0, waits, is_answer: false };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Uses [`CONNECTION_BYTES`] as well, because something waits for the peer: once for all
    /// that waits at the same time. The connection has them already, so they are not refused.
    pub fn hold_connection(self: &Arc<Self>) -> HeldConnection {
        self.change(|it| it.unfinished += 1);
        HeldConnection { share: Arc::clone(self) }
    }

    /// Uses `bytes` of an answer, until the peer has taken them.
    ///
    /// # Errors
    ///
    /// If the budget has no room.
    pub fn hold_answer(self: &Arc<Self>, bytes: usize) -> Result<Held, NoRoom> {
        let mut held = Held { share: Arc::clone(self), bytes: 0, waits: true, is_answer: true };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Returns the bytes of before.
    fn change(&self, change: impl FnOnce(&mut Bytes)) -> Bytes {
        self.usage.change(&self.budget, change)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.connections.lock().remove(self.usage.address, self.id);
    }
}

impl Held {
    /// Uses more bytes.
    ///
    /// # Errors
    ///
    /// If the budget has no room; nothing has changed then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let waits = self.waits;
        let before = self.share.change(|it| *it.of_kind(waits) += bytes);
        self.bytes += bytes;
        self.check_room(before).inspect_err(|_| self.shrink(bytes))
    }

    /// Its bytes become those of an answer, until the peer has taken it: so many from now on.
    ///
    /// # Errors
    ///
    /// If the budget has no room for them.
    pub fn become_answer(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let (waited, before) = (self.waits, self.bytes);
        (self.waits, self.is_answer, self.bytes) = (true, true, bytes);
        let usage = self.share.change(|it| {
            *it.of_kind(waited) -= before;
            *it.of_kind(true) += bytes;
        });
        self.check_room(usage)
    }

    /// Returns an error if there is no room for the bytes of this. `before` are those of the
    /// connection before they changed.
    fn check_room(&self, before: Bytes) -> Result<(), NoRoom> {
        if !before.closed && self.share.budget.has_plenty() {
            return Ok(());
        }
        self.make_room()
    }

    /// Uses so many bytes from now on, more or fewer.
    ///
    /// # Errors
    ///
    /// If the budget has no room for more; nothing has changed then.
    fn set(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if self.bytes < bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }

    fn make_room(&self) -> Result<(), NoRoom> {
        let Share { budget, usage, .. } = &*self.share;
        if budget.make_room(usage, self) {
            return Ok(());
        }
        let refusal = NoRoom { most: budget.most };
        if !usage.is_closed() {
            budget.count_cut_off(CutOff::NoRoom);
            budget.refused.warn(&refusal);
        }
        Err(refusal)
    }

    /// The bytes, which this does not hold any more.
    fn take(&mut self) -> Self {
        let bytes = mem::take(&mut self.bytes);
        Self { share: Arc::clone(&self.share), bytes, waits: self.waits, is_answer: self.is_answer }
    }

    fn shrink(&mut self, bytes: usize) {
        let waits = self.waits;
        if 0 < bytes {
            self.share.change(|it| *it.of_kind(waits) -= bytes);
            self.bytes -= bytes;
        }
    }

    /// The bytes wait for the peer from now on.
    ///
    /// # Errors
    ///
    /// If the budget has no room for what waits.
    pub fn wait(&mut self) -> Result<(), NoRoom> {
        if self.waits {
            return Ok(());
        }
        self.set_waits(true);
        self.make_room()
    }

    /// The bytes do not wait for the peer any more.
    pub fn stop_waiting(&mut self) {
        self.set_waits(false);
    }

    fn set_waits(&mut self, waits: bool) {
        if self.waits == waits {
            return;
        }
        let (before, bytes) = (self.waits, self.bytes);
        self.waits = waits;
        self.share.change(|it| {
            *it.of_kind(before) -= bytes;
            *it.of_kind(waits) += bytes;
        });
    }
}

impl Held {
    /// Text for the peer that counts until the peer has taken it.
    ///
    /// # Errors
    ///
    /// If the budget has no room.
    pub fn attach(mut self, text: String) -> Result<bytes::Bytes, NoRoom> {
        self.is_answer = true;
        self.wait()?;
        self.grow(text.capacity())?;
        Ok(bytes::Bytes::from_owner(HeldText { text, _held: self }))
    }
}

struct HeldText {
    text: String,
    _held: Held,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for HeldConnection {
    fn drop(&mut self) {
        self.share.change(|it| it.unfinished -= 1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests;
