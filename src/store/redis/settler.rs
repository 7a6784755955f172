//! Brings to an end what calls have left behind: hits that they hold, and hits that
//! were granted when nobody waited for the answer any more.
//!
//! A server may not be there just then, so a task tries again, for as long as it makes
//! sense: what is held ends by itself, and to give back twice would be worse than not to
//! give back.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::smallvec;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    batch::{Call, Kind, LATE, QUEUE, Reply},
    node::NodeError,
};
use crate::{
    store::{Charge, script::Settlement},
    time::Timestamp,
};

/// How many charges are settled at the same time.
const AT_ONCE: usize = 256;
/// How long to wait at first before trying again; each time twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Somebody who settles charges.
pub(super) trait Settles: Send + Sync + 'static {
    /// Makes a call that settles, where its counter is.
    fn settle(&self, call: &Arc<Call>, until: Instant) -> impl Future<Output = Reply> + Send;
}

/// Takes in what is to be settled.
#[derive(Clone, Debug)]
pub(super) struct Late {
    queue: mpsc::Sender<Unsettled>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    given_back: AtomicU64,
    not_given_back: AtomicU64,
    /// How many charges wait to be settled.
    waiting: watch::Sender<usize>,
}

/// A charge that is to be settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) charge: Charge,
    pub(super) how: Settlement,
    /// A moment of the clock, and when that was.
    pub(super) now: (Timestamp, Instant),
    /// When it makes no sense any more.
    pub(super) until: Instant,
    /// Dropped when it is settled, or cannot be.
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Late {
    /// The other end is for [`run`].
    pub(super) fn new() -> (Self, mpsc::Receiver<Unsettled>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, counts: Arc::default() }, waiting)
    }

    /// Takes in one charge.
    pub(super) fn settle(&self, unsettled: Unsettled) {
        self.counts.waiting.send_modify(|it| *it += 1);
        if let Err(error) = self.queue.try_send(unsettled) {
            self.counts.ended(error.into_inner().how, false);
        }
    }

    /// Nobody waits for this answer any more: gives back what it grants.
    pub(super) fn answered(&self, call: &Call, reply: &Reply) {
        let Ok(answers) = reply else { return };
        let until = Instant::now() + LATE;
        let settle = |charge: &Charge, how| {
            let now = (call.now, call.begun);
            self.settle(Unsettled { charge: charge.clone(), how, now, until, done: None });
        };
        for (charge, answered) in call.charges.iter().zip(answers) {
            let Some(answered) = answered else { continue };
            let hits = charge.hits.capped().asked();
            if hits == 0 || !answered.made {
                continue;
            }
            match &call.kind {
                Kind::Decide(Some(holder)) if charge.depends() => {
                    let how = match call.counts_late.load(Relaxed) {
                        true => Settlement::Count(holder.id),
                        false => Settlement::Release(holder.id),
                    };
                    settle(charge, how);
                }
                Kind::Plain(_) | Kind::Decide(_) => {
                    if answered.answer.passes && !charge.passes_late {
                        settle(charge, Settlement::GiveBack(hits, answered.answer.told));
                    }
                }
                Kind::Settle(_) => {}
            }
        }
    }

    /// Ends when nobody settles anything any more.
    pub(super) async fn abandoned(&self) {
        self.queue.closed().await;
    }

    /// How many charges were given back, and how many could not be.
    pub(super) fn counts(&self) -> (u64, u64) {
        let Counts { given_back, not_given_back, .. } = &*self.counts;
        (given_back.load(Relaxed), not_given_back.load(Relaxed))
    }

    /// Waits until everything is settled, for so long at most.
    pub(super) async fn finish(&self, most: Duration) {
        let mut waiting = self.counts.waiting.subscribe();
        let _ = timeout(most, waiting.wait_for(|it| *it == 0)).await;
    }
}

impl Counts {
    fn ended(&self, how: Settlement, settled: bool) {
        self.waiting.send_modify(|it| *it = it.saturating_sub(1));
        match (how, settled) {
            (Settlement::Release(_) | Settlement::GiveBack(..), true) => {
                self.given_back.fetch_add(1, Relaxed);
            }
            (_, false) => {
                self.not_given_back.fetch_add(1, Relaxed);
            }
            (Settlement::Count(_) | Settlement::Set(_), true) => {}
        }
    }
}

/// Settles what `late` takes in. Ends when nobody can hand in anything any more.
pub(super) async fn run<S: Settles>(
    settles: Arc<S>,
    late: Late,
    mut queue: mpsc::Receiver<Unsettled>,
) {
    let mut tries = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            next = queue.recv(), if tries.len() < AT_ONCE => {
                let Some(unsettled) = next else { return };
                let (settles, counts) = (Arc::clone(&settles), Arc::clone(&late.counts));
                tries.push(async move {
                    let how = unsettled.how;
                    counts.ended(how, settle(&*settles, unsettled).await);
                });
            }
            Some(()) = tries.next() => {}
        }
    }
}

/// Settles one charge, and says whether it surely is.
async fn settle<S: Settles>(settles: &S, unsettled: Unsettled) -> bool {
    let Unsettled { charge, how, now: (moment, then), until, done: _done } = unsettled;
    // By a number each is settled once, however often it is tried.
    let again = matches!(how, Settlement::Count(_) | Settlement::Release(_));
    let mut pause = SHORTEST_PAUSE;
    loop {
        let now = moment.plus(then.elapsed());
        let kind = Kind::Settle(smallvec![how]);
        let call = Arc::new(Call::with(smallvec![charge.clone()], now, kind));
        match settles.settle(&call, until).await {
            Ok(_) => return true,
            Err(NodeError::Unsent(_)) => {}
            Err(_) if again => {}
            Err(_) => return false,
        }
        if until <= Instant::now() + pause {
            return false;
        }
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
