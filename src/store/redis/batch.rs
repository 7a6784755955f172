//! What one round trip is to do, and what its answers say.

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use redis::{Cmd, Value};

use super::{
    call::{Call, CallKind, CallResult, ChargeReplies},
    coalesced::Coalesced,
    count::{self, Found},
    decide,
    jitter::Jitter,
    node_error::NodeError,
    replies::{elements, non_error},
    settle,
};
use crate::store::script::Holder;

/// What one round trip is to do.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) sums: Coalesced<'a>,
    pub(super) decisions: Vec<(&'a Call, Option<Holder>)>,
    pub(super) settlements: Vec<&'a Call>,
}

/// The answer for one part.
pub(super) type PartResult = Result<PartReply, NodeError>;

/// The reply to one part.
#[derive(Clone, Debug)]
pub(super) enum PartReply {
    /// The server's reply.
    Value(Value),
    /// A counter below 0 took hits in two steps: the `first` of them counted from 0, the rest
    /// from `before`.
    TwoSteps { first: u64, before: u64 },
}

/// What one command does, or three.
#[derive(Debug)]
pub(super) enum BatchPart {
    /// One of the sums.
    Count(usize),
    /// Some of the decisions, by their places.
    Decide(Vec<usize>),
    /// Some of the settlements, by their places.
    Settle(Vec<usize>),
}

/// The keys that one script can access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptScope {
    /// All keys: one script decides all calls of a batch.
    AllKeys,
    /// The keys of one slot, on a node of a cluster: each counter has a script call of its own.
    OneSlot,
}

impl<'a> Batch<'a> {
    pub(super) fn of(calls: &[&'a Call]) -> Self {
        let mut plain = Vec::new();
        let (mut decisions, mut settlements) = (Vec::new(), Vec::new());
        for &call in calls {
            match &call.kind {
                CallKind::Count(charges) => plain.extend(charges),
                CallKind::Decide(holder) => decisions.push((call, *holder)),
                CallKind::Settle(_) => settlements.push(call),
            }
        }
        Self { sums: Coalesced::of(plain.into_iter()), decisions, settlements }
    }

    pub(super) fn parts(&self, scope: ScriptScope) -> Vec<BatchPart> {
        let sums = self.sums.charges.len();
        let decisions = || self.decisions.iter().map(|(call, _)| *call);
        let settlements = || self.settlements.iter().copied();
        let mut parts: Vec<_> = (0..sums).map(BatchPart::Count).collect();
        if scope == ScriptScope::OneSlot {
            parts.extend(by_key(decisions()).map(BatchPart::Decide));
            parts.extend(by_key(settlements()).map(BatchPart::Settle));
        } else {
            let all = |count: usize| (0..count).collect();
            let (decisions, settlements) = (self.decisions.len(), self.settlements.len());
            parts.extend((0 < decisions).then(|| BatchPart::Decide(all(decisions))));
            parts.extend((0 < settlements).then(|| BatchPart::Settle(all(settlements))));
        }
        parts
    }

    /// The command that does `part` by a script, and begins with `begin`.
    pub(super) fn command(&self, part: &BatchPart, begin: [&str; 2], jitter: Jitter) -> Cmd {
        match part {
            BatchPart::Count(sum) => self.sums.charges[*sum].by_script(begin, jitter),
            BatchPart::Decide(places) => {
                let calls = places.iter().map(|it| &self.decisions[*it]);
                let calls: Vec<_> =
                    calls.map(|(call, holder)| (&call.charges[..], call.now, *holder)).collect();
                decide::ask(begin, &calls, jitter)
            }
            BatchPart::Settle(places) => {
                let mut charges = Vec::new();
                for call in places.iter().map(|it| self.settlements[*it]) {
                    let CallKind::Settle(how) = &call.kind else { continue };
                    let each = call.charges.iter().zip(how);
                    charges.extend(each.map(|(charge, how)| (charge, *how, call.now)));
                }
                settle::ask(begin, &charges, jitter)
            }
        }
    }

    /// What each of `calls` has come to, of which these are the answers.
    pub(super) fn read(
        &self,
        calls: &[&Call],
        parts: &[BatchPart],
        answers: Vec<PartResult>,
    ) -> Vec<CallResult> {
        let gone = || Err(NodeError::failed("the answer is missing".into()));
        let mut counts = Vec::with_capacity(self.sums.charges.len());
        let mut decided: Vec<CallResult> = self.decisions.iter().map(|_| gone()).collect();
        let mut settled: Vec<CallResult> = self.settlements.iter().map(|_| gone()).collect();
        for (part, answer) in parts.iter().zip(answers) {
            match part {
                BatchPart::Count(_) => counts.push(answer.and_then(|it| match it {
                    PartReply::Value(value) => Ok(PartReply::Value(non_error(value)?)),
                    twice @ PartReply::TwoSteps { .. } => Ok(twice),
                })),
                BatchPart::Decide(places) => {
                    self.read_decisions(places, once(answer), &mut decided)
                }
                BatchPart::Settle(places) => {
                    let answer = once(answer);
                    let count = places.iter().map(|it| self.settlements[*it].charges.len()).sum();
                    let reply =
                        answer.and_then(|it| elements(it, count)).map(|_| ChargeReplies::new());
                    places.iter().for_each(|it| settled[*it] = reply.clone());
                }
            }
        }
        let (mut places, mut decided) = (self.sums.places.iter(), decided.into_iter());
        let mut settled = settled.into_iter();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(match &call.kind {
                CallKind::Count(plain) => {
                    // All of them, also after an error: the next call begins there.
                    let found: Vec<_> = places
                        .by_ref()
                        .take(plain.len())
                        .map(|it| counts[it.sum].as_ref().map(|answer| it.found(answer)))
                        .collect();
                    read_plain(call, found)
                }
                CallKind::Decide(_) => decided.next().unwrap_or_else(gone),
                CallKind::Settle(_) => settled.next().unwrap_or_else(gone),
            });
        }
        replies
    }

    fn read_decisions(
        &self,
        places: &[usize],
        answer: Result<Value, NodeError>,
        decided: &mut [CallResult],
    ) {
        let charges = places.iter().map(|it| self.decisions[*it].0.charges.len()).sum();
        let mut rest = answer.and_then(|it| elements(it, charges));
        for &place in places {
            let (call, holder) = self.decisions[place];
            decided[place] = match &mut rest {
                Ok(rest) => {
                    let own: Vec<_> = rest.drain(..call.charges.len()).collect();
                    decide::read(&call.charges, &own, holder.is_some()).map_err(Into::into)
                }
                Err(error) => Err(error.clone()),
            };
        }
    }
}

fn once(answer: PartResult) -> Result<Value, NodeError> {
    match answer? {
        PartReply::Value(value) => Ok(value),
        PartReply::TwoSteps { .. } => Err(NodeError::failed("an answer makes no sense".into())),
    }
}

fn read_plain(call: &Call, found: Vec<Result<Option<Found>, &NodeError>>) -> CallResult {
    let found: Result<Vec<_>, _> = found.into_iter().collect();
    let found = found.map_err(Clone::clone)?;
    Ok(count::read(&call.charges, &found)?)
}

/// The places of `calls`, those together that are about the same counter.
fn by_key<'a>(calls: impl Iterator<Item = &'a Call>) -> impl Iterator<Item = Vec<usize>> {
    let mut of: IndexMap<&[u8], Vec<usize>, RandomState> = IndexMap::default();
    for (place, call) in calls.enumerate() {
        let key = call.charges.first().map_or(&[][..], |it| it.counter.key.as_bytes());
        of.entry(key).or_default().push(place);
    }
    of.into_values()
}
