//! Calls that share a round trip.
//!
//! What comes while a batch is on its way waits, and goes with the next one, in
//! the order in which it came; a call that comes alone goes at once. Hits of one
//! batch on one counter of a fixed window are added up, and calls of other kinds
//! that may meet on a counter are made by one script, one after the other. Each
//! call is told what it would have been told if it had been made alone: a counter
//! that everybody asks about costs Redis one command per round trip.
//!
//! On a single server a batch is three commands at most. In a cluster it is one per
//! counter, as a script may only touch one slot there.
//!
//! Nobody who gives up takes the answer along: what it grants too late is
//! [given back](super::settler).

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, atomic::AtomicU8},
    task::{Context, Poll},
    time::Duration,
};

use redis::Value;
use smallvec::SmallVec;
use tokio::{
    runtime::Handle,
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    breaker::Breaker,
    fate::Fate,
    fixed_window::{self, Plain},
    node::NodeError,
    parts::{Batch, Part},
    pulse::Pulse,
    settler::Late,
};
use crate::{
    limit::step::Answer,
    store::{
        Charge, StoreError,
        script::{Holder, Settlement},
    },
    time::Timestamp,
};

/// How many charges one batch makes at most, unless one call alone has more:
/// Redis serves nobody else meanwhile.
const CHARGES: usize = 64;
/// How many calls may wait; more are refused at once.
pub(super) const QUEUE: usize = 8_192;
/// How long an answer is waited for that no caller waits for any more.
pub(super) const LATE: Duration = Duration::from_secs(10);

/// The answer for each charge of a call; none where it depends on what others hold. Of
/// charges that are settled there are none.
pub(super) type Answers = SmallVec<[Option<Answered>; 2]>;

/// The answer for one charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// Whether its hits were counted, or are held, if that is what the algorithm does
    /// with them.
    pub(super) made: bool,
    /// The answer if the call is refused elsewhere, and whether they are counted then.
    pub(super) refused: (Answer, bool),
    /// Whether they wait to be counted if the call is granted, and if it is refused.
    pub(super) waits: (bool, bool),
}

/// What a call has come to.
pub(super) type Reply = Result<Answers, NodeError>;

/// The way to a server.
pub(super) trait Wire: Send + Sync + 'static {
    /// The answer to each of the `parts` of `batch`, sent together and once. `asking`
    /// says that another server of the cluster sent them here.
    fn ask(
        &self,
        batch: &Batch<'_>,
        parts: &[Part],
        asking: bool,
    ) -> impl Future<Output = Result<Vec<Value>, NodeError>> + Send;

    /// Ends when the server has answered everything so far, or cannot be asked.
    fn heard(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) charges: SmallVec<[Charge; 1]>,
    pub(super) now: Timestamp,
    /// When `now` was.
    pub(super) begun: Instant,
    pub(super) kind: Kind,
    /// What becomes of the caller; none if nobody is served by the answer.
    pub(super) fate: Option<Arc<Fate>>,
    /// What becomes of what it holds if the answer comes too late.
    pub(super) late: AtomicU8,
}

/// Whoever holds it still decides, and then settles it.
pub(super) const UNDECIDED: u8 = 0;
/// It is let go.
pub(super) const RELEASE: u8 = 1;
/// It is counted: the caller was let through without the answer.
pub(super) const COUNT: u8 = 2;

/// What is to be done with the charges of a call.
#[derive(Debug)]
pub(super) enum Kind {
    /// They are made, all of them by the fast path.
    Plain(SmallVec<[Plain; 2]>),
    /// They are made, and what depends on charges elsewhere is held for somebody.
    Decide(Option<Holder>),
    /// Each of them is settled.
    Settle(SmallVec<[Settlement; 1]>),
}

impl Call {
    /// Makes `charges`.
    pub(super) fn of(charges: &[Charge], now: Timestamp) -> Self {
        let kind = match charges.iter().all(fixed_window::suffices) {
            true => Kind::Plain(charges.iter().map(|it| Plain::of(it, now)).collect()),
            false => Kind::Decide(None),
        };
        Self::with(charges.into(), now, kind)
    }

    /// Does what `kind` says with `charges`.
    pub(super) fn with(charges: SmallVec<[Charge; 1]>, now: Timestamp, kind: Kind) -> Self {
        let late = AtomicU8::new(UNDECIDED);
        Self { charges, now, begun: Instant::now(), kind, fate: None, late }
    }

    /// Makes the charges at `places` alone, by the script for all kinds.
    pub(super) fn part(&self, places: impl Iterator<Item = usize>) -> Self {
        let charges = places.map(|it| self.charges[it].clone()).collect();
        let call = Self::with(charges, self.now, Kind::Decide(None));
        Self { begun: self.begun, fate: self.fate.clone(), ..call }
    }
}

/// Makes calls together.
#[derive(Debug)]
pub(super) struct Batches<W: Wire> {
    line: Arc<Line<W>>,
    queue: mpsc::Sender<Waiting>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    call: Arc<Call>,
    /// Closed once the caller has given up.
    answer: oneshot::Sender<Reply>,
}

impl<W: Wire> Batches<W> {
    /// Begins to make calls to the server at the end of `wire`, one of a cluster if
    /// `cluster`. Needs a Tokio runtime.
    pub(super) fn new(
        wire: W,
        timeout: Duration,
        cluster: bool,
        (late, pulse): (Late, Pulse),
    ) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        let line = Arc::new(Line {
            wire,
            timeout,
            cluster,
            turn: Arc::new(Semaphore::new(1)),
            asks: Semaphore::new(QUEUE),
            breaker: Breaker::new(timeout, pulse.clone()),
            pulse,
            unheard: Notify::new(),
            late,
        });
        let mut task = JoinSet::new();
        let works = Arc::clone(&line);
        task.spawn(async move {
            tokio::select! {
                () = Arc::clone(&works).serve(calls) => {}
                () = works.listen() => {}
            }
        });
        Self { line, queue, _task: task }
    }

    /// Makes a call, once, and waits for the answer as long as it takes, unless
    /// it is clear that none comes.
    pub(super) async fn call(&self, call: &Arc<Call>) -> Reply {
        self.line.breaker.admit()?;
        // To hand a lone call over, and its answer back, would cost more than all
        // else that is done for it here.
        if let Ok(turn) = Arc::clone(&self.line.turn).try_acquire_owned() {
            return Alone::new(&self.line, call, Some(turn)).await;
        }
        let (answer, reply) = oneshot::channel();
        let waiting = Waiting { call: Arc::clone(call), answer };
        self.queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => unsent(format!("{QUEUE} calls wait for Redis already")),
            TrySendError::Closed(_) => gone(),
        })?;
        reply.await.map_err(|_| gone())?
    }

    /// Makes a call that another server sent here.
    pub(super) async fn asked(&self, call: &Arc<Call>) -> Reply {
        self.line.breaker.admit()?;
        let Ok(_place) = self.line.asks.try_acquire() else {
            return Err(unsent(format!("{QUEUE} calls wait for Redis already")));
        };
        Alone::new(&self.line, call, None).await
    }

    /// How many calls wait for others.
    pub(super) fn waiting(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    /// Whether the server does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.line.breaker.is_open()
    }

    /// Whether nothing makes calls any more.
    pub(super) fn is_dead(&self) -> bool {
        self.queue.is_closed()
    }

    /// Ends when nothing makes calls any more.
    pub(super) async fn abandoned(&self) {
        self.queue.closed().await;
    }
}

pub(super) fn failed(why: String) -> NodeError {
    NodeError::Failed(StoreError::Failed(why))
}

fn unsent(why: String) -> NodeError {
    NodeError::Unsent(StoreError::Failed(why))
}

fn gone() -> NodeError {
    failed("nothing makes calls any more".into())
}

/// The way to the server, and who goes it.
#[derive(Debug)]
struct Line<W> {
    wire: W,
    timeout: Duration,
    cluster: bool,
    /// Held while a batch is on its way, and somebody waits for it.
    turn: Arc<Semaphore>,
    /// How many more calls may come from other servers of the cluster.
    asks: Semaphore,
    breaker: Breaker,
    /// How long this process has run.
    pulse: Pulse,
    /// Something has been sent, and nobody waits for the answer any more.
    unheard: Notify,
    late: Late,
}

/// A call that goes alone. If its caller gives up, the answer is waited for in a task of
/// its own.
struct Alone<W: Wire> {
    line: Arc<Line<W>>,
    call: Arc<Call>,
    sent: Option<Pin<Box<dyn Future<Output = Reply> + Send>>>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl<W: Wire> Alone<W> {
    /// Without a turn another server of the cluster has sent the call here.
    fn new(line: &Arc<Line<W>>, call: &Arc<Call>, turn: Option<OwnedSemaphorePermit>) -> Self {
        let (line, call, asking) = (Arc::clone(line), Arc::clone(call), turn.is_none());
        let (way, own) = (Arc::clone(&line), Arc::clone(&call));
        let sent = Box::pin(async move {
            way.make(&[&own], asking).await.pop().unwrap_or_else(|| Err(gone()))
        });
        Self { line, call, sent: Some(sent), _turn: turn }
    }
}

impl<W: Wire> Future for Alone<W> {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let Some(sent) = &mut self.sent else { return Poll::Ready(Err(gone())) };
        let reply = sent.as_mut().poll(context);
        if reply.is_ready() {
            self.sent = None;
        }
        reply
    }
}

impl<W: Wire> Drop for Alone<W> {
    fn drop(&mut self) {
        let (Some(sent), Ok(runtime)) = (self.sent.take(), Handle::try_current()) else { return };
        self.line.unheard.notify_one();
        let (line, call) = (Arc::clone(&self.line), Arc::clone(&self.call));
        runtime.spawn(async move {
            if let Ok(reply) = timeout(LATE, sent).await {
                line.late.answered(&call, &reply);
            }
        });
    }
}

impl<W: Wire> Line<W> {
    /// Notices answers for which nobody waits any more: otherwise the server
    /// would be taken for silent since then. Never ends.
    async fn listen(&self) {
        loop {
            self.unheard.notified().await;
            // Answers come in the order of what was sent.
            while timeout(self.timeout, self.wire.heard()).await.is_err() {}
            self.breaker.answered();
        }
    }

    /// Makes the calls that wait. Never ends before the last.
    async fn serve(self: Arc<Self>, mut queue: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, CHARGES).await > 0 {
            let Ok(_turn) = self.turn.acquire().await else { return };
            loop {
                while waiting.len() < CHARGES
                    && let Ok(call) = queue.try_recv()
                {
                    waiting.push(call);
                }
                if waiting.is_empty() {
                    break;
                }
                let calls = next(&mut waiting);
                if calls.is_empty() {
                    continue;
                }
                let mut batch = Box::pin(Arc::clone(&self).together(calls));
                if self.pulse.within(self.timeout, &mut batch).await.is_none() {
                    // Its callers give up by themselves; what it grants too late is
                    // given back.
                    self.unheard.notify_one();
                    tokio::spawn(timeout(LATE, batch));
                }
            }
        }
    }

    /// Makes calls in one batch, and tells every caller.
    async fn together(self: Arc<Self>, waiting: Vec<Waiting>) {
        let calls: Vec<_> = waiting.iter().map(|it| &it.call).collect();
        let replies = self.make(&calls, false).await;
        for (Waiting { call, answer }, reply) in waiting.into_iter().zip(replies) {
            // The caller may have given up meanwhile.
            if let Err(reply) = answer.send(reply) {
                self.late.answered(&call, &reply);
            }
        }
    }

    /// What each of `calls` has come to.
    async fn make(&self, calls: &[&Arc<Call>], asking: bool) -> Vec<Reply> {
        let calls: Vec<&Call> = calls.iter().map(|it| &***it).collect();
        let mut replies = self.make_once(&calls, asking).await;
        // Where others hold hits, the fast path counts nothing.
        let held = |(at, reply): (usize, &Reply)| {
            let held = matches!(calls[at].kind, Kind::Plain(_))
                && reply.as_ref().is_ok_and(|it| it.iter().any(Option::is_none));
            held.then_some(at)
        };
        let again: Vec<usize> = replies.iter().enumerate().filter_map(held).collect();
        if again.is_empty() {
            return replies;
        }
        let places = |reply: &Reply| -> Vec<usize> {
            let open = reply.iter().flatten().enumerate().filter(|(_, it)| it.is_none());
            open.map(|(at, _)| at).collect()
        };
        let parts: Vec<Call> =
            again.iter().map(|at| calls[*at].part(places(&replies[*at]).into_iter())).collect();
        let parts: Vec<&Call> = parts.iter().collect();
        for (at, rest) in again.iter().zip(self.make_once(&parts, asking).await) {
            let places = places(&replies[*at]);
            // What has no answer is asked for again.
            if let (Ok(reply), Ok(rest)) = (&mut replies[*at], rest) {
                for (place, answer) in places.into_iter().zip(rest) {
                    reply[place] = answer;
                }
            }
        }
        replies
    }

    async fn make_once(&self, calls: &[&Call], asking: bool) -> Vec<Reply> {
        let batch = Batch::of(calls);
        let parts = batch.parts(self.cluster);
        self.breaker.sent();
        let answers = self.wire.ask(&batch, &parts, asking).await;
        self.breaker.answered();
        match answers {
            Ok(answers) => batch.read(calls, &parts, answers),
            Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// Takes the first calls out of `waiting`, as many as one batch makes. Those
/// that nobody waits for are left out.
fn next(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|it| !it.answer.is_closed());
    let mut charges = 0;
    let more = waiting.iter().position(|it| {
        charges += it.call.charges.len();
        CHARGES < charges
    });
    let rest = waiting.split_off(more.map_or(waiting.len(), |it| it.max(1)));
    mem::replace(waiting, rest)
}
