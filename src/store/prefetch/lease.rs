//! What has been taken ahead of one counter: how much, and when more is taken.

use std::time::Duration;

use crate::{
    limit::{Limit, Span},
    store::Charge,
    time::Timestamp,
};

/// What was taken ahead and lasts longer was more than needed.
const BUSY: Duration = Duration::from_millis(100);
/// At most one of so many of the hits that are left is taken ahead.
///
/// So what one instance holds is never more than a tenth of what the limit had
/// left when it was taken, and n instances that take one after the other leave
/// (9/10)ⁿ of that to those who ask. It shrinks with what is left: the last nine
/// hits of a limit are never taken ahead. A lone busy instance still asks only
/// about once for each tenth that it uses up.
const PART: u64 = 10;

/// What is known of one counter.
#[derive(Clone, Debug)]
pub(super) struct QuotaLease {
    /// Tells it from others of the same counter, before it and after.
    pub(super) id: u64,
    /// The window.
    pub(super) span: Span,
    /// The limit of the last call that has asked.
    pub(super) limit: Limit,
    /// How much has been taken and not been spent.
    pub(super) left: u64,
    /// The counter when that was taken, without what was taken beyond the limit.
    pub(super) count: u64,
    /// How much was taken beyond the limit, and so cannot be spent.
    pub(super) beyond: u64,
    /// How much was taken last.
    pub(super) size: u64,
    /// When.
    pub(super) taken: Timestamp,
    /// Somebody takes more just now.
    pub(super) taking: bool,
}

impl QuotaLease {
    pub(super) fn new(id: u64, charge: &Charge) -> Self {
        Self {
            id,
            span: charge.counter.span,
            limit: charge.limit.clone(),
            left: 0,
            count: 0,
            beyond: 0,
            size: 0,
            taken: Timestamp::default(),
            taking: false,
        }
    }

    /// Whether the limit of `charge` allows `hits` of what was taken ahead.
    ///
    /// They were counted within the limit that held then. A lower one holds from
    /// now on: it has to be asked about first, since others may have used it up,
    /// and then has to have room for what was counted up to these hits.
    pub(super) fn allows(&self, charge: &Charge, hits: u64, now: Timestamp) -> bool {
        let requests = charge.limit.requests;
        self.span == charge.counter.span
            && !self.ended(now)
            && self.limit.requests <= requests
            && hits <= self.left
            && self.used().saturating_add(hits) <= u64::from(requests)
    }

    /// The counter, without what has not been spent.
    pub(super) fn used(&self) -> u64 {
        self.count.saturating_sub(self.left)
    }

    /// How much to take with a call that asks now.
    pub(super) fn next_size(&self, charge: &Charge, now: Timestamp) -> u64 {
        let most = u64::from(charge.limit.max_prefetch);
        // What it knows of the counter is as old as that.
        let pause = now.since(self.taken).as_micros() / BUSY.as_micros();
        let wanted = match u32::try_from(pause) {
            Ok(0) => (2 * self.size).clamp(1, most.max(1)),
            Ok(pause) => self.size.checked_shr(pause).unwrap_or(0),
            Err(_) => 0,
        };
        let room = u64::from(charge.limit.requests).saturating_sub(self.count);
        wanted.min(room / PART).min(most.saturating_sub(self.left))
    }

    /// How much its counter counts that nobody has used.
    pub(super) fn unused(&self) -> u64 {
        self.left + self.beyond
    }

    /// Whether its window is over, and with it all that was taken in that.
    pub(super) fn ended(&self, now: Timestamp) -> bool {
        self.span.end <= now
    }

    /// Whether nothing is lost without it but how busy the counter was long ago.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.unused() == 0 && !self.taking && BUSY <= now.since(self.taken)
    }
}
