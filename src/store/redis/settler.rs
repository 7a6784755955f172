//! Brings to an end what calls have left behind: hits that they hold, and hits that
//! were granted when nobody waited for the answer any more.
//!
//! A server may not be there just then, so a task tries again, for as long as it makes
//! sense: what is held ends by itself, and to give back twice would be worse than not to
//! give back.

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::{SmallVec, smallvec};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    call::{COUNT, Call, CallKind, CallResult, ChargeReplies, ChargeReply, UNDECIDED, UnreadReply},
    limits::{LATE_REPLY_TIMEOUT, QUEUE_CAPACITY},
};
use crate::{
    counter::CounterKey,
    store::{Charge, script::Settlement},
    time::Timestamp,
};

/// How many settlements are in flight at the same time. Fewer than calls may wait for a server,
/// so that settlements leave room for calls; many, so that those for a dead server do not
/// delay the others.
const AT_ONCE: usize = QUEUE_CAPACITY / 8;
/// How many more settlements may wait.
const WAITING: usize = 3 * QUEUE_CAPACITY;
/// How long to wait at first before trying again; each time twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Somebody who settles charges.
pub(super) trait Settles: Send + Sync + 'static {
    /// Makes a call that settles, where its counter is.
    fn settle(&self, call: &Arc<Call>, until: Instant) -> impl Future<Output = CallResult> + Send;
}

/// Takes in what is to be settled.
#[derive(Clone, Debug)]
pub(super) struct SettlementQueue {
    queue: mpsc::Sender<PendingSettlement>,
    counts: Arc<SettlementStats>,
}

#[derive(Debug, Default)]
pub(super) struct SettlementStats {
    refunded: AtomicU64,
    failed_refunds: AtomicU64,
    /// How many settlements wait or are in flight.
    waiting: watch::Sender<usize>,
}

/// A settlement of charges that are all in one place.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    pub(super) charges: Group,
    /// A moment of the clock, and when that was.
    pub(super) now: (Timestamp, Instant),
    /// When to give up.
    pub(super) until: Instant,
    /// Sent when the charges are settled; dropped if they cannot be.
    pub(super) done: Option<oneshot::Sender<()>>,
    /// The permits of the reservation, kept until everything is settled.
    pub(super) permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl SettlementQueue {
    /// The other end is for [`run`].
    pub(super) fn new() -> (Self, mpsc::Receiver<PendingSettlement>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue, counts: Arc::default() }, waiting)
    }

    /// Takes in what is to be settled.
    pub(super) fn settle(&self, unsettled: PendingSettlement) {
        self.counts.waiting.send_modify(|it| *it += 1);
        if let Err(error) = self.queue.try_send(unsettled) {
            self.counts.ended(error.into_inner().counters(), false);
        }
    }

    /// Nobody waits for this answer any more: gives back what it grants.
    pub(super) fn on_late_reply(&self, call: &Arc<Call>, reply: &CallResult) {
        let Ok(answers) = reply else { return };
        let now = (call.now, call.started_at);
        match (&call.kind, call.late.load(Relaxed)) {
            (CallKind::Settle(_), _) => return,
            (CallKind::Decide(Some(holder)), late) if late != UNDECIDED => {
                let until = Instant::now() + LATE_REPLY_TIMEOUT;
                let mut known = Vec::new();
                for (charge, answered) in call.charges.iter().zip(answers) {
                    known.extend(answered.as_ref().map(|it| (charge, Some(it))));
                }
                let charges = held(known.into_iter(), holder.id, late == COUNT);
                if !charges.is_empty() {
                    self.settle(PendingSettlement {
                        charges,
                        now,
                        until,
                        done: None,
                        permit: None,
                    });
                }
            }
            (CallKind::Count(_) | CallKind::Decide(_), _) => {}
        }
        let refund = match &call.caller {
            Some(caller) => caller.on_late_reply(call, answers),
            None => true,
        };
        if refund {
            self.refund_replies(call, answers);
        }
    }

    /// Refunds replies that their caller has not received.
    pub(super) fn refund_unread(&self, unread: Vec<UnreadReply>) {
        for UnreadReply { call, replies, .. } in unread {
            self.refund_replies(&call, &replies);
        }
    }

    /// Gives back what `call` was granted at once.
    pub(super) fn refund_replies(&self, call: &Call, answers: &ChargeReplies) {
        for (charge, answered) in call.charges.iter().zip(answers) {
            if let Some(answered) = answered {
                self.refund(charge, answered, (call.now, call.started_at));
            }
        }
    }

    /// Gives back what a charge was granted at once.
    pub(super) fn refund(
        &self,
        charge: &Charge,
        answered: &ChargeReply,
        now: (Timestamp, Instant),
    ) {
        if answered.made && !answered.waits.0 {
            self.refund_counted(charge, answered, now);
        }
    }

    /// Gives back what a charge was granted, and has been counted.
    pub(super) fn refund_counted(
        &self,
        charge: &Charge,
        answered: &ChargeReply,
        now: (Timestamp, Instant),
    ) {
        let (hits, answer) = (charge.hits.capped().requested(), answered.answer);
        if answer.passes && 0 < hits {
            let until = Instant::now() + LATE_REPLY_TIMEOUT;
            let charges = smallvec![(charge.clone(), Settlement::GiveBack(hits, answer.snapshot))];
            self.settle(PendingSettlement { charges, now, until, done: None, permit: None });
        }
    }

    /// What was granted stays counted.
    pub(super) fn record_lost_refund(&self) {
        self.counts.failed_refunds.fetch_add(1, Relaxed);
    }

    /// Where that is counted.
    pub(super) fn stats(&self) -> Arc<SettlementStats> {
        Arc::clone(&self.counts)
    }

    /// How many charges were given back, and how many could not be.
    pub(super) fn refund_counts(&self) -> (u64, u64) {
        let SettlementStats { refunded, failed_refunds, .. } = &*self.counts;
        (refunded.load(Relaxed), failed_refunds.load(Relaxed))
    }

    /// Ends when nobody settles anything any more.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Waits until everything is settled, for so long at most.
    pub(super) async fn drain(&self, most: Duration) {
        let mut waiting = self.counts.waiting.subscribe();
        let _ = timeout(most, waiting.wait_for(|it| *it == 0)).await;
    }
}

/// The counters of a settlement.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    all: u64,
    /// Those that get hits back.
    refunded: u64,
}

impl PendingSettlement {
    fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for (_, how) in &self.charges {
            match how {
                Settlement::More(_) => continue,
                Settlement::Release(_) | Settlement::GiveBack(..) => counters.refunded += 1,
                Settlement::Count(..) | Settlement::Set(_) => {}
            }
            counters.all += 1;
        }
        counters
    }
}

/// Charges in one place, and how each is settled.
pub(super) type Group = SmallVec<[(Charge, Settlement); 1]>;

/// How to settle what the call of number `id` holds in one place, depending on whether the
/// call is `granted`. Where there is no answer, every dependent charge may hold hits.
pub(super) fn held<'a>(
    charges: impl Iterator<Item = (&'a Charge, Option<&'a ChargeReply>)>,
    id: u64,
    granted: bool,
) -> Group {
    let mut held = Group::new();
    let mut counters: HashSet<&CounterKey, RandomState> = HashSet::default();
    for (charge, answered) in charges {
        let (may_hold, counts) = match answered {
            Some(ChargeReply { waits, .. }) => {
                (waits.0 || waits.1, if granted { waits.0 } else { waits.1 })
            }
            None => (charge.depends_on_others() && charge.hits.signed() != 0, granted),
        };
        if !may_hold {
            continue;
        }
        let how = match (counters.insert(&charge.counter.key), counts) {
            (true, true) => Settlement::Count(id, charge.hits),
            (true, false) => Settlement::Release(id),
            (false, true) => Settlement::More(charge.hits),
            (false, false) => continue,
        };
        held.push((charge.clone(), how));
    }
    held
}

impl SettlementStats {
    fn ended(&self, counters: Counters, settled: bool) {
        self.waiting.send_modify(|it| *it = it.saturating_sub(1));
        if settled {
            self.refunded.fetch_add(counters.refunded, Relaxed);
        } else {
            self.failed_refunds.fetch_add(counters.all, Relaxed);
        }
    }
}

/// Settles what [`SettlementQueue`] takes in, and counts that. Ends when nobody can hand in anything
/// any more.
pub(super) async fn run<S: Settles>(
    settles: Arc<S>,
    counts: Arc<SettlementStats>,
    mut queue: mpsc::Receiver<PendingSettlement>,
) {
    let mut tries = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            next = queue.recv(), if tries.len() < AT_ONCE => {
                let Some(unsettled) = next else { return };
                let (settles, counts) = (Arc::clone(&settles), Arc::clone(&counts));
                tries.push(async move {
                    let counters = unsettled.counters();
                    counts.ended(counters, settle(&*settles, unsettled).await);
                });
            }
            Some(()) = tries.next() => {}
        }
    }
}

/// Settles charges in one place, and returns whether they certainly are.
async fn settle<S: Settles>(settles: &S, unsettled: PendingSettlement) -> bool {
    let PendingSettlement { charges, now: (moment, then), until, done, permit: _permit } =
        unsettled;
    // By a number each is settled once, however often it is tried, and counts at the
    // moment of its call.
    let of_call = |(_, how): &(Charge, Settlement)| {
        matches!(how, Settlement::Count(..) | Settlement::More(_) | Settlement::Release(_))
    };
    let again = charges.iter().all(of_call);
    let hows: SmallVec<[Settlement; 1]> = charges.iter().map(|(_, how)| *how).collect();
    let charges: SmallVec<[Charge; 1]> = charges.into_iter().map(|(charge, _)| charge).collect();
    let mut pause = SHORTEST_PAUSE;
    loop {
        let now = if again { moment } else { moment.plus(then.elapsed()) };
        let call = Arc::new(Call::with_kind(charges.clone(), now, CallKind::Settle(hows.clone())));
        match settles.settle(&call, until).await {
            Ok(_) => {
                if let Some(done) = done {
                    let _ = done.send(());
                }
                return true;
            }
            Err(error) if again || !error.may_be_made() => {}
            Err(_) => return false,
        }
        if until <= Instant::now() + pause {
            return false;
        }
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
