//! The effects of full memory, and their log lines.

use std::fmt;

use parking_lot::Mutex;

use super::ledger::Ledger;
use crate::warnings::WarningLimiter;

/// The effects of full memory on one call.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it is logged once no lock is held"]
pub(super) struct Pressure {
    /// Another counter was evicted.
    pub(super) evicted: bool,
    /// A charge was not counted, because there was no room.
    pub(super) uncounted: bool,
}

impl Pressure {
    pub(super) fn add(&mut self, other: Self) {
        self.evicted |= other.evicted;
        self.uncounted |= other.uncounted;
    }
}

#[derive(Debug)]
pub(super) struct PressureWarnings {
    evictions: WarningLimiter,
    uncounted: WarningLimiter,
}

impl PressureWarnings {
    pub(super) const fn new() -> Self {
        Self {
            evictions: WarningLimiter::new(
                "a call evicted counters, which start again at 0",
                "calls evicted counters, which start again at 0,",
            ),
            uncounted: WarningLimiter::new(
                "a call was decided but not counted",
                "calls were decided but not counted",
            ),
        }
    }

    /// Logs the pressure of a call. The caller holds neither the lock of `ledger` nor of a
    /// shard.
    pub(super) fn log(&self, pressure: Pressure, ledger: &Mutex<Ledger>) {
        if pressure.evicted {
            let full = "memory for counters is full";
            self.evictions.warn(&fmt::from_fn(|f| write!(f, "{full}, {}", usage(ledger))));
        }
        if pressure.uncounted {
            let full = "memory for counters is full of counters over their limits, which are not \
                        evicted";
            self.uncounted.warn(&fmt::from_fn(|f| write!(f, "{full}, {}", usage(ledger))));
        }
    }
}

fn usage(ledger: &Mutex<Ledger>) -> String {
    let ledger = ledger.lock();
    let (counters, bytes, bound) = (ledger.counters, ledger.bytes, ledger.reached_bound());
    format!("with {counters} counters in {bytes} bytes; raise {bound}")
}
