//! A call whose charges depend on each other, and whose counters are in several places.
//!
//! No script sees all of them, so hits are held first, everywhere at the same time. A
//! hold takes room, but it is not counted: no other call is refused because of it, or
//! banned. If every limit that can refuse the call has room, what is held is counted, and
//! else let go; both by a number, as often as it takes. A hold that nobody settles, since
//! its instance has died, ends by itself after [`HOLD`].
//!
//! Where hits that others hold leave it open whether there is room, the call lets go of
//! everything and goes from place to place in one order, and there waits for the others.
//! So no two calls wait for each other.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    batch::{Answered, Answers, Call, Kind},
    calls::{Calls, Group, RETRY, Servers, a_moment, outcome, still_held},
    settler::{Unsettled, held},
};
use crate::{
    store::{Charge, Results, StoreError, all_failed, script::Holder},
    time::Timestamp,
};

/// How long hits are held at most.
pub(super) const HOLD: Duration = Duration::from_secs(10);

/// A call under way.
pub(super) struct Reservation<S> {
    calls: Arc<Calls<S>>,
    charges: Vec<Charge>,
    groups: Vec<Group>,
    now: Timestamp,
    begun: Instant,
    until: Instant,
    /// By which number hits are held.
    id: u64,
    /// What is known of each charge.
    known: Vec<Known>,
    /// What has been sent and may hold hits.
    sent: Vec<Arc<Call>>,
}

/// What is known of one charge.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    /// It depends on what others hold.
    Unsure,
    Answered(Answered),
    Failed(StoreError),
}

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Every limit that can refuse it has room.
    Granted,
    /// A limit has none.
    Refused,
    /// Of some charges nothing is known.
    Open,
}

impl<S: Servers> Reservation<S> {
    pub(super) fn new(
        calls: Arc<Calls<S>>,
        charges: &[Charge],
        groups: SmallVec<[Group; 4]>,
        (now, until): (Timestamp, Instant),
    ) -> Self {
        let mut groups = groups.into_vec();
        groups.sort_by_key(|it| it.place);
        Self {
            id: calls.number(),
            calls,
            known: vec![Known::Nothing; charges.len()],
            charges: charges.to_vec(),
            groups,
            now,
            begun: Instant::now(),
            until,
            sent: Vec::new(),
        }
    }

    /// Makes the call, says what it has come to, and settles what it holds.
    pub(super) async fn run(mut self, tell: oneshot::Sender<Results>) {
        self.everywhere().await;
        if self.is_unsure() {
            self.in_order().await;
        } else {
            self.linger().await;
        }
        let decision = self.decision();
        // Whoever is let through without an answer is served: that counts.
        let counts = match decision {
            Decision::Granted => true,
            Decision::Refused => false,
            Decision::Open => self.open().all(|it| it.passes_late && !self.never_passes(it)),
        };
        // Before anybody hears of it: whoever asks next finds all there was, or what is
        // counted.
        self.settled(counts && !tell.is_closed()).await;
        // A caller that has left meanwhile was granted it.
        let _ = tell.send(self.results(counts));
    }

    /// Settles what may be held, and waits for that until the deadline.
    async fn settled(&mut self, counts: bool) {
        let settled = join_all(self.settle(counts));
        let _ = timeout_at(self.until, settled).await;
    }

    /// Whether a charge refuses its call whatever others have used.
    fn never_passes(&self, charge: &Charge) -> bool {
        charge.enforced && charge.alone(self.now).over
    }

    /// The charges of which nothing is known.
    fn open(&self) -> impl Iterator<Item = &Charge> {
        let both = self.charges.iter().zip(&self.known);
        both.filter(|(_, known)| !matches!(known, Known::Answered(_))).map(|(charge, _)| charge)
    }

    /// Holds hits in all places at the same time.
    async fn everywhere(&mut self) {
        let asks: Vec<_> = (0..self.groups.len())
            .map(|group| self.call(group, Kind::Decide(Some(self.holder()))))
            .collect();
        self.sent.extend(asks.iter().cloned());
        // Whoever waits for what this holds has to hear of its end in time.
        let until = self.begun + self.until.saturating_duration_since(self.begun) * 2 / 3;
        let servers = &self.calls.servers;
        let replies = asks.iter().zip(&self.groups);
        let replies = replies.map(|(call, group)| servers.call(group.place, call, until));
        for (group, reply) in join_all(replies).await.into_iter().enumerate() {
            self.learn(group, reply.map_err(Into::into));
        }
    }

    /// Whether it is known of every charge what it comes to, or that others hold hits, and
    /// there is something of the latter kind and nothing that refuses.
    fn is_unsure(&self) -> bool {
        let failed = |it: &Known| matches!(it, Known::Failed(_) | Known::Nothing);
        let unsure = |it: &Known| matches!(it, Known::Unsure);
        !self.is_refused() && !self.known.iter().any(failed) && self.known.iter().any(unsure)
    }

    /// Where the call has no answer from one place, and in another others hold hits: waits
    /// for these, as the call may be refused there.
    async fn linger(&mut self) {
        while !self.is_refused() && Instant::now() + RETRY < self.until {
            let unsure =
                |group: &Group| group.at.iter().any(|at| matches!(self.known[*at], Known::Unsure));
            let Some(group) = self.groups.iter().position(unsure) else { return };
            sleep(a_moment()).await;
            self.one(group, &Kind::Decide(Some(self.holder()))).await;
        }
    }

    /// Holds hits in one place after the other, and waits in each for others.
    async fn in_order(&mut self) {
        self.settled(false).await;
        self.id = self.calls.number();
        sleep(a_moment()).await;
        // What depends on nothing has been made already, and so have hits that are counted
        // because they were refused.
        let made = |charge: &Charge, known: &Known| match known {
            Known::Answered(it) => {
                !it.waits.0 && !it.waits.1 && (!charge.depends() || it.refused.1)
            }
            Known::Nothing | Known::Unsure | Known::Failed(_) => false,
        };
        for group in &mut self.groups {
            group.at.retain(|at| !made(&self.charges[*at], &self.known[*at]));
            group.at.iter().for_each(|at| self.known[*at] = Known::Nothing);
        }
        for group in 0..self.groups.len() {
            let kind = match self.is_refused() {
                false => Kind::Decide(Some(self.holder())),
                true => Kind::Decide(None),
            };
            while !self.groups[group].at.is_empty() && !self.one(group, &kind).await {
                if self.until <= Instant::now() + RETRY {
                    self.learn(group, Err(still_held()));
                    break;
                }
                sleep(a_moment()).await;
            }
        }
    }

    /// Holds hits in the place of one group, and says whether it is sure what that comes to.
    async fn one(&mut self, group: usize, kind: &Kind) -> bool {
        let kind = match kind {
            Kind::Decide(holder) => Kind::Decide(*holder),
            Kind::Plain(_) | Kind::Settle(_) => return true,
        };
        let call = self.call(group, kind);
        self.sent.push(Arc::clone(&call));
        let place = self.groups[group].place;
        let reply = self.calls.servers.call(place, &call, self.until).await;
        self.learn(group, reply.map_err(Into::into));
        let known = |at: &usize| !matches!(self.known[*at], Known::Unsure);
        self.groups[group].at.iter().all(known)
    }

    fn holder(&self) -> Holder {
        Holder { id: self.id, until: self.now.plus(HOLD) }
    }

    /// The call for one group.
    fn call(&self, group: usize, kind: Kind) -> Arc<Call> {
        let refused = self.is_refused();
        let charge = |at: &usize| Charge { refused, ..self.charges[*at].clone() };
        let charges = self.groups[group].at.iter().map(charge).collect();
        let call = Call::with(charges, self.now, kind);
        Arc::new(Call { begun: self.begun, ..call })
    }

    fn learn(&mut self, group: usize, reply: Result<Answers, StoreError>) {
        let group = &self.groups[group];
        match reply {
            Ok(answers) => {
                for (at, answered) in group.at.iter().zip(answers) {
                    self.known[*at] = answered.map_or(Known::Unsure, Known::Answered);
                }
            }
            Err(error) => {
                for at in &group.at {
                    self.known[*at] = Known::Failed(error.clone());
                }
            }
        }
    }

    /// Whether a limit is known to refuse the call.
    fn is_refused(&self) -> bool {
        self.charges.iter().zip(&self.known).any(|(charge, known)| match known {
            Known::Answered(it) => charge.enforced && outcome(charge, *it, self.now).over,
            Known::Nothing | Known::Unsure | Known::Failed(_) => false,
        })
    }

    fn decision(&self) -> Decision {
        if self.is_refused() {
            Decision::Refused
        } else if self.open().next().is_some() {
            Decision::Open
        } else {
            Decision::Granted
        }
    }

    /// `counts` says whether what is held is counted.
    fn results(&self, counts: bool) -> Results {
        let mut results = Results::new();
        for (charge, known) in self.charges.iter().zip(&self.known) {
            results.push(match known {
                Known::Answered(answered) => {
                    let Answered { answer, made, refused, .. } = *answered;
                    let (answer, made) = if counts { (answer, made) } else { refused };
                    Ok(outcome(charge, Answered { answer, made, ..*answered }, self.now))
                }
                Known::Failed(error) => Err(error.clone()),
                Known::Unsure | Known::Nothing => Err(still_held()),
            });
        }
        if results.len() == self.charges.len() {
            return results;
        }
        all_failed(self.charges.len(), &still_held())
    }

    /// Settles all that may be held: counts it, or lets it go. Says when that is done.
    fn settle(&mut self, counts: bool) -> Vec<oneshot::Receiver<()>> {
        let mut settled = Vec::new();
        let may_hold =
            self.charges.iter().zip(&self.known).filter_map(|(charge, known)| match known {
                Known::Answered(answered) => Some((charge, Some(answered))),
                Known::Failed(_) => Some((charge, None)),
                Known::Nothing | Known::Unsure => None,
            });
        for charges in held(may_hold, self.id, counts) {
            let (now, until) = ((self.now, self.begun), self.begun + HOLD);
            let (done, ended) = oneshot::channel();
            settled.push(ended);
            self.calls.late.settle(Unsettled { charges, now, until, done: Some(done) });
        }
        // Those that are still on their way are settled when they come.
        for call in mem::take(&mut self.sent) {
            call.counts_late.store(counts, Relaxed);
        }
        settled
    }
}
