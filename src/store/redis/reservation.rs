//! A call whose charges depend on each other, and are in several places or too many for one
//! script.
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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{
    call::{COUNT, Call, CallKind, CallResult, CallerStatus, ChargeReply, RELEASE},
    dispatcher::{Dispatcher, RETRY, Servers, Time, a_moment, outcome, still_held},
    groups::{Group, of_each},
    settler::{PendingSettlement, held},
};
use crate::{
    store::{
        Charge, Enforced, Results, StoreError, all_failed,
        enforced::{Enforcement, is_served},
        script::{Holder, KNOWN},
    },
    time::Timestamp,
};

/// How long hits are held at most.
pub(super) const HOLD: Duration = Duration::from_secs(10);

/// A call under way.
pub(super) struct Reservation<S> {
    calls: Arc<Dispatcher<S>>,
    charges: Vec<Charge>,
    groups: Vec<Group>,
    /// Kept until everything is settled.
    permit: Arc<OwnedSemaphorePermit>,
    now: Timestamp,
    started_at: Instant,
    run_time_at_start: Duration,
    until: Instant,
    /// By which number hits are held.
    id: u64,
    /// What is known of each charge.
    known: Vec<Known>,
    /// What has been sent and may hold hits.
    sent: Vec<Arc<Call>>,
    caller: Arc<CallerStatus>,
}

/// What is known of one charge.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    /// It depends on what others hold.
    Unsure,
    ChargeReply(ChargeReply),
    /// There is no answer. It may have been made all the same, if it was sent.
    Failed {
        why: StoreError,
        sent: bool,
    },
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
        calls: Arc<Dispatcher<S>>,
        charges: &[Charge],
        (groups, permit): (SmallVec<[Group; 4]>, Arc<OwnedSemaphorePermit>),
        Time { now, started_at, run_time_at_start, until }: Time,
    ) -> Self {
        Self {
            id: calls.number(),
            calls,
            known: vec![Known::Nothing; charges.len()],
            charges: charges.to_vec(),
            groups: groups.into_vec(),
            permit,
            now,
            started_at,
            run_time_at_start,
            until,
            sent: Vec::new(),
            caller: Arc::default(),
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
        if self.is_refused() {
            self.ban().await;
        }
        let decision = self.decision();
        // Whoever is let through without an answer is served: that counts.
        let counts = match decision {
            Decision::Granted => true,
            Decision::Refused => false,
            Decision::Open => is_served(self.over(), self.now),
        };
        // Before anybody hears of it: whoever asks next finds all there was, or what is
        // counted.
        let counted = counts && !tell.is_closed();
        let settled = self.settled(counted).await;
        let told = tell.send(self.results(counts)).is_ok();
        if !told {
            self.give_back(counted, settled);
        }
        self.calls.late.refund_unread(self.caller.finish(told && counts));
    }

    /// The caller has left: gives back what was made at once, and what it held that has been
    /// `counted`, where that is `settled`.
    fn give_back(&self, counted: bool, settled: bool) {
        let late = &self.calls.late;
        for (charge, known) in self.charges.iter().zip(&self.known) {
            match known {
                Known::ChargeReply(it) if counted && it.waits.0 && settled => {
                    late.refund_counted(charge, it, (self.now, self.started_at));
                }
                Known::ChargeReply(it) if counted && it.waits.0 => late.record_lost_refund(),
                Known::ChargeReply(it) => late.refund(charge, it, (self.now, self.started_at)),
                Known::Failed { sent: true, .. } if counted && charge.depends_on_others() => {
                    late.record_lost_refund()
                }
                Known::Failed { .. } | Known::Unsure | Known::Nothing => {}
            }
        }
    }

    /// Settles what may be held, and waits for that until the deadline. Returns whether all
    /// of it is settled.
    async fn settled(&mut self, counts: bool) -> bool {
        let settled = join_all(self.settle(counts));
        let settled = timeout_at(self.until, settled).await;
        settled.is_ok_and(|all| all.iter().all(Result::is_ok))
    }

    /// Holds hits in all places at the same time. Once a limit refuses, the rest of a large
    /// request holds nothing.
    async fn everywhere(&mut self) {
        // Whoever waits for what this holds has to hear of its end in time.
        let until = self.started_at + self.until.saturating_duration_since(self.started_at) * 2 / 3;
        let (servers, refused) = (&*self.calls.servers, AtomicBool::new(false));
        let ask = async |at: usize| {
            let group = &self.groups[at];
            let mut call = self.call(&group.at, CallKind::Decide(Some(self.holder())));
            if refused.load(Relaxed) {
                call.charges.iter_mut().for_each(|it| it.refused = true);
            }
            let call = Arc::new(call);
            let reply = servers.send(group.place, &call, until).await;
            if let Ok(answers) = &reply {
                let over = |charge, it: &Option<ChargeReply>| {
                    (charge, it.map(|it| outcome(charge, it, self.now).over))
                };
                let over = call.charges.iter().zip(answers).map(|(it, answer)| over(it, answer));
                let alone = over.filter(|(it, _)| it.enforced == Enforced::Yes);
                refused.fetch_or(Enforcement::of(alone).refuses(), Relaxed);
            }
            (call, reply)
        };
        for (group, (call, reply)) in of_each(servers, &self.groups, ask).await {
            self.sent.push(call);
            let at = self.groups[group].at.clone();
            self.learn(&at, reply);
        }
    }

    /// Whether it is known of every charge what it comes to, or that others hold hits, and
    /// there is something of the latter kind and nothing that refuses.
    fn is_unsure(&self) -> bool {
        let failed = |it: &Known| matches!(it, Known::Failed { .. } | Known::Nothing);
        let unsure = |it: &Known| matches!(it, Known::Unsure);
        !self.is_refused() && !self.known.iter().any(failed) && self.known.iter().any(unsure)
    }

    /// Where the call has no answer from one place, and in another others hold hits: waits
    /// for these, as the call may be refused there. Not while it holds hits itself, or two
    /// calls would wait for each other.
    async fn linger(&mut self) {
        let holds = |it: &Known| matches!(it, Known::ChargeReply(it) if it.waits.0 || it.waits.1);
        let unsure = |it: &Known| matches!(it, Known::Unsure);
        while !self.is_refused()
            && !self.known.iter().any(holds)
            && Instant::now() + RETRY < self.until
        {
            let known = &self.known;
            let open = |group: &Group| group.at.iter().any(|at| unsure(&known[*at]));
            let Some(group) = self.groups.iter().position(open) else { return };
            sleep(a_moment()).await;
            self.one(group).await;
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
            Known::ChargeReply(it) => {
                !it.waits.0 && !it.waits.1 && (!charge.depends_on_others() || it.refused.1)
            }
            Known::Nothing | Known::Unsure | Known::Failed { .. } => false,
        };
        for (charge, known) in self.charges.iter().zip(&mut self.known) {
            if !made(charge, known) {
                *known = Known::Nothing;
            }
        }
        for group in 0..self.groups.len() {
            while !self.one(group).await {
                if self.until <= Instant::now() + RETRY {
                    break;
                }
                sleep(a_moment()).await;
            }
        }
    }

    /// Asks once more in the place of one group for what is not known, and says whether all
    /// of it is. Of a call that is refused nothing is held any more.
    async fn one(&mut self, group: usize) -> bool {
        let open = |at: &usize| matches!(self.known[*at], Known::Nothing | Known::Unsure);
        let Group { place, at, .. } = &self.groups[group];
        let (place, at): (_, SmallVec<[usize; 4]>) =
            (*place, at.iter().copied().filter(open).collect());
        if at.is_empty() {
            return true;
        }
        let holder = (!self.is_refused()).then(|| self.holder());
        let call = Arc::new(self.call(&at, CallKind::Decide(holder)));
        self.sent.push(Arc::clone(&call));
        let reply = self.calls.servers.send(place, &call, self.until).await;
        self.learn(&at, reply);
        at.iter().all(|at| !matches!(self.known[*at], Known::Unsure))
    }

    /// Asks again, now that the call is refused, where that makes a limit refuse hits as well
    /// and ban whoever sent them: it passed them only because of others of this call that are
    /// not counted.
    async fn ban(&mut self) {
        let bans = |charge: &Charge, known: &Known| match known {
            Known::ChargeReply(it) => {
                let passes = (it.answer.passes, it.refused.0.passes);
                !charge.limit.penalty.is_zero() && passes == (true, false) && !it.refused.1
            }
            Known::Nothing | Known::Unsure | Known::Failed { .. } => false,
        };
        let all = self.charges.iter().zip(&self.known).map(|(charge, known)| bans(charge, known));
        let banning: Vec<bool> = all.collect();
        if !banning.contains(&true) {
            return;
        }
        self.settled(false).await;
        let before = self.known.clone();
        for (known, bans) in self.known.iter_mut().zip(&banning) {
            if *bans {
                *known = Known::Nothing;
            }
        }
        for group in 0..self.groups.len() {
            self.one(group).await;
        }
        for (known, before) in self.known.iter_mut().zip(before) {
            if !matches!(known, Known::ChargeReply(_)) {
                *known = before;
            }
        }
    }

    fn holder(&self) -> Holder {
        Holder { id: self.id, until: self.now.plus(HOLD) }
    }

    /// The call for the charges at these positions, which are at one place.
    fn call(&self, at: &[usize], kind: CallKind) -> Call {
        let all = Enforcement::of(self.over());
        let refused = all.refuses();
        let is_open = |at: usize| {
            matches!(all.left(self.charges[at].enforced), Enforced::Quota(_))
                && !matches!(self.known[at], Known::ChargeReply(_))
        };
        let elsewhere = (0..self.charges.len()).any(|it| is_open(it) && !at.contains(&it));
        let charge = |at: &usize| {
            let charge = self.charges[*at].clone();
            let enforced = match all.left(charge.enforced) {
                // Nobody there knows whether all quotas are used up.
                Enforced::Quota(_) if elsewhere => Enforced::No,
                enforced => enforced,
            };
            Charge { refused, enforced, ..charge }
        };
        let call = Call::with_kind(at.iter().map(charge).collect(), self.now, kind);
        let caller = Some(Arc::clone(&self.caller));
        Call {
            started_at: self.started_at,
            run_time_at_start: Some(self.run_time_at_start),
            caller,
            ..call
        }
    }

    /// Learns what has become of the charges at these positions.
    fn learn(&mut self, at: &[usize], reply: CallResult) {
        match reply {
            Ok(answers) => {
                for (at, answered) in at.iter().zip(answers) {
                    self.known[*at] = answered.map_or(Known::Unsure, Known::ChargeReply);
                }
            }
            Err(error) => {
                let sent = error.may_be_made();
                let why = StoreError::from(error);
                for at in at {
                    self.known[*at] = Known::Failed { why: why.clone(), sent };
                }
            }
        }
    }

    /// Whether it is known that the call is refused.
    fn is_refused(&self) -> bool {
        Enforcement::of(self.over()).refuses()
    }

    /// The charges, and whether they are over their limits where that is known.
    fn over(&self) -> impl Iterator<Item = (&Charge, Option<bool>)> {
        self.charges.iter().zip(&self.known).map(|(charge, known)| match known {
            Known::ChargeReply(it) => (charge, Some(outcome(charge, *it, self.now).over)),
            Known::Nothing | Known::Unsure | Known::Failed { .. } => (charge, None),
        })
    }

    fn decision(&self) -> Decision {
        if self.is_refused() {
            Decision::Refused
        } else if self.over().any(|(_, over)| over.is_none()) {
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
                Known::ChargeReply(answered) => {
                    let ChargeReply { answer, made, refused, .. } = *answered;
                    let (answer, made) = if counts { (answer, made) } else { refused };
                    Ok(outcome(charge, ChargeReply { answer, made, ..*answered }, self.now))
                }
                Known::Failed { why, .. } => Err(why.clone()),
                Known::Unsure | Known::Nothing => Err(still_held()),
            });
        }
        if results.len() == self.charges.len() {
            return results;
        }
        all_failed(self.charges.len(), &still_held())
    }

    /// Settles all that may be held: counts it, or lets it go. Says when that is done where
    /// it surely is.
    fn settle(&mut self, counts: bool) -> Vec<oneshot::Receiver<()>> {
        let mut settled = Vec::new();
        let groups = self.groups.iter().flat_map(|it| [(it, true), (it, false)]);
        for (group, answered) in groups {
            let may_hold = group.at.iter().map(|at| (&self.charges[*at], &self.known[*at]));
            let may_hold = may_hold.filter_map(|(charge, known)| match known {
                Known::ChargeReply(it) if answered => Some((charge, Some(it))),
                Known::Failed { sent: true, .. } if !answered => Some((charge, None)),
                _ => None,
            });
            let charges = held(may_hold, self.id, counts);
            if charges.is_empty() {
                continue;
            }
            // Hits are counted even if they are not held any more. A server that has not
            // answered may do what it was told when it is back, and hold them then.
            let most = if counts || !answered { HOLD + KNOWN } else { HOLD };
            let (now, until) = ((self.now, self.started_at), self.started_at + most);
            let (done, ended) = oneshot::channel();
            settled.extend(answered.then_some(ended));
            let permit = Some(Arc::clone(&self.permit));
            self.calls.late.settle(PendingSettlement {
                charges,
                now,
                until,
                done: Some(done),
                permit,
            });
        }
        // Those that are still on their way are settled when they come.
        for call in mem::take(&mut self.sent) {
            call.late.store(if counts { COUNT } else { RELEASE }, Relaxed);
        }
        settled
    }
}
