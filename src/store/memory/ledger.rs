//! How much is kept, and whose it is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tracing::warn;

use super::Bounds;
use crate::time::Timestamp;

/// How often it is said that there is no room.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What all counters of all shards add up to. One lock guards it, which is held for no
/// longer than it takes to find a counter that gives way, and never waits for a shard.
#[derive(Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    pub(super) bytes: usize,
    pub(super) counters: usize,
    /// Counters that gave way before they had ended.
    pub(super) evicted: u64,
    /// Charges that were decided and not kept.
    pub(super) not_kept: u64,
    said: Option<Timestamp>,
    /// Only of domains that have counters.
    numbers: HashMap<Arc<[u8]>, u16>,
    domains: Vec<Domain>,
    /// Numbers of no domain.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Domain {
    name: Arc<[u8]>,
    bytes: usize,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            counters: 0,
            evicted: 0,
            not_kept: 0,
            said: None,
            numbers: HashMap::new(),
            domains: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Whether so many more counters and bytes fit without anything giving way.
    pub(super) fn fits(&self, counters: usize, bytes: usize) -> bool {
        let keys = self.bounds.keys.unwrap_or(usize::MAX);
        self.counters.saturating_add(counters) <= keys
            && self.bytes.saturating_add(bytes) <= self.bounds.bytes
    }

    /// How many bytes the domain with this number takes.
    pub(super) fn taken(&self, domain: u16) -> usize {
        self.domains.get(usize::from(domain)).map_or(0, |it| it.bytes)
    }

    /// The number of the domain called `name`, if it has counters.
    pub(super) fn number(&self, name: &[u8]) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    /// What each domain may take, in bytes, if one of them is `new`.
    pub(super) fn share(&self, new: bool) -> usize {
        self.bytes / (self.numbers.len() + usize::from(new)).max(1)
    }

    /// Adds a counter to the domain called `name`, and gives the domain's number.
    pub(super) fn add(&mut self, name: &[u8], bytes: usize) -> u16 {
        self.counters += 1;
        let number = self.number(name).unwrap_or_else(|| self.enter(name.into()));
        self.grow(number, bytes);
        number
    }

    /// More domains than there are numbers share the last one.
    fn enter(&mut self, name: Arc<[u8]>) -> u16 {
        let number = match (self.free.pop(), u16::try_from(self.domains.len())) {
            (Some(number), _) => {
                self.domains[usize::from(number)].name = Arc::clone(&name);
                number
            }
            (None, Ok(number)) => {
                self.domains.push(Domain { name: Arc::clone(&name), bytes: 0 });
                number
            }
            (None, Err(_)) => return u16::MAX,
        };
        self.numbers.insert(name, number);
        number
    }

    /// So many more bytes for a counter of this domain.
    pub(super) fn grow(&mut self, domain: u16, bytes: usize) {
        self.bytes += bytes;
        if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
            domain.bytes += bytes;
        }
    }

    /// So many less.
    pub(super) fn shrink(&mut self, domain: u16, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
            domain.bytes = domain.bytes.saturating_sub(bytes);
        }
    }

    /// A counter less, and the domain is forgotten if it was its last.
    pub(super) fn remove(&mut self, domain: u16, bytes: usize) {
        self.counters = self.counters.saturating_sub(1);
        self.shrink(domain, bytes);
        if self.taken(domain) == 0
            && let Some(Domain { name, .. }) = self.domains.get(usize::from(domain))
        {
            self.numbers.remove(name);
            self.free.push(domain);
        }
    }

    /// Counts what could not be kept, and says so at most once a minute.
    pub(super) fn turn_away(&mut self, now: Timestamp) {
        self.not_kept += 1;
        if self.said.is_none_or(|it| now < it || it.plus(SAID_EVERY) <= now) {
            self.said = Some(now);
            warn!(
                counters = self.counters,
                bytes = self.bytes,
                not_kept = self.not_kept,
                "memory is full of counters that refuse: what is new is not counted"
            );
        }
    }
}
