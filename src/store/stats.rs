//! Statistics of counter stores.

use std::{fmt, sync::OnceLock};

/// The statistics of the stores of one process.
///
/// Each store registers itself when it is built; metrics then read the present values.
#[derive(Default)]
pub struct StoreStats {
    pub(super) memory: Source<MemoryUsage>,
    pub(super) deny_cache: Source<DenyCacheUsage>,
    pub(super) main: Source<PoolUsage>,
    pub(super) per_second: Source<PoolUsage>,
}

impl fmt::Debug for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreStats").finish_non_exhaustive()
    }
}

impl StoreStats {
    /// The usage of the in-memory store. `None` if the process has none.
    pub fn memory(&self) -> Option<MemoryUsage> {
        self.memory.read()
    }

    /// The usage of the deny cache. `None` if it is disabled.
    pub fn deny_cache(&self) -> Option<DenyCacheUsage> {
        self.deny_cache.read()
    }

    /// The usage of the connection pools.
    pub fn pools(&self) -> Pools {
        Pools { main: self.main.read(), per_second: self.per_second.read() }
    }
}

/// A function that returns present values, once a store has registered it.
pub(super) struct Source<T>(OnceLock<Box<dyn Fn() -> T + Send + Sync>>);

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Source<T> {
    /// Registers the source. Later calls have no effect: a process has one store of each
    /// kind.
    pub(super) fn register(&self, read: impl Fn() -> T + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(read));
    }

    fn read(&self) -> Option<T> {
        let read = self.0.get()?;
        Some(read())
    }
}

/// The usage of the connections to Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// The connections for all limits without a pool of their own. `None` without Redis.
    pub main: Option<PoolUsage>,
    /// The connections for limits per second. `None` if these use the main pool.
    pub per_second: Option<PoolUsage>,
}

/// The usage of one pool, which may have connections to several servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Connections that are open now.
    pub active: u64,
    /// Connections opened since the start.
    pub opened: u64,
    /// Connections closed since the start.
    pub closed: u64,
    /// Calls in the queue, which are not sent until earlier calls have a reply.
    pub waiting: u64,
    /// Servers that do not respond. Calls to them fail at once.
    pub unresponsive: u64,
    /// Calls since the start that a server refused because its memory is full.
    pub out_of_memory: u64,
    /// Refunds since the start of hits that were granted or reserved in vain, one for
    /// each counter.
    pub refunded: u64,
    /// Such refunds that failed. A reservation expires anyway; hits that were granted too
    /// late stay counted.
    pub failed_refunds: u64,
}

/// The usage of the in-memory store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Counters in memory now, including expired ones.
    pub counters: usize,
    /// The size of the counters, in the bytes of [`Bounds`](super::memory::Bounds).
    pub bytes: usize,
    /// Counters evicted before they expired, since the start.
    pub evicted: u64,
    /// Charges since the start that were decided but not counted, because no counter could
    /// be evicted for them.
    pub uncounted: u64,
}

/// The usage of the deny cache. All values but `entries` count since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenyCacheUsage {
    /// Denials in the cache now, including expired ones that are not removed yet.
    pub entries: u64,
    /// Cache hits: lookups answered without a store call.
    pub hits: u64,
    /// Cache misses: lookups after which the store was called.
    pub misses: u64,
    /// Denials removed because they had expired.
    pub expired: u64,
    /// Denials removed to make room.
    pub evicted: u64,
    /// Denials replaced by a newer one of the same counter.
    pub overwritten: u64,
}
