//! What one round trip is to do, and what its answers say.

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use redis::{Cmd, Value};

use super::{
    call::{Answers, Call, Kind, Reply},
    charge, elements,
    fixed_window::{self, Found},
    jitter::Jitter,
    line::failed,
    node::NodeError,
    settle, sound,
    sums::Sums,
};
use crate::store::script::Holder;

/// What one round trip is to do.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) sums: Sums<'a>,
    pub(super) decisions: Vec<(&'a Call, Option<Holder>)>,
    pub(super) settlements: Vec<&'a Call>,
}

/// The answer for one part.
pub(super) type Answer = Result<PartReply, NodeError>;

/// The reply to one part.
#[derive(Clone, Debug)]
pub(super) enum PartReply {
    /// The server's reply.
    Whole(Value),
    /// A counter below 0 took hits in two steps: the `first` of them counted from 0, the rest
    /// from `before`.
    Split { first: u64, before: u64 },
}

/// What one command does, or three.
#[derive(Debug)]
pub(super) enum Part {
    /// One of the sums.
    Count(usize),
    /// Some of the decisions, by their places.
    Decide(Vec<usize>),
    /// Some of the settlements, by their places.
    Settle(Vec<usize>),
}

impl<'a> Batch<'a> {
    pub(super) fn of(calls: &[&'a Call]) -> Self {
        let mut plain = Vec::new();
        let (mut decisions, mut settlements) = (Vec::new(), Vec::new());
        for &call in calls {
            match &call.kind {
                Kind::Plain(charges) => plain.extend(charges),
                Kind::Decide(holder) => decisions.push((call, *holder)),
                Kind::Settle(_) => settlements.push(call),
            }
        }
        Self { sums: Sums::of(plain.into_iter()), decisions, settlements }
    }

    /// `apart` says that different counters need different commands.
    pub(super) fn parts(&self, apart: bool) -> Vec<Part> {
        let sums = self.sums.charges.len();
        let decisions = || self.decisions.iter().map(|(call, _)| *call);
        let settlements = || self.settlements.iter().copied();
        let mut parts: Vec<_> = (0..sums).map(Part::Count).collect();
        if apart {
            parts.extend(by_key(decisions()).map(Part::Decide));
            parts.extend(by_key(settlements()).map(Part::Settle));
        } else {
            let all = |count: usize| (0..count).collect();
            let (decisions, settlements) = (self.decisions.len(), self.settlements.len());
            parts.extend((0 < decisions).then(|| Part::Decide(all(decisions))));
            parts.extend((0 < settlements).then(|| Part::Settle(all(settlements))));
        }
        parts
    }

    /// The command that does `part` by a script, and begins with `begin`.
    pub(super) fn ask(&self, part: &Part, begin: [&str; 2], jitter: Jitter) -> Cmd {
        match part {
            Part::Count(sum) => self.sums.charges[*sum].by_script(begin, jitter),
            Part::Decide(places) => {
                let calls = places.iter().map(|it| &self.decisions[*it]);
                let calls: Vec<_> =
                    calls.map(|(call, holder)| (&call.charges[..], call.now, *holder)).collect();
                charge::ask(begin, &calls, jitter)
            }
            Part::Settle(places) => {
                let mut charges = Vec::new();
                for call in places.iter().map(|it| self.settlements[*it]) {
                    let Kind::Settle(how) = &call.kind else { continue };
                    let each = call.charges.iter().zip(how);
                    charges.extend(each.map(|(charge, how)| (charge, *how, call.now)));
                }
                settle::ask(begin, &charges, jitter)
            }
        }
    }

    /// What each of `calls` has come to, of which these are the answers.
    pub(super) fn read(&self, calls: &[&Call], parts: &[Part], answers: Vec<Answer>) -> Vec<Reply> {
        let gone = || Err(failed("the answer is missing".into()));
        let mut counts = Vec::with_capacity(self.sums.charges.len());
        let mut decided: Vec<Reply> = self.decisions.iter().map(|_| gone()).collect();
        let mut settled: Vec<Reply> = self.settlements.iter().map(|_| gone()).collect();
        for (part, answer) in parts.iter().zip(answers) {
            match part {
                Part::Count(_) => counts.push(answer.and_then(|it| match it {
                    PartReply::Whole(value) => Ok(PartReply::Whole(sound(value)?)),
                    twice @ PartReply::Split { .. } => Ok(twice),
                })),
                Part::Decide(places) => self.read_decisions(places, once(answer), &mut decided),
                Part::Settle(places) => {
                    let answer = once(answer);
                    let count = places.iter().map(|it| self.settlements[*it].charges.len()).sum();
                    let reply = answer.and_then(|it| elements(it, count)).map(|_| Answers::new());
                    places.iter().for_each(|it| settled[*it] = reply.clone());
                }
            }
        }
        let (mut places, mut decided) = (self.sums.places.iter(), decided.into_iter());
        let mut settled = settled.into_iter();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(match &call.kind {
                Kind::Plain(plain) => {
                    // All of them, also after an error: the next call begins there.
                    let found: Vec<_> = places
                        .by_ref()
                        .take(plain.len())
                        .map(|it| counts[it.sum].as_ref().map(|answer| it.found(answer)))
                        .collect();
                    read_plain(call, found)
                }
                Kind::Decide(_) => decided.next().unwrap_or_else(gone),
                Kind::Settle(_) => settled.next().unwrap_or_else(gone),
            });
        }
        replies
    }

    fn read_decisions(
        &self,
        places: &[usize],
        answer: Result<Value, NodeError>,
        decided: &mut [Reply],
    ) {
        let charges = places.iter().map(|it| self.decisions[*it].0.charges.len()).sum();
        let mut rest = answer.and_then(|it| elements(it, charges));
        for &place in places {
            let (call, holder) = self.decisions[place];
            decided[place] = match &mut rest {
                Ok(rest) => {
                    let own: Vec<_> = rest.drain(..call.charges.len()).collect();
                    charge::read(&call.charges, &own, holder.is_some()).map_err(Into::into)
                }
                Err(error) => Err(error.clone()),
            };
        }
    }
}

fn once(answer: Answer) -> Result<Value, NodeError> {
    match answer? {
        PartReply::Whole(value) => Ok(value),
        PartReply::Split { .. } => Err(failed("an answer makes no sense".into())),
    }
}

fn read_plain(call: &Call, found: Vec<Result<Option<Found>, &NodeError>>) -> Reply {
    let found: Result<Vec<_>, _> = found.into_iter().collect();
    let found = found.map_err(Clone::clone)?;
    Ok(fixed_window::read(&call.charges, &found)?)
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
