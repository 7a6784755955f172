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
    pub(super) uncounted: u64,
    said_evicted: Said,
    said_uncounted: Said,
    /// Only of domains that have counters.
    numbers: HashMap<Arc<[u8]>, u16>,
    domains: Vec<Domain>,
    /// Numbers of no domain.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Domain {
    name: Arc<[u8]>,
    counters: usize,
    bytes: usize,
}

/// Which bound has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarce {
    Counters,
    Bytes,
}

impl Scarce {
    pub(super) const ALL: [Self; 2] = [Self::Counters, Self::Bytes];
}

/// More of what is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct More {
    pub(super) counters: usize,
    pub(super) bytes: usize,
    /// Whether that is a new counter that refuses at once. An eighth of the room is kept
    /// from those: names that are used up at once do not end all counting.
    pub(super) refuses: bool,
}

impl More {
    pub(super) fn of(&self, scarce: Scarce) -> usize {
        match scarce {
            Scarce::Counters => self.counters,
            Scarce::Bytes => self.bytes,
        }
    }
}

/// When something was said, and how much has happened since.
#[derive(Debug, Default)]
struct Said {
    at: Option<Timestamp>,
    since: u64,
}

impl Said {
    /// Counts one more, and tells how many there are if it is time to say so.
    fn another(&mut self, now: Timestamp) -> Option<u64> {
        self.since += 1;
        if self.at.is_some_and(|it| it <= now && now < it.plus(SAID_EVERY)) {
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            counters: 0,
            evicted: 0,
            uncounted: 0,
            said_evicted: Said::default(),
            said_uncounted: Said::default(),
            numbers: HashMap::new(),
            domains: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Of what there is too little for `more`; none if it fits without anything giving way.
    pub(super) fn scarce(&self, more: &More) -> Option<Scarce> {
        let room = |bound: usize| if more.refuses { bound - bound / 8 } else { bound };
        if room(self.bounds.keys.unwrap_or(usize::MAX))
            < self.counters.saturating_add(more.counters)
        {
            Some(Scarce::Counters)
        } else if room(self.bounds.bytes) < self.bytes.saturating_add(more.bytes) {
            Some(Scarce::Bytes)
        } else {
            None
        }
    }

    /// How much of what is scarce the domain with this number takes.
    pub(super) fn taken(&self, domain: u16, scarce: Scarce) -> usize {
        self.domains.get(usize::from(domain)).map_or(0, |it| match scarce {
            Scarce::Counters => it.counters,
            Scarce::Bytes => it.bytes,
        })
    }

    /// The same with what is asked for; nothing so far if the domain has no counters yet.
    pub(super) fn taken_with(&self, domain: Option<u16>, more: &More, scarce: Scarce) -> usize {
        domain.map_or(0, |it| self.taken(it, scarce)) + more.of(scarce)
    }

    /// Whether that is no more than its share.
    pub(super) fn is_poor(&self, domain: Option<u16>, more: &More, scarce: Scarce) -> bool {
        self.taken_with(domain, more, scarce) <= self.share(domain.is_none(), scarce)
    }

    /// The number of the domain called `name`, if it has counters, or all further domains
    /// share one.
    pub(super) fn number(&self, name: &[u8]) -> Option<u16> {
        let shared = self.free.is_empty() && usize::from(u16::MAX) < self.domains.len();
        self.numbers.get(name).copied().or(shared.then_some(u16::MAX))
    }

    /// What each domain may take of what is scarce, if one of them is `new`.
    pub(super) fn share(&self, new: bool, scarce: Scarce) -> usize {
        let all = match scarce {
            Scarce::Counters => self.counters,
            Scarce::Bytes => self.bytes,
        };
        all / (self.numbers.len() + usize::from(new)).max(1)
    }

    /// Adds a counter to the domain called `name`, and gives the domain's number.
    pub(super) fn add(&mut self, name: &[u8], bytes: usize) -> u16 {
        self.counters += 1;
        let number = self.number(name).unwrap_or_else(|| self.enter(name.into()));
        if let Some(domain) = self.domains.get_mut(usize::from(number)) {
            domain.counters += 1;
        }
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
                self.domains.push(Domain { name: Arc::clone(&name), counters: 0, bytes: 0 });
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
        if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
            domain.counters = domain.counters.saturating_sub(1);
        }
        if self.taken(domain, Scarce::Counters) == 0
            && let Some(Domain { name, .. }) = self.domains.get(usize::from(domain))
        {
            self.numbers.remove(name);
            self.free.push(domain);
        }
    }

    /// The setting whose bound is nearer, and its value.
    fn reached(&self) -> String {
        let Bounds { bytes, keys } = self.bounds;
        match keys {
            Some(keys) if self.bytes / bytes.div_ceil(keys).max(1) <= self.counters => {
                format!("MEMORY_MAX_KEYS ({keys})")
            }
            Some(_) | None => format!("MEMORY_MAX_BYTES ({bytes})"),
        }
    }

    /// Counts a counter that gave way before it had ended, and says so at most once a minute.
    pub(super) fn evict(&mut self, now: Timestamp) {
        self.evicted += 1;
        if let Some(evicted) = self.said_evicted.another(now) {
            let (bound, counters, bytes) = (self.reached(), self.counters, self.bytes);
            warn!(
                evicted,
                counters, bytes, "memory for counters is full, and some begin anew; raise {bound}"
            );
        }
    }

    /// Counts what could not be kept, and says so at most once a minute.
    pub(super) fn turn_away(&mut self, now: Timestamp) {
        self.uncounted += 1;
        if let Some(charges) = self.said_uncounted.another(now) {
            let (bound, counters, bytes) = (self.reached(), self.counters, self.bytes);
            warn!(
                charges,
                counters,
                bytes,
                "memory for counters is full of those that refuse; charges that find no room \
                 are decided and not counted; raise {bound}"
            );
        }
    }
}
