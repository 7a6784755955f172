//! A bound on the memory for calls in flight, over all connections.
//!
//! A call counts as [`CALL_BYTES`] and the bytes of its headers, its message and its
//! answer, from the first byte to the last. A connection that uses no more than its share
//! (the budget divided by the number of connections) is never refused, and neither is an
//! address (the budget divided by the number of addresses). When the budget is
//! used up and at least a quarter of it waits for peers (the rest of a message, or an
//! answer that the peer does not take), the connection with most of that is closed. In
//! other cases the new call is refused.

use std::{
    fmt, mem,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    metrics::{CutOff, Metrics},
    net::Peer,
    warnings::WarningLimiter,
};

mod body;
mod connections;

pub use self::body::{Body, ReadError, ReadLimits, Reader};
use self::connections::{Connections, PeerUsage};

/// The memory of a call without its headers and its message.
pub const CALL_BYTES: usize = 8 << 10;

/// The least share of a connection.
const LEAST_SHARE: usize = 2 * CALL_BYTES;

/// The budget of the process.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    /// Bytes in use, without those of connections that are being closed.
    used: AtomicUsize,
    /// Bytes that wait for peers.
    waiting: AtomicUsize,
    /// Bytes of connections that are being closed; they wait for nobody.
    closing: AtomicUsize,
    connections: Mutex<Connections>,
    metrics: Arc<Metrics>,
    refused: WarningLimiter,
    closed: WarningLimiter,
}

/// The bytes that one connection uses.
#[derive(Debug)]
struct Usage {
    address: Option<SocketAddr>,
    peer: Arc<PeerUsage>,
    bytes: Mutex<Bytes>,
    closed: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    used: usize,
    /// The part of `used` that waits for the peer.
    waiting: usize,
    /// Whether the connection is being closed.
    closed: bool,
}

impl Bytes {
    /// The bytes of a connection that is not being closed.
    fn open(self) -> usize {
        if self.closed { 0 } else { self.used }
    }

    fn waiting(self) -> usize {
        if self.closed { 0 } else { self.waiting }
    }

    fn closing(self) -> usize {
        if self.closed { self.used } else { 0 }
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
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closing: AtomicUsize::new(0),
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

    /// Counts a call that was ended because of its peer.
    pub fn count_cut_off(&self, reason: CutOff) {
        self.metrics.count_cut_off(reason);
    }

    /// Counts the difference between two states of a connection.
    fn update(&self, peer: &PeerUsage, before: Bytes, after: Bytes) {
        for (total, before, after) in [
            (&self.used, before.open(), after.open()),
            (&peer.used, before.open(), after.open()),
            (&self.waiting, before.waiting(), after.waiting()),
            (&self.closing, before.closing(), after.closing()),
        ] {
            // An atomic counter wraps around, so a decrease is an increase.
            if before != after {
                total.fetch_add(after.wrapping_sub(before), Relaxed);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.used.load(Relaxed) <= self.most
    }

    /// Whether a connection may use `bytes`, which count already. Closes other connections
    /// for it.
    fn make_room(&self, usage: &Usage, bytes: Bytes) -> bool {
        while !self.has_room() {
            // The memory of closed connections is free once their tasks have ended.
            if self.most / 4 <= self.closing.load(Relaxed)
                || self.waiting.load(Relaxed) < self.most / 4
            {
                break;
            }
            let hoarder = self.connections.lock().find_hoarder(self.most, bytes.waiting);
            let Some(hoarder) = hoarder else { break };
            self.close(&hoarder);
        }
        if self.has_room() {
            return true;
        }
        let connections = self.connections.lock();
        bytes.used <= connections.fair_share(self.most)
            || usage.peer.used.load(Relaxed) <= connections.fair_share_of_peer(self.most)
    }

    fn close(&self, usage: &Usage) {
        let Changed { before, .. } = usage.change(self, |bytes| bytes.closed = true);
        // Another call may have found it, too.
        if before.closed {
            return;
        }
        usage.closed.notify_one();
        self.count_cut_off(CutOff::ConnectionClosed);
        self.closed.warn(&Hoarder { peer: usage.address, bytes: before.waiting, most: self.most });
    }
}

/// The connection that is closed because it holds the most.
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
            " left {bytes} bytes of calls unfinished, more than any other peer, and the memory for \
             calls in flight is used up: {most} bytes (MAX_BYTES_IN_FLIGHT)"
        )
    }
}

/// The bytes of a connection before and after a change.
struct Changed {
    before: Bytes,
    after: Bytes,
}

impl Usage {
    fn new(address: Option<SocketAddr>, peer: Arc<PeerUsage>) -> Self {
        Self { address, peer, bytes: Mutex::default(), closed: Notify::new() }
    }

    /// Changes the bytes. The totals change under the same lock, so none is ever below 0.
    fn change(&self, budget: &Budget, change: impl FnOnce(&mut Bytes)) -> Changed {
        let mut bytes = self.bytes.lock();
        let before = *bytes;
        change(&mut bytes);
        let after = *bytes;
        budget.update(&self.peer, before, after);
        Changed { before, after }
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
        let mut held = Held { share: Arc::clone(self), bytes: 0, waits };
        held.grow(bytes)?;
        Ok(held)
    }

    fn change(&self, change: impl FnOnce(&mut Bytes)) -> Bytes {
        self.usage.change(&self.budget, change).after
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.connections.lock().remove(self.id);
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
        let after = self.share.change(|it| {
            it.used += bytes;
            if waits {
                it.waiting += bytes;
            }
        });
        self.bytes += bytes;
        let budget = &self.share.budget;
        let refusal = NoRoom { most: budget.most };
        if after.closed {
            self.shrink(bytes);
            return Err(refusal);
        }
        if budget.make_room(&self.share.usage, after) {
            return Ok(());
        }
        budget.count_cut_off(CutOff::NoRoom);
        budget.refused.warn(&refusal);
        self.shrink(bytes);
        Err(refusal)
    }

    /// The bytes, which this does not hold any more.
    fn take(&mut self) -> Self {
        let bytes = mem::take(&mut self.bytes);
        Self { share: Arc::clone(&self.share), bytes, waits: self.waits }
    }

    fn shrink(&mut self, bytes: usize) {
        let waits = self.waits;
        self.share.change(|it| {
            it.used -= bytes;
            if waits {
                it.waiting -= bytes;
            }
        });
        self.bytes -= bytes;
    }

    /// Sets whether the bytes are in use because of the peer.
    pub fn set_waits(&mut self, waits: bool) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
        let bytes = self.bytes;
        self.share.change(|it| {
            if waits {
                it.waiting += bytes;
            } else {
                it.waiting -= bytes;
            }
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
        self.set_waits(true);
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

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests;
