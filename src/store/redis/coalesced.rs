//! Hits on the same counter, added up.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use redis::{Cmd, Value};

use super::{
    batch::PartReply,
    count::{FixedWindowHits, Found},
    jitter::Jitter,
    replies::number,
    server_error::cannot_increment,
};
use crate::{limit::Hits, store::EXPIRY_SLACK};

/// More hits than that are added by the script, which knows when a counter is full.
const MUCH: i64 = 1 << 32;

/// The charges of several calls, with the hits on one counter added up.
#[derive(Debug, Default)]
pub(super) struct Coalesced<'a> {
    pub(super) charges: Vec<Increment<'a>>,
    /// One for each charge of the calls.
    pub(super) places: Vec<Place>,
}

/// Charges to one counter, with no look and nothing given back between them.
#[derive(Debug)]
pub(super) struct Increment<'a> {
    pub(super) key: &'a [u8],
    pub(super) change: i64,
    kept: u64,
    /// Whether no other sum is about the counter.
    alone: bool,
}

/// Where the answer for a charge is found.
#[derive(Debug)]
pub(super) struct Place {
    /// In which sum.
    pub(super) sum: usize,
    /// The running total of hits in this sum, without and with those of the charge.
    before: u64,
    after: u64,
}

impl<'a> Coalesced<'a> {
    pub(super) fn of(charges: impl Iterator<Item = &'a FixedWindowHits>) -> Self {
        let mut sums = Self::default();
        // The last sum of each counter.
        let mut last: HashMap<&[u8], usize, RandomState> = HashMap::default();
        for charge in charges {
            let FixedWindowHits { ref key, change, kept } = *charge;
            let key = key.as_bytes();
            let before = last.get(key).copied();
            let place = before.and_then(|it| Some((it, sums.charges[it].and(change, kept)?)));
            let own = change.max(0).unsigned_abs();
            let at = |sum, before| Place { sum, before, after: before + own };
            let place = place.map(|(sum, before)| at(sum, before));
            sums.places.push(place.unwrap_or_else(|| {
                let sum = sums.charges.len();
                if let Some(before) = before {
                    sums.charges[before].alone = false;
                }
                sums.charges.push(Increment { key, change, kept, alone: before.is_none() });
                last.insert(key, sum);
                at(sum, 0)
            }));
        }
        sums
    }
}

impl Increment<'_> {
    /// Adds `change`, and returns what it was before. None, and nothing happens, if either
    /// is no addition, or there is too much.
    fn and(&mut self, change: i64, kept: u64) -> Option<u64> {
        let before = self.change;
        let sum = before.checked_add(change).filter(|it| *it <= Hits::MAX.cast_signed())?;
        if before <= 0 || change <= 0 {
            return None;
        }
        (self.change, self.kept) = (sum, kept.max(self.kept));
        Some(before.unsigned_abs())
    }

    /// Whether commands can add it, and no script is needed. What they cannot add is made
    /// after all others, so they make no sums that have to be made in order.
    pub(super) fn is_added(&self) -> bool {
        self.alone && (1..=MUCH).contains(&self.change)
    }

    /// The commands that add hits to an integer: one that makes it, with an expiry, unless
    /// there is one, one that adds, and one that asks how long it is kept. In this order no
    /// counter is without an expiry, whenever this process ends, unless somebody else
    /// deletes it between the first two and the process ends before it has seen that.
    ///
    /// They cost Redis two thirds of what the script costs, and less than half where each
    /// counter needs a script of its own.
    pub(super) fn commands(&self, jitter: Jitter) -> [Cmd; 3] {
        let command = |name: &str, arguments, more| {
            let mut command = Cmd::with_capacity(arguments, name.len() + self.key.len() + more);
            command.arg(name).arg(self.key);
            command
        };
        let mut make = command("SET", 6, 24);
        make.arg(0).arg("PX").arg(self.life(jitter)).arg("NX");
        let mut add = command("INCRBY", 3, 16);
        add.arg(self.change);
        [make, add, command("PTTL", 2, 0)]
    }

    /// What the answers to the second and the third of them say.
    pub(super) fn found(&self, count: &Value, ttl: &Value) -> IncrementReply {
        let &Value::Int(count) = count else {
            return match count {
                Value::ServerError(error) if cannot_increment(&error.clone().into()) => {
                    IncrementReply::Nothing
                }
                _ => IncrementReply::Failed,
            };
        };
        let before = count.saturating_sub(self.change);
        if before < 0 {
            // Below 0 counts as 0, and so do hits that are added there.
            return match count {
                ..=0 => IncrementReply::Nothing,
                _ => IncrementReply::Partly(before.unsigned_abs()),
            };
        }
        // What is above the most that is ever told may be counted all the same.
        let before = Value::Int(before.min(Hits::MAX.cast_signed()));
        match *ttl {
            // Rules with windows of different length may share the counter, and clocks
            // may differ. Or somebody else keeps it for ever.
            Value::Int(ttl) if ttl < self.least() => IncrementReply::Shortly(before),
            _ => IncrementReply::Before(before),
        }
    }

    /// The command that has the counter kept long enough.
    pub(super) fn keep(&self, jitter: Jitter) -> Cmd {
        let mut command = Cmd::new();
        command.arg("PEXPIRE").arg(self.key).arg(self.life(jitter));
        command
    }

    /// The result of adding `missing` hits in a second step, after which the counter is `now`.
    /// Other instances may have added hits between the two steps.
    pub(super) fn added_late(&self, missing: u64, now: &Value) -> PartReply {
        let Some(before) = number(now).map(|it| it.saturating_sub(self.change.unsigned_abs()))
        else {
            // An error stays one; any other value is not a counter.
            let error = matches!(now, Value::ServerError(_));
            return PartReply::Value(if error { now.clone() } else { Value::Nil });
        };
        PartReply::TwoSteps { first: self.change.unsigned_abs().saturating_sub(missing), before }
    }

    /// The command that adds `more`.
    pub(super) fn add(&self, more: u64) -> Cmd {
        let mut command = Cmd::new();
        command.arg("INCRBY").arg(self.key).arg(more);
        command
    }

    /// The same by the script, whatever is kept there. The command begins with `begin`.
    pub(super) fn by_script(&self, begin: [&str; 2], jitter: Jitter) -> Cmd {
        let room = begin[1].len() + self.key.len() + 80;
        let mut call = Cmd::with_capacity(8, room);
        call.arg(&begin).arg(1).arg(self.key).arg(EXPIRY_SLACK.as_millis());
        call.arg(self.change).arg(self.kept);
        if let Some(more) = jitter.draw() {
            call.arg(more);
        }
        call
    }

    fn life(&self, jitter: Jitter) -> u64 {
        self.kept.saturating_add(jitter.draw().unwrap_or_default())
    }

    /// For how many milliseconds the counter means something.
    fn least(&self) -> i64 {
        let grace = u64::try_from(EXPIRY_SLACK.as_millis()).unwrap_or_default();
        self.kept.saturating_sub(grace).try_into().unwrap_or(i64::MAX)
    }
}

/// What has become of hits that were to be added to an integer.
#[derive(Debug)]
pub(super) enum IncrementReply {
    /// The counter before.
    Before(Value),
    /// The same, but it is not kept long enough.
    Shortly(Value),
    /// The counter was so much below 0, which counts as 0, and is above it now.
    Partly(u64),
    /// It is no integer, or one that cannot hold them, or still not above 0.
    Nothing,
    /// The answer is an error.
    Failed,
}

impl Place {
    /// The counter before the charge, if its sum got this answer.
    pub(super) fn found(&self, answer: &PartReply) -> Option<Found> {
        let begin = match answer {
            PartReply::Value(Value::Int(-1)) => return Some(Found::Held),
            PartReply::Value(answer) => number(answer)?,
            PartReply::TwoSteps { first, .. } if self.after <= *first => 0,
            PartReply::TwoSteps { before, .. } => *before,
        };
        Some(Found::Count(begin.saturating_add(self.before).min(Hits::MAX)))
    }
}
