//! A part of the counters, and which of them give way.
//!
//! When there is no room for more, the domain that takes most gives way, if that is more
//! than its share and more than the one that asks takes: first what has ended, then what
//! does not refuse, of that what ends first. What refuses gives way only to a domain that
//! takes less than its share, and bans only if nothing else does, the newest first. A domain
//! that takes no less than its share can only take the place of its own. If nothing may
//! go, what is new is not kept.

use std::{cmp::Reverse, time::Duration};

use parking_lot::Mutex;

use super::{
    ledger::{Ledger, More, Scarce},
    slot::{Counter, Kept, Key, Slot},
    table::Table,
};
use crate::{limit::step::MAX_STEP_BACK, store::EXPIRY_SLACK, time::Timestamp};

/// What ends within this is not looked at closer: clocks may be wrong by as much.
const USUAL: Duration = Duration::from_secs(86_400);

/// One of so many charges looks for counters that have ended: places next to each other
/// take less time than as many elsewhere.
const SWEEPS: u8 = 8;
/// At how many places.
const SWEPT: usize = 24;
/// How many counters are compared at least when one has to go.
const COMPARED: usize = 16;
/// How many places are looked at for that at most.
const SEARCHED: usize = 256;
/// How many counters give way to one charge at most.
const MOST_EVICTED: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) table: Table,
    /// Charges since the last sweep.
    charges: u8,
    /// Where the last sweep began, and where the last search, as a hash.
    swept: u64,
    searched: u64,
}

/// So far apart, as a part of 2^64, are two hashes at which a sweep or a search begins: the
/// golden ratio spreads them evenly. One next to the other would thin out the table behind
/// the place that they have come to, and crowd it before.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

/// A counter, and whose it is.
pub(super) struct Entry<'a> {
    pub(super) key: Key,
    pub(super) domain: &'a [u8],
    pub(super) counter: Counter,
}

/// What is asked for.
struct Asked {
    /// By whom, unless that domain has no counters yet.
    domain: Option<u16>,
    /// What must not go for that.
    key: Key,
    more: More,
}

/// How much a counter is missed: first ones give way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missed {
    Ended,
    Spare,
    Refusing,
    Banned,
    /// A counter below its limit of a domain within its share, that asks itself.
    Own,
}

impl Shard {
    /// The counter under `key`, unless it has ended. A clock that was far ahead may have
    /// said when that is: from now on it is no more than the `longest` life away.
    pub(super) fn live(
        &mut self,
        key: Key,
        now: Timestamp,
        longest: impl FnOnce() -> Duration,
    ) -> Option<&Counter> {
        let counter = &mut self.table.find_mut(key)?.counter;
        if counter.until <= now {
            return None;
        }
        if USUAL < counter.until.since(now) {
            counter.until =
                counter.until.min(now.plus(longest() + MAX_STEP_BACK).plus(EXPIRY_SLACK));
        }
        Some(counter)
    }

    /// Forgets the counter under `key`, and says whether there was one.
    pub(super) fn remove(&mut self, key: Key, ledger: &Mutex<Ledger>) -> bool {
        let Some(at) = self.table.find(key) else { return false };
        self.drop_at(at, &mut ledger.lock());
        true
    }

    /// Drops those that have ended of the counters at a few places, now and then.
    pub(super) fn sweep(&mut self, now: Timestamp, ledger: &Mutex<Ledger>) {
        self.charges += 1;
        if self.charges < SWEEPS {
            return;
        }
        self.charges = 0;
        self.swept = self.swept.wrapping_add(STRIDE);
        let mut at = self.table.home(self.swept);
        for _ in 0..SWEPT.min(self.table.places()) {
            match self.table.get(at) {
                // What came next to it is then in its place.
                Some(it) if it.counter.until <= now => self.drop_at(at, &mut ledger.lock()),
                _ => at = self.table.next(at),
            }
        }
    }

    /// Keeps the counter, if there is room for it, and says whether there is.
    pub(super) fn put(&mut self, entry: Entry<'_>, ledger: &Mutex<Ledger>, now: Timestamp) -> bool {
        let Entry { key, domain, mut counter } = entry;
        let Some(slot) = self.table.find_mut(key) else {
            return self.add(Entry { key, domain, counter }, &mut ledger.lock(), now);
        };
        counter.follow(&slot.counter, now);
        let (before, after) = (slot.counter.bytes(), counter.bytes());
        if before < after {
            let domain = Some(slot.domain);
            let more = More { counters: 0, bytes: after - before, refuses: false };
            let mut ledger = ledger.lock();
            let mut room = self.make_room(&Asked { domain, key, more }, &mut ledger, now);
            let banned = counter.kept.banned();
            if !room && banned != Timestamp::default() {
                // It matters more than the state.
                counter.kept = Kept::ban(banned);
                room = true;
            }
            if !room {
                ledger.turn_away(now);
            } else if let Some(slot) = self.table.find_mut(key) {
                ledger.shrink(slot.domain, before);
                ledger.grow(slot.domain, counter.bytes());
                slot.counter = counter;
            }
            return room;
        }
        if after < before {
            ledger.lock().shrink(slot.domain, before - after);
        }
        slot.counter = counter;
        true
    }

    /// Keeps a counter whose name is new, if there is room.
    fn add(&mut self, entry: Entry<'_>, ledger: &mut Ledger, now: Timestamp) -> bool {
        let Entry { key, domain, counter } = entry;
        let bytes = counter.bytes();
        let more = More { counters: 1, bytes, refuses: now < counter.refuses };
        let asked = Asked { domain: ledger.number(domain), key, more };
        if !self.make_room(&asked, ledger, now) {
            ledger.turn_away(now);
            return false;
        }
        let domain = ledger.add(domain, bytes);
        self.table.insert(Slot::new(key, domain, counter));
        true
    }

    /// Has counters give way until there is room. Says whether there is.
    fn make_room(&mut self, asked: &Asked, ledger: &mut Ledger, now: Timestamp) -> bool {
        let mut more = asked.more;
        more.refuses &= !Scarce::ALL.iter().all(|it| ledger.is_poor(asked.domain, &more, *it));
        for _ in 0..MOST_EVICTED {
            let Some(scarce) = ledger.scarce(&more) else { return true };
            let found = self.least_missed(asked, (ledger, scarce), now);
            let Some((at, missed)) = found else { return false };
            if missed != Missed::Ended {
                ledger.evict(now);
            }
            self.drop_at(at, ledger);
            // It takes the place of that one.
            more.refuses = false;
        }
        ledger.scarce(&more).is_none()
    }

    fn drop_at(&mut self, at: usize, ledger: &mut Ledger) {
        if let Some(slot) = self.table.remove(at) {
            ledger.remove(slot.domain, slot.counter.bytes());
        }
    }

    /// What gives way to what is asked for, of the counters that come next.
    fn least_missed(
        &mut self,
        asked: &Asked,
        (ledger, scarce): (&Ledger, Scarce),
        now: Timestamp,
    ) -> Option<(usize, Missed)> {
        let share = ledger.share(asked.domain.is_none(), scarce);
        let taken = ledger.taken_with(asked.domain, &asked.more, scarce);
        let poor = ledger.is_poor(asked.domain, &asked.more, scarce);
        let (mut least, mut compared, mut spare) = (None, 0, 0);
        self.searched = self.searched.wrapping_add(STRIDE);
        let mut next = self.table.home(self.searched);
        for _ in 0..SEARCHED.min(self.table.places()) {
            let at = next;
            next = self.table.next(at);
            let Some(slot) = self.table.get(at).filter(|it| it.key() != asked.key) else {
                continue;
            };
            let theirs = ledger.taken(slot.domain, scarce);
            let own = Some(slot.domain) == asked.domain;
            let gives_way = own || share.max(taken) < theirs;
            compared += 1;
            if let Some(missed) = missed(&slot.counter, own, poor, now)
                && (gives_way || missed == Missed::Ended)
            {
                spare += usize::from(own && missed < Missed::Refusing);
                let rank = (missed, Reverse(theirs), order(&slot.counter, missed));
                if least.is_none_or(|(least, _)| rank < least) {
                    least = Some((rank, at));
                }
            }
            let Some(((missed, ..), _)) = least else { continue };
            if missed == Missed::Ended || missed == Missed::Spare && COMPARED <= compared {
                break;
            }
        }
        // Names that are used up at once leave an eighth of what their domain keeps.
        let crowds = asked.more.refuses && !poor && 8 * spare <= compared;
        let ((missed, ..), at) = least?;
        (missed != Missed::Spare || !crowds).then_some((at, missed))
    }
}

/// How much a counter is missed that a domain asks for: its `own`, or that of another. `poor`
/// says whether it takes less than its share. None is missed too much.
fn missed(counter: &Counter, own: bool, poor: bool, now: Timestamp) -> Option<Missed> {
    let refuses = now < counter.refuses;
    let banned = counter.kept.banned() != Timestamp::default();
    if counter.until <= now {
        Some(Missed::Ended)
    } else if !refuses {
        Some(if own && poor { Missed::Own } else { Missed::Spare })
    } else if own || !poor {
        None
    } else {
        Some(if banned { Missed::Banned } else { Missed::Refusing })
    }
}

/// Of two that are missed as much, the lower goes: the newest ban, or what ends first.
fn order(counter: &Counter, missed: Missed) -> u64 {
    match missed {
        Missed::Banned => u64::MAX - counter.kept.banned().as_micros(),
        Missed::Ended | Missed::Spare | Missed::Refusing | Missed::Own => counter.until.as_micros(),
    }
}
