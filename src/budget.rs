//! A bound on the memory for calls in flight, over all connections.
//!
//! A call counts as [`CALL_BYTES`] and the bytes of its headers, its message and its
//! answer, from the first byte to the last. A connection that uses no more than its share
//! (the budget divided by the number of connections) is never refused. When the budget is
//! used up and at least a quarter of it waits for peers (the rest of a message, or an
//! answer that the peer does not take), the connection with most of that is closed. In
//! other cases the new call is refused.

use std::{
    collections::HashMap,
    fmt, mem,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    metrics::{CutOff, Metrics},
    warnings::WarningLimiter,
};

mod body;

pub use self::body::{Body, ReadError, ReadLimits, Reader};

/// The memory of a call without its headers and its message.
pub const CALL_BYTES: usize = 8 << 10;

/// The least share of a connection.
const LEAST_SHARE: usize = 2 * CALL_BYTES;

/// The pause after a search for a connection to close that found none.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

/// The budget of the process.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    /// Bytes in use.
    used: AtomicUsize,
    /// The part of `used` that waits for peers.
    waiting: AtomicUsize,
    /// The part of `used` of connections that are being closed; it waits for nobody.
    closing: AtomicUsize,
    connections: Mutex<Connections>,
    metrics: Arc<Metrics>,
    refused: WarningLimiter,
    closed: WarningLimiter,
}

#[derive(Debug, Default)]
struct Connections {
    next_id: u64,
    open: HashMap<u64, Arc<Usage>>,
    in_vain: Option<VainSearch>,
}

/// The last search that found no connection to close.
#[derive(Clone, Copy, Debug)]
struct VainSearch {
    at: Instant,
    /// No connection waited for more.
    least: usize,
}

/// The bytes that one connection uses.
#[derive(Debug)]
struct Usage {
    peer: Option<SocketAddr>,
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
        let usage = Arc::new(Usage { peer, bytes: Mutex::default(), closed: Notify::new() });
        let mut connections = self.connections.lock();
        let id = connections.next_id;
        connections.next_id += 1;
        connections.open.insert(id, Arc::clone(&usage));
        drop(connections);
        Arc::new(Share { budget: Arc::clone(self), usage, id })
    }

    /// Counts a call that was ended because of its peer.
    pub fn count_cut_off(&self, reason: CutOff) {
        self.metrics.count_cut_off(reason);
    }

    /// Counts the difference between two states of a connection.
    fn update(&self, before: Bytes, after: Bytes) {
        for (total, before, after) in [
            (&self.used, before.used, after.used),
            (&self.waiting, before.waiting(), after.waiting()),
            (&self.closing, before.closing(), after.closing()),
        ] {
            // An atomic counter wraps around, so a decrease is an increase.
            if before != after {
                total.fetch_add(after.wrapping_sub(before), Relaxed);
            }
        }
    }

    /// Whether the budget has room, apart from the bytes of connections that are being
    /// closed.
    fn has_room(&self) -> bool {
        self.used.load(Relaxed).saturating_sub(self.closing.load(Relaxed)) <= self.most
    }

    /// Whether a connection may use `bytes`, which count already. Closes other connections
    /// for it.
    fn make_room(&self, bytes: Bytes) -> bool {
        let mut share = None;
        while !self.has_room() {
            // The memory of closed connections is free once their tasks have ended.
            if self.most / 4 <= self.closing.load(Relaxed)
                || self.waiting.load(Relaxed) < self.most / 4
            {
                break;
            }
            let mut connections = self.connections.lock();
            let fair = self.fair_share(&connections);
            share = Some(fair);
            let Some(largest) = connections.largest_above(fair.max(bytes.waiting)) else { break };
            drop(connections);
            self.close(&largest);
        }
        self.has_room()
            || bytes.used <= share.unwrap_or_else(|| self.fair_share(&self.connections.lock()))
    }

    fn fair_share(&self, connections: &Connections) -> usize {
        (self.most / connections.open.len().max(1)).max(LEAST_SHARE)
    }

    fn close(&self, usage: &Usage) {
        let (before, after) = usage.change(|bytes| bytes.closed = true);
        // Another call may have found it, too.
        if before.closed {
            return;
        }
        self.update(before, after);
        usage.closed.notify_one();
        self.count_cut_off(CutOff::ConnectionClosed);
        self.closed.warn(&Hoarder { peer: usage.peer, bytes: before.waiting, most: self.most });
    }
}

impl Connections {
    /// The connection that waits for most, if that is more than `least`. Does not search
    /// shortly after it has found none. A connection that holds much itself searches in
    /// vain, which does not keep others from a search of their own.
    fn largest_above(&mut self, least: usize) -> Option<Arc<Usage>> {
        let now = Instant::now();
        if let Some(last) = self.in_vain
            && last.least <= least
            && now.saturating_duration_since(last.at) < SEARCH_PAUSE
        {
            return None;
        }
        let mut most = least;
        let mut largest = None;
        for usage in self.open.values() {
            let waiting = usage.bytes.lock().waiting();
            if most < waiting {
                most = waiting;
                largest = Some(usage);
            }
        }
        self.in_vain = if largest.is_some() { None } else { Some(VainSearch { at: now, least }) };
        largest.cloned()
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

impl Usage {
    /// Changes the bytes; returns them as they were before and are after.
    fn change(&self, change: impl FnOnce(&mut Bytes)) -> (Bytes, Bytes) {
        let mut bytes = self.bytes.lock();
        let before = *bytes;
        change(&mut bytes);
        (before, *bytes)
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
        let (before, after) = self.usage.change(change);
        self.budget.update(before, after);
        after
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.connections.lock().open.remove(&self.id);
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
        if budget.make_room(after) {
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
