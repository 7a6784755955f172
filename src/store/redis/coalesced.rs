//! Hits of several calls on the same counter, coalesced into one increment.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use redis::{Cmd, Value};

use super::{
    count::{CounterBefore, FixedWindowHits},
    jitter::Jitter,
    replies::{PartReply, number},
    server_error::cannot_increment,
};
use crate::{limit::Hits, store::EXPIRY_SLACK};

/// Larger increments are made by the script, which caps the counter at [`Hits::MAX`].
const MAX_COMMAND_HITS: i64 = 1 << 32;

/// The charges of several calls with the hits on each counter added up.
#[derive(Debug, Default)]
pub(super) struct Coalesced<'a> {
    pub(super) increments: Vec<Increment<'a>>,
    /// One for each charge of the calls, in order.
    pub(super) slices: Vec<Slice>,
}

/// Consecutive additions to one counter; a refund or a read is an increment of its own.
#[derive(Debug)]
pub(super) struct Increment<'a> {
    pub(super) key: &'a [u8],
    pub(super) hits: i64,
    ttl_millis: u64,
    /// Set if the batch has no other increment of this counter.
    is_only: bool,
}

/// The share of one charge in an increment.
#[derive(Debug)]
pub(super) struct Slice {
    /// The position of the increment.
    pub(super) increment: usize,
    /// The running total of hits in the increment, without and with those of the charge.
    before: u64,
    after: u64,
}

impl<'a> Coalesced<'a> {
    pub(super) fn new(charges: &[&'a FixedWindowHits]) -> Self {
        let mut coalesced = Self::default();
        let mut last_of_key: HashMap<&[u8], usize, RandomState> = HashMap::default();
        for charge in charges {
            let key = charge.key.as_bytes();
            let last = last_of_key.get(key).copied();
            let slice = match last {
                Some(last) => coalesced.merge(last, charge),
                None => None,
            };
            let slice = slice.unwrap_or_else(|| {
                last_of_key.insert(key, coalesced.increments.len());
                coalesced.append(charge, last)
            });
            coalesced.slices.push(slice);
        }
        coalesced
    }

    /// Adds the hits of `charge` to an increment of the same counter, if both are additions.
    fn merge(&mut self, increment: usize, charge: &FixedWindowHits) -> Option<Slice> {
        let before = self.increments[increment].merge(charge)?;
        Some(Slice { increment, before, after: before + charge.hits.unsigned_abs() })
    }

    /// Adds an increment for `charge`, after the `last` one of its counter.
    fn append(&mut self, charge: &'a FixedWindowHits, last: Option<usize>) -> Slice {
        if let Some(last) = last {
            self.increments[last].is_only = false;
        }
        let increment = self.increments.len();
        self.increments.push(Increment {
            key: charge.key.as_bytes(),
            hits: charge.hits,
            ttl_millis: charge.ttl_millis,
            is_only: last.is_none(),
        });
        Slice { increment, before: 0, after: charge.hits.max(0).unsigned_abs() }
    }
}

impl Slice {
    /// The counter before this charge, given the reply to the increment.
    pub(super) fn counter_before(&self, reply: &PartReply) -> Option<CounterBefore> {
        let start = match reply {
            PartReply::Value(Value::Int(-1)) => return Some(CounterBefore::Held),
            PartReply::Value(value) => number(value)?,
            PartReply::TwoSteps { first, .. } if self.after <= *first => 0,
            PartReply::TwoSteps { before, .. } => *before,
        };
        Some(CounterBefore::Hits(start.saturating_add(self.before).min(Hits::MAX)))
    }
}

impl Increment<'_> {
    /// Adds the hits of `charge`, and returns the total before. Returns `None`, and adds
    /// nothing, if either is not an addition or the sum exceeds [`Hits::MAX`].
    fn merge(&mut self, charge: &FixedWindowHits) -> Option<u64> {
        let before = self.hits;
        if before <= 0 || charge.hits <= 0 {
            return None;
        }
        let sum = before.checked_add(charge.hits)?;
        if Hits::MAX.cast_signed() < sum {
            return None;
        }
        self.hits = sum;
        self.ttl_millis = self.ttl_millis.max(charge.ttl_millis);
        Some(before.unsigned_abs())
    }

    /// Returns true if plain commands can make the increment. Where they turn out not to
    /// suffice, the script makes it after the rest of the batch, so a counter with several
    /// increments, whose order matters, always takes the script.
    pub(super) fn uses_commands(&self) -> bool {
        self.is_only && (1..=MAX_COMMAND_HITS).contains(&self.hits)
    }

    /// The commands that make the increment: SET creates the key with an expiry if it does not
    /// exist, INCRBY adds the hits, and PTTL reads the expiry. In this order no key is left
    /// without an expiry if this process ends halfway, unless another client deletes the key
    /// between SET and INCRBY.
    ///
    /// They cost Redis two thirds of the script, and less than half in a cluster, where each
    /// counter needs a script run of its own.
    pub(super) fn commands(&self, jitter: Jitter) -> [Cmd; 3] {
        let mut create = self.command("SET", 6, 24);
        create.arg(0).arg("PX").arg(self.jittered_ttl(jitter)).arg("NX");
        let mut add = self.command("INCRBY", 3, 16);
        add.arg(self.hits);
        [create, add, self.command("PTTL", 2, 0)]
    }

    /// A command on the key, with room for `argument_bytes` after the key.
    fn command(&self, name: &str, arguments: usize, argument_bytes: usize) -> Cmd {
        let size = name.len() + self.key.len() + argument_bytes;
        let mut command = Cmd::with_capacity(arguments, size);
        command.arg(name).arg(self.key);
        command
    }

    /// Interprets the replies to INCRBY and PTTL.
    pub(super) fn parse_replies(&self, count: &Value, ttl: &Value) -> IncrementReply {
        let count = match count {
            Value::Int(count) => *count,
            Value::ServerError(error) if cannot_increment(&error.clone().into()) => {
                return IncrementReply::NotAdded;
            }
            _ => return IncrementReply::Failed,
        };
        let before = count.saturating_sub(self.hits);
        if before < 0 {
            // A counter below 0 counts as 0, and INCRBY has added too few hits.
            if count <= 0 {
                return IncrementReply::NotAdded;
            }
            return IncrementReply::WasNegative(before.unsigned_abs());
        }
        let before = Value::Int(before.min(Hits::MAX.cast_signed()));
        match *ttl {
            // The key may belong to rules with windows of different lengths, clocks may differ,
            // or another client may have removed the expiry.
            Value::Int(ttl) if ttl < self.min_ttl_millis() => IncrementReply::ExpiresEarly(before),
            _ => IncrementReply::Added(before),
        }
    }

    /// The command that puts the expiry off.
    pub(super) fn expire_command(&self, jitter: Jitter) -> Cmd {
        let mut command = Cmd::new();
        command.arg("PEXPIRE").arg(self.key).arg(self.jittered_ttl(jitter));
        command
    }

    /// The command that adds `hits` more.
    pub(super) fn add_command(&self, hits: u64) -> Cmd {
        let mut command = Cmd::new();
        command.arg("INCRBY").arg(self.key).arg(hits);
        command
    }

    /// The reply to an increment whose `missing` hits were added in a second step with the
    /// reply `after`. Other instances may have added hits between the two steps.
    pub(super) fn two_step_reply(&self, missing: u64, after: &Value) -> PartReply {
        let hits = self.hits.unsigned_abs();
        if let Some(after) = number(after) {
            let before = after.saturating_sub(hits);
            return PartReply::TwoSteps { first: hits.saturating_sub(missing), before };
        }
        match after {
            Value::ServerError(_) => PartReply::Value(after.clone()),
            _ => PartReply::Value(Value::Nil),
        }
    }

    /// The command that makes the increment by the script, whatever the value of the key.
    pub(super) fn script_command(&self, script: [&str; 2], jitter: Jitter) -> Cmd {
        let size = script[1].len() + self.key.len() + 80;
        let mut command = Cmd::with_capacity(8, size);
        command.arg(&script).arg(1).arg(self.key).arg(EXPIRY_SLACK.as_millis());
        command.arg(self.hits).arg(self.ttl_millis);
        if let Some(extra_millis) = jitter.draw() {
            command.arg(extra_millis);
        }
        command
    }

    fn jittered_ttl(&self, jitter: Jitter) -> u64 {
        self.ttl_millis.saturating_add(jitter.draw().unwrap_or_default())
    }

    /// The remaining time of the window: with an earlier expiry hits would be forgotten.
    fn min_ttl_millis(&self) -> i64 {
        let slack = u64::try_from(EXPIRY_SLACK.as_millis()).unwrap_or_default();
        self.ttl_millis.saturating_sub(slack).try_into().unwrap_or(i64::MAX)
    }
}

/// The result of the commands of an increment.
#[derive(Debug)]
pub(super) enum IncrementReply {
    /// The hits were added. Has the counter before.
    Added(Value),
    /// The same, but the key expires before its window ends.
    ExpiresEarly(Value),
    /// The counter was this much below 0 and is above 0 now, so as many hits are missing.
    WasNegative(u64),
    /// The value is not an integer, cannot take the hits, or is still not above 0.
    NotAdded,
    /// The reply is another error.
    Failed,
}
