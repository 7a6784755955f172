//! Batches: the calls that one round trip makes, and the interpretation of its replies.

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use redis::{Cmd, Value};

use super::{
    call::{Call, CallKind, CallResult, ChargeReplies},
    coalesced::{Coalesced, Slice},
    count_reply,
    decide::{self, DecideCall},
    jitter::Jitter,
    node_error::NodeError,
    replies::{PartReply, PartResult, elements, non_error},
    settle::{self, SettleCharge},
};
use crate::store::script::Holder;

/// The keys that one script run can access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptScope {
    /// All keys: one run decides all calls of a batch.
    AllKeys,
    /// The keys of one slot, on a node of a cluster: each counter has a run of its own.
    OneSlot,
}

#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) coalesced: Coalesced<'a>,
    pub(super) decisions: Vec<Decide<'a>>,
    pub(super) settlements: Vec<&'a Call>,
}

/// A call for the script that handles all algorithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decide<'a> {
    pub(super) call: &'a Call,
    pub(super) holder: Option<Holder>,
}

/// The smallest unit of a batch: one script run, or the three commands of an increment.
#[derive(Debug)]
pub(super) enum BatchPart {
    /// The increment at this position.
    Count(usize),
    /// The decisions at these positions.
    Decide(Vec<usize>),
    /// The settlements at these positions.
    Settle(Vec<usize>),
}

impl<'a> Batch<'a> {
    pub(super) fn new(calls: &[&'a Call]) -> Self {
        let mut counts = Vec::new();
        let (mut decisions, mut settlements) = (Vec::new(), Vec::new());
        for &call in calls {
            match &call.kind {
                CallKind::Count(charges) => counts.extend(charges),
                CallKind::Decide(holder) => decisions.push(Decide { call, holder: *holder }),
                CallKind::Settle(_) => settlements.push(call),
            }
        }
        Self { coalesced: Coalesced::new(&counts), decisions, settlements }
    }

    pub(super) fn parts(&self, scope: ScriptScope) -> Vec<BatchPart> {
        let increments = self.coalesced.increments.len();
        let mut parts = Vec::with_capacity(increments + 2);
        for increment in 0..increments {
            parts.push(BatchPart::Count(increment));
        }
        if scope == ScriptScope::OneSlot {
            for positions in by_counter(self.decisions.iter().map(|decide| decide.call)) {
                parts.push(BatchPart::Decide(positions));
            }
            for positions in by_counter(self.settlements.iter().copied()) {
                parts.push(BatchPart::Settle(positions));
            }
            return parts;
        }
        if !self.decisions.is_empty() {
            parts.push(BatchPart::Decide((0..self.decisions.len()).collect()));
        }
        if !self.settlements.is_empty() {
            parts.push(BatchPart::Settle((0..self.settlements.len()).collect()));
        }
        parts
    }

    /// The command that runs `script` for `part`.
    pub(super) fn script_command(
        &self,
        part: &BatchPart,
        script: [&str; 2],
        jitter: Jitter,
    ) -> Cmd {
        match part {
            BatchPart::Count(increment) => {
                self.coalesced.increments[*increment].script_command(script, jitter)
            }
            BatchPart::Decide(positions) => {
                let mut calls = Vec::with_capacity(positions.len());
                for position in positions {
                    let Decide { call, holder } = self.decisions[*position];
                    calls.push(DecideCall { charges: &call.charges, now: call.now, holder });
                }
                decide::command(script, &calls, jitter)
            }
            BatchPart::Settle(positions) => {
                let mut charges = Vec::new();
                for position in positions {
                    let call = self.settlements[*position];
                    let CallKind::Settle(settlements) = &call.kind else { continue };
                    for (charge, &settlement) in call.charges.iter().zip(settlements) {
                        charges.push(SettleCharge { charge, settlement, now: call.now });
                    }
                }
                settle::command(script, &charges, jitter)
            }
        }
    }

    /// The result of each of `calls`, which are those of the batch, from the results of its
    /// `parts`.
    pub(super) fn call_results(
        &self,
        calls: &[&Call],
        parts: &[BatchPart],
        results: Vec<PartResult>,
    ) -> Vec<CallResult> {
        let mut counts = Vec::with_capacity(self.coalesced.increments.len());
        let mut decided = vec![None; self.decisions.len()];
        let mut settled = vec![None; self.settlements.len()];
        for (part, result) in parts.iter().zip(results) {
            match part {
                BatchPart::Count(_) => counts.push(checked(result)),
                BatchPart::Decide(positions) => {
                    self.read_decisions(positions, result, &mut decided);
                }
                BatchPart::Settle(positions) => {
                    self.read_settlements(positions, result, &mut settled);
                }
            }
        }
        let mut slices = &self.coalesced.slices[..];
        let (mut decided, mut settled) = (decided.into_iter(), settled.into_iter());
        let mut call_results = Vec::with_capacity(calls.len());
        for call in calls {
            call_results.push(match &call.kind {
                CallKind::Count(charges) => {
                    let (own, rest) = slices.split_at(charges.len());
                    slices = rest;
                    count_result(call, own, &counts)
                }
                CallKind::Decide(_) => decided.next().flatten().unwrap_or_else(missing_reply),
                CallKind::Settle(_) => settled.next().flatten().unwrap_or_else(missing_reply),
            });
        }
        call_results
    }

    fn read_decisions(
        &self,
        positions: &[usize],
        result: PartResult,
        call_results: &mut [Option<CallResult>],
    ) {
        let mut expected = 0;
        for position in positions {
            expected += self.decisions[*position].call.charges.len();
        }
        let mut replies = match script_reply(result, expected) {
            Ok(replies) => replies.into_iter(),
            Err(error) => {
                for position in positions {
                    call_results[*position] = Some(Err(error.clone()));
                }
                return;
            }
        };
        for position in positions {
            let Decide { call, holder } = self.decisions[*position];
            let own: Vec<Value> = replies.by_ref().take(call.charges.len()).collect();
            let parsed = decide::parse_reply(&call.charges, &own, holder.is_some());
            call_results[*position] = Some(parsed.map_err(NodeError::from));
        }
    }

    fn read_settlements(
        &self,
        positions: &[usize],
        result: PartResult,
        call_results: &mut [Option<CallResult>],
    ) {
        let mut expected = 0;
        for position in positions {
            expected += self.settlements[*position].charges.len();
        }
        let settled = match script_reply(result, expected) {
            Ok(_) => Ok(ChargeReplies::new()),
            Err(error) => Err(error),
        };
        for position in positions {
            call_results[*position] = Some(settled.clone());
        }
    }
}

fn missing_reply() -> CallResult {
    Err(NodeError::failed("a reply is missing".into()))
}

/// Turns an error that is a value into an error.
fn checked(result: PartResult) -> PartResult {
    match result? {
        PartReply::Value(value) => Ok(PartReply::Value(non_error(value)?)),
        reply @ PartReply::TwoSteps { .. } => Ok(reply),
    }
}

/// The elements of a script's reply, one for each of `expected` charges.
fn script_reply(result: PartResult, expected: usize) -> Result<Vec<Value>, NodeError> {
    match result? {
        PartReply::Value(value) => elements(value, expected),
        PartReply::TwoSteps { .. } => {
            Err(NodeError::failed("the reply of a script is malformed".into()))
        }
    }
}

/// The result of a call on the fast path, whose charges have these `slices`.
fn count_result(call: &Call, slices: &[Slice], counts: &[PartResult]) -> CallResult {
    for slice in slices {
        if let Err(error) = &counts[slice.increment] {
            return Err(error.clone());
        }
    }
    let mut replies = ChargeReplies::new();
    for (charge, slice) in call.charges.iter().zip(slices) {
        let before = match &counts[slice.increment] {
            Ok(reply) => slice.counter_before(reply),
            Err(error) => return Err(error.clone()),
        };
        replies.push(count_reply::charge_reply(charge, before)?);
    }
    Ok(replies)
}

/// Groups the positions of `calls` by the counter of their first charge.
fn by_counter<'a>(calls: impl Iterator<Item = &'a Call>) -> impl Iterator<Item = Vec<usize>> {
    let mut groups: IndexMap<&[u8], Vec<usize>, RandomState> = IndexMap::default();
    for (position, call) in calls.enumerate() {
        let key = match call.charges.first() {
            Some(charge) => charge.counter.key.as_bytes(),
            None => &[],
        };
        groups.entry(key).or_default().push(position);
    }
    groups.into_values()
}
