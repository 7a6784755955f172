//! The number and size of counters, in all and by domain.

use std::{collections::HashMap, sync::Arc};

use super::bounds::Bounds;

/// The sums over all shards.
///
/// It has a lock of its own, which is held while a counter to evict is searched. Nothing
/// else is locked under it.
#[derive(Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    pub(super) bytes: usize,
    pub(super) counters: usize,
    /// Counters evicted before they expired.
    pub(super) evicted: u64,
    /// Charges that were decided but not counted, because there was no room.
    pub(super) uncounted: u64,
    /// The numbers of all domains that have counters.
    numbers: HashMap<Arc<[u8]>, u16>,
    domains: Vec<Domain>,
    /// Numbers of domains that have no counters any more.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Domain {
    name: Arc<[u8]>,
    counters: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Counters,
    Bytes,
}

impl Resource {
    pub(super) const ALL: [Self; 2] = [Self::Counters, Self::Bytes];
}

/// The room that a charge needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) counters: usize,
    pub(super) bytes: usize,
    /// The counter is new and already at its limit. An eighth of the room is reserved for
    /// other counters, so that a flood of such names does not stop all counting.
    pub(super) exhausted: bool,
}

impl Growth {
    fn of(&self, resource: Resource) -> usize {
        match resource {
            Resource::Counters => self.counters,
            Resource::Bytes => self.bytes,
        }
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
            numbers: HashMap::new(),
            domains: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The resource that is too scarce for `growth`; `None` if it fits.
    pub(super) fn scarce(&self, growth: &Growth) -> Option<Resource> {
        let available = |bound: usize| if growth.exhausted { bound - bound / 8 } else { bound };
        let keys = self.bounds.keys.unwrap_or(usize::MAX);
        if available(keys) < self.counters.saturating_add(growth.counters) {
            Some(Resource::Counters)
        } else if available(self.bounds.bytes) < self.bytes.saturating_add(growth.bytes) {
            Some(Resource::Bytes)
        } else {
            None
        }
    }

    /// The amount of a resource that a domain uses.
    pub(super) fn used_by(&self, domain: u16, resource: Resource) -> usize {
        match (self.domains.get(usize::from(domain)), resource) {
            (Some(domain), Resource::Counters) => domain.counters,
            (Some(domain), Resource::Bytes) => domain.bytes,
            (None, _) => 0,
        }
    }

    /// The amount that a domain uses after `growth`. `None` is a domain without counters.
    pub(super) fn used_after(
        &self,
        domain: Option<u16>,
        growth: &Growth,
        resource: Resource,
    ) -> usize {
        let used = match domain {
            Some(domain) => self.used_by(domain, resource),
            None => 0,
        };
        used + growth.of(resource)
    }

    /// True if the domain uses at most its share after `growth`.
    pub(super) fn within_share(
        &self,
        domain: Option<u16>,
        growth: &Growth,
        resource: Resource,
    ) -> bool {
        self.used_after(domain, growth, resource) <= self.share(domain.is_none(), resource)
    }

    /// The share of each domain: the amount in use divided by the number of domains, plus
    /// one if a `new` domain comes.
    pub(super) fn share(&self, new: bool, resource: Resource) -> usize {
        let used = match resource {
            Resource::Counters => self.counters,
            Resource::Bytes => self.bytes,
        };
        used / (self.numbers.len() + usize::from(new)).max(1)
    }

    /// The number of the domain `name`. `None` if it has no counters and a number is free.
    ///
    /// If there are more domains than numbers, those without a number share the last one.
    pub(super) fn number(&self, name: &[u8]) -> Option<u16> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let none_free = self.free.is_empty() && usize::from(u16::MAX) < self.domains.len();
        if none_free { Some(u16::MAX) } else { None }
    }

    /// Adds a counter of the domain `name`, and returns the domain's number.
    pub(super) fn add(&mut self, name: &[u8], bytes: usize) -> u16 {
        self.counters += 1;
        let number = match self.number(name) {
            Some(number) => number,
            None => self.assign_number(name.into()),
        };
        if let Some(domain) = self.domains.get_mut(usize::from(number)) {
            domain.counters += 1;
        }
        self.grow(number, bytes);
        number
    }

    fn assign_number(&mut self, name: Arc<[u8]>) -> u16 {
        let number = if let Some(number) = self.free.pop() {
            self.domains[usize::from(number)].name = Arc::clone(&name);
            number
        } else if let Ok(number) = u16::try_from(self.domains.len()) {
            self.domains.push(Domain { name: Arc::clone(&name), counters: 0, bytes: 0 });
            number
        } else {
            return u16::MAX;
        };
        self.numbers.insert(name, number);
        number
    }

    /// Adds `bytes` to a counter of the domain.
    pub(super) fn grow(&mut self, domain: u16, bytes: usize) {
        self.bytes += bytes;
        if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
            domain.bytes += bytes;
        }
    }

    /// Subtracts `bytes` from a counter of the domain.
    pub(super) fn shrink(&mut self, domain: u16, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
            domain.bytes = domain.bytes.saturating_sub(bytes);
        }
    }

    /// Removes a counter of the domain, and the domain with its last counter.
    pub(super) fn remove(&mut self, domain: u16, bytes: usize) {
        self.counters = self.counters.saturating_sub(1);
        self.shrink(domain, bytes);
        let Some(entry) = self.domains.get_mut(usize::from(domain)) else { return };
        entry.counters = entry.counters.saturating_sub(1);
        if entry.counters == 0 {
            self.numbers.remove(&entry.name);
            self.free.push(domain);
        }
    }

    /// The setting whose bound is reached, with its value.
    pub(super) fn reached_bound(&self) -> String {
        let Bounds { bytes, keys } = self.bounds;
        match keys {
            Some(keys) if self.bytes / bytes.div_ceil(keys).max(1) <= self.counters => {
                format!("MEMORY_MAX_KEYS ({keys})")
            }
            Some(_) | None => format!("MEMORY_MAX_BYTES ({bytes})"),
        }
    }
}
