//! A part of the counters, and the choice of counters to evict.
//!
//! When there is no room, some counters of the shard are compared, and the first of this order
//! is evicted:
//!
//! 1. expired counters
//! 2. counters below their limits, except those of class 5
//! 3. counters that refuse hits
//! 4. bans, the newest first
//! 5. counters below their limits of the domain that needs room, if it is within its share
//!
//! Within a class, the domain that uses most comes first, and then the counter that expires
//! first. A domain evicts unexpired counters of another only if that uses more than its share
//! and more than the domain that needs room. It evicts bans and counters that refuse hits only of
//! others, and only while it is itself within its share. If nothing can be evicted, a new counter
//! is not kept.

use std::{cmp::Reverse, time::Duration};

use parking_lot::Mutex;

use super::{
    ledger::{Growth, Ledger, Resource},
    pressure::Pressure,
    slot::{Counter, CounterState, Key, Slot},
    table::Table,
};
use crate::{limit::step::MAX_STEP_BACK, store::EXPIRY_SLACK, time::Timestamp};

/// An expiry within this time is accepted unchecked: clocks may be wrong by as much.
const TRUSTED_TTL: Duration = Duration::from_secs(86_400);

/// One of this many charges sweeps the shard for expired counters. Adjacent slots share
/// cache lines, so rare sweeps of many slots are cheaper than frequent sweeps of few.
const CHARGES_PER_SWEEP: u8 = 8;
/// The number of slots that a sweep checks.
const SLOTS_PER_SWEEP: usize = 24;
/// The number of counters that are compared at least when one has to be evicted.
const MIN_COMPARED: usize = 16;
/// The number of slots that are searched at most when one has to be evicted.
const MAX_SEARCHED: usize = 256;
/// The most counters evicted for one charge.
const MAX_EVICTIONS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) table: Table,
    /// Charges since the last sweep.
    charges: u8,
    /// The hash at which the last sweep began.
    sweep_cursor: u64,
    /// The hash at which the last search for a counter to evict began.
    search_cursor: u64,
}

/// The distance of two hashes at which consecutive sweeps or searches begin, as a fraction
/// of 2^64: the golden ratio, which spreads them evenly. If each began where the last one
/// ended, the table would be sparse before that position and crowded after it.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// A counter to write, with its key and domain.
pub(super) struct KeyedCounter<'a> {
    pub(super) key: Key,
    pub(super) domain: &'a [u8],
    pub(super) counter: Counter,
}

/// A request for the room that one counter needs.
struct Demand {
    /// The domain of the counter; `None` if it has no counters yet.
    domain: Option<u16>,
    /// The counter itself, which must not be evicted.
    key: Key,
    growth: Growth,
}

/// The value of a counter to the service. Counters of the lowest class are evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionClass {
    Expired,
    BelowLimit,
    RefusesHits,
    Banned,
    /// A counter below its limit, of the domain that needs room, while that is within its
    /// share.
    Own,
}

/// A counter that can be evicted.
struct EvictionCandidate {
    position: usize,
    class: EvictionClass,
    /// The amount of the scarce resource that its domain uses: more is evicted first.
    domain_usage: usize,
    /// The order within a class and domain: lower is evicted first.
    order: u64,
}

impl EvictionCandidate {
    fn rank(&self) -> (EvictionClass, Reverse<usize>, u64) {
        (self.class, Reverse(self.domain_usage), self.order)
    }
}

impl Shard {
    /// The counter under `key`, unless it has expired.
    ///
    /// A clock that was far ahead may have written an expiry in the far future; that is
    /// reduced to `max_ttl` from now.
    pub(super) fn get(
        &mut self,
        key: Key,
        now: Timestamp,
        max_ttl: impl FnOnce() -> Duration,
    ) -> Option<&Counter> {
        let counter = &mut self.table.find_mut(key)?.counter;
        if counter.expires_at <= now {
            return None;
        }
        if TRUSTED_TTL < counter.expires_at.since(now) {
            let latest = now.plus(max_ttl() + MAX_STEP_BACK).plus(EXPIRY_SLACK);
            counter.expires_at = counter.expires_at.min(latest);
        }
        Some(counter)
    }

    /// Removes the counter under `key`, if it exists.
    pub(super) fn remove(&mut self, key: Key, ledger: &Mutex<Ledger>) {
        if let Some(position) = self.table.find(key) {
            self.remove_at(position, &mut ledger.lock());
        }
    }

    /// Removes expired counters from some slots, once every few calls.
    pub(super) fn sweep(&mut self, now: Timestamp, ledger: &Mutex<Ledger>) {
        self.charges += 1;
        if self.charges < CHARGES_PER_SWEEP {
            return;
        }
        self.charges = 0;
        self.sweep_cursor = self.sweep_cursor.wrapping_add(STRIDE);
        let mut position = self.table.home(self.sweep_cursor);
        for _ in 0..SLOTS_PER_SWEEP.min(self.table.size()) {
            match self.table.get(position) {
                // The next slot moves into this position.
                Some(slot) if slot.counter.expires_at <= now => {
                    self.remove_at(position, &mut ledger.lock());
                }
                _ => position = self.table.next(position),
            }
        }
    }

    /// Writes the counter, if there is room for it.
    pub(super) fn put(
        &mut self,
        keyed: KeyedCounter<'_>,
        ledger: &Mutex<Ledger>,
        now: Timestamp,
    ) -> Pressure {
        let KeyedCounter { key, domain, mut counter } = keyed;
        let Some(slot) = self.table.find_mut(key) else {
            return self.add(KeyedCounter { key, domain, counter }, &mut ledger.lock(), now);
        };
        counter.inherit_expiry(&slot.counter, now);
        let (before, after) = (slot.counter.bytes(), counter.bytes());
        if before < after {
            let growth = Growth { counters: 0, bytes: after - before, exhausted: false };
            let demand = Demand { domain: Some(slot.domain), key, growth };
            return self.replace(&demand, counter, &mut ledger.lock(), now);
        }
        if after < before {
            ledger.lock().shrink(slot.domain, before - after);
        }
        slot.counter = counter;
        Pressure::default()
    }

    /// Replaces a counter by a larger one, if there is room.
    fn replace(
        &mut self,
        demand: &Demand,
        mut counter: Counter,
        ledger: &mut Ledger,
        now: Timestamp,
    ) -> Pressure {
        let mut pressure = self.make_room(demand, ledger, now);
        if pressure.uncounted {
            if !counter.state.has_ban() {
                ledger.uncounted += 1;
                return pressure;
            }
            // A ban is more important than the state, and needs no room.
            counter.state = CounterState::ban(counter.state.banned_since());
            pressure.uncounted = false;
        }
        if let Some(slot) = self.table.find_mut(demand.key) {
            ledger.shrink(slot.domain, slot.counter.bytes());
            ledger.grow(slot.domain, counter.bytes());
            slot.counter = counter;
        }
        pressure
    }

    /// Inserts a counter whose key is new, if there is room.
    fn add(&mut self, keyed: KeyedCounter<'_>, ledger: &mut Ledger, now: Timestamp) -> Pressure {
        let KeyedCounter { key, domain, counter } = keyed;
        let bytes = counter.bytes();
        let growth = Growth { counters: 1, bytes, exhausted: now < counter.refuses_until };
        let demand = Demand { domain: ledger.number(domain), key, growth };
        let pressure = self.make_room(&demand, ledger, now);
        if pressure.uncounted {
            ledger.uncounted += 1;
        } else {
            let domain = ledger.add(domain, bytes);
            self.table.insert(Slot::new(key, domain, counter));
        }
        pressure
    }

    /// Evicts counters until there is room. The charge is uncounted if that is not possible.
    fn make_room(&mut self, demand: &Demand, ledger: &mut Ledger, now: Timestamp) -> Pressure {
        let mut pressure = Pressure::default();
        let mut growth = demand.growth;
        let domain_is_small = Resource::ALL
            .iter()
            .all(|resource| ledger.within_share(demand.domain, &growth, *resource));
        growth.exhausted &= !domain_is_small;
        for _ in 0..MAX_EVICTIONS {
            let Some(scarce) = ledger.scarce(&growth) else { break };
            let Some(candidate) = self.choose_eviction(demand, ledger, scarce, now) else {
                return Pressure { uncounted: true, ..pressure };
            };
            if candidate.class != EvictionClass::Expired {
                ledger.evicted += 1;
                pressure.evicted = true;
            }
            self.remove_at(candidate.position, ledger);
            // The counter replaces the evicted one, so the reserve does not shrink.
            growth.exhausted = false;
        }
        pressure.uncounted = ledger.scarce(&growth).is_some();
        pressure
    }

    fn remove_at(&mut self, position: usize, ledger: &mut Ledger) {
        if let Some(slot) = self.table.remove(position) {
            ledger.remove(slot.domain, slot.counter.bytes());
        }
    }

    /// Chooses the counter to evict, among those at the next slots.
    fn choose_eviction(
        &mut self,
        demand: &Demand,
        ledger: &Ledger,
        scarce: Resource,
        now: Timestamp,
    ) -> Option<EvictionCandidate> {
        let search = Search::new(demand, ledger, scarce, now);
        let mut best: Option<EvictionCandidate> = None;
        let (mut compared, mut own_below_limit) = (0, 0);
        self.search_cursor = self.search_cursor.wrapping_add(STRIDE);
        let mut next = self.table.home(self.search_cursor);
        for _ in 0..MAX_SEARCHED.min(self.table.size()) {
            let position = next;
            next = self.table.next(position);
            let Some(slot) = self.table.get(position) else { continue };
            if slot.key() == demand.key {
                continue;
            }
            compared += 1;
            if let Some(candidate) = search.candidate(slot, position) {
                let own = Some(slot.domain) == demand.domain;
                own_below_limit += usize::from(own && candidate.class < EvictionClass::RefusesHits);
                if best.as_ref().is_none_or(|best| candidate.rank() < best.rank()) {
                    best = Some(candidate);
                }
            }
            let Some(best) = &best else { continue };
            if best.class == EvictionClass::Expired
                || best.class == EvictionClass::BelowLimit && MIN_COMPARED <= compared
            {
                break;
            }
        }
        let best = best?;
        // Counters that are at their limit at once leave an eighth of their domain's counters
        // to others.
        let crowds_out =
            demand.growth.exhausted && !search.within_share && 8 * own_below_limit <= compared;
        if best.class == EvictionClass::BelowLimit && crowds_out {
            return None;
        }
        Some(best)
    }
}

/// A search for a counter to evict.
struct Search<'a> {
    demand: &'a Demand,
    ledger: &'a Ledger,
    scarce: Resource,
    /// The share of each domain.
    share: usize,
    /// The amount that the domain of the demand uses, including the demand.
    used: usize,
    /// True if that is at most its share.
    within_share: bool,
    now: Timestamp,
}

impl<'a> Search<'a> {
    fn new(demand: &'a Demand, ledger: &'a Ledger, scarce: Resource, now: Timestamp) -> Self {
        let Demand { domain, growth, .. } = demand;
        let share = ledger.share(domain.is_none(), scarce);
        let used = ledger.used_after(*domain, growth, scarce);
        let within_share = ledger.within_share(*domain, growth, scarce);
        Self { demand, ledger, scarce, share, used, within_share, now }
    }

    /// The counter in `slot` as a candidate; `None` if it must not be evicted.
    fn candidate(&self, slot: &Slot, position: usize) -> Option<EvictionCandidate> {
        let own = Some(slot.domain) == self.demand.domain;
        let domain_usage = self.ledger.used_by(slot.domain, self.scarce);
        let class = eviction_class(&slot.counter, own, self.within_share, self.now)?;
        let uses_more = self.share.max(self.used) < domain_usage;
        if !own && !uses_more && class != EvictionClass::Expired {
            return None;
        }
        let order = eviction_order(&slot.counter, class);
        Some(EvictionCandidate { position, class, domain_usage, order })
    }
}

/// The eviction class of a counter; `None` if it must not be evicted.
///
/// `own` is true if it belongs to the domain that needs room, and `within_share` if that
/// domain uses no more than its share.
fn eviction_class(
    counter: &Counter,
    own: bool,
    within_share: bool,
    now: Timestamp,
) -> Option<EvictionClass> {
    if counter.expires_at <= now {
        Some(EvictionClass::Expired)
    } else if counter.refuses_until <= now {
        Some(if own && within_share { EvictionClass::Own } else { EvictionClass::BelowLimit })
    } else if own || !within_share {
        None
    } else if counter.state.has_ban() {
        Some(EvictionClass::Banned)
    } else {
        Some(EvictionClass::RefusesHits)
    }
}

/// The order within a class, lowest first: bans from the newest, others by expiry.
fn eviction_order(counter: &Counter, class: EvictionClass) -> u64 {
    match class {
        EvictionClass::Banned => u64::MAX - counter.state.banned_since().as_micros(),
        EvictionClass::Expired
        | EvictionClass::BelowLimit
        | EvictionClass::RefusesHits
        | EvictionClass::Own => counter.expires_at.as_micros(),
    }
}
