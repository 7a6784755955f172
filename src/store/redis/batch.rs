//! Calls that share a round trip.
//!
//! What comes while a batch is on its way waits, and goes with the next one, in
//! the order in which it came; a call that comes alone goes at once. Hits of one
//! batch on one counter of a fixed window are added up, and calls of other kinds
//! that may meet on a counter are made by one script, one after the other. Each
//! call is told what it would have been told if it had been made alone: a counter
//! that everybody asks about costs Redis one command per round trip.
//!
//! On a single server a batch is two commands at most. In a cluster it is one per
//! counter, as a script may only touch one slot there.

use std::{collections::HashMap, mem, ops::Range, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use redis::{Cmd, Pipeline, Value};
use smallvec::SmallVec;
use tokio::{
    sync::{
        Notify, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinSet,
    time::timeout,
};

use super::{
    Twin,
    breaker::Breaker,
    charge,
    connection::{Connection, Link},
    elements, fixed_window,
    fixed_window::Plain,
    jitter::Jitter,
    node::NodeError,
    sums::{self, Sums},
};
use crate::{
    store::{Charge, Outcomes, StoreError},
    time::Timestamp,
};

/// How many charges one batch makes at most, unless one call alone has more:
/// Redis serves nobody else meanwhile.
const CHARGES: usize = 64;
/// How many calls may wait; more are refused at once.
const QUEUE: usize = 8_192;

/// Makes calls together.
#[derive(Debug)]
pub(super) struct Batches {
    line: Arc<Line>,
    queue: mpsc::Sender<Waiting>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// A call that waits.
#[derive(Debug)]
struct Waiting {
    call: Call,
    /// Closed once the caller has given up.
    answer: oneshot::Sender<Result<Outcomes, NodeError>>,
}

/// A call.
#[derive(Debug)]
struct Call {
    charges: SmallVec<[Charge; 1]>,
    now: Timestamp,
    /// The charges for the fast path, if they are all of that kind.
    plain: Option<SmallVec<[Plain; 2]>>,
}

impl Call {
    fn of(charges: &[Charge], now: Timestamp) -> Self {
        let plain = charges.iter().all(fixed_window::suffices);
        let plain = plain.then(|| charges.iter().map(|it| Plain::of(it, now)).collect());
        Self { charges: charges.into(), now, plain }
    }
}

impl Batches {
    /// Begins to make calls to a server, one of a cluster if `cluster`. Needs a
    /// Tokio runtime.
    pub(super) fn new(
        connection: Arc<Connection>,
        timeout: Duration,
        jitter: Jitter,
        cluster: bool,
    ) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        let breaker = Breaker::new(timeout, connection.pulse().clone());
        let line = Arc::new(Line {
            connection,
            timeout,
            jitter,
            cluster,
            count: Twin::new(fixed_window::SOURCE),
            decide: Twin::new(charge::SOURCE),
            turn: Semaphore::new(1),
            breaker,
            unheard: Notify::new(),
        });
        let mut task = JoinSet::new();
        let works = Arc::clone(&line);
        task.spawn(async move {
            tokio::select! {
                () = works.serve(calls) => {}
                () = works.listen() => {}
            }
        });
        Self { line, queue, _task: task }
    }

    /// Makes a call, once, and waits for the answer as long as it takes, unless
    /// it is clear that none comes.
    pub(super) async fn call(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> Result<Outcomes, NodeError> {
        self.line.breaker.admit()?;
        let call = Call::of(charges, now);
        // To hand a lone call over, and its answer back, would cost more than all
        // else that is done for it here.
        if let Ok(_turn) = self.line.turn.try_acquire() {
            let answer = self.line.make(&[&call], false).await.pop();
            return answer.unwrap_or_else(|| Err(gone()));
        }
        let (answer, outcomes) = oneshot::channel();
        self.queue.try_send(Waiting { call, answer }).map_err(|error| match error {
            TrySendError::Full(_) => failed(format!("{QUEUE} calls wait for Redis already")),
            TrySendError::Closed(_) => gone(),
        })?;
        outcomes.await.map_err(|_| gone())?
    }

    /// Makes a call that another server sent here.
    pub(super) async fn asked(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> Result<Outcomes, NodeError> {
        let answer = self.line.make(&[&Call::of(charges, now)], true).await.pop();
        answer.unwrap_or_else(|| Err(gone()))
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

fn failed(why: String) -> NodeError {
    NodeError::Failed(StoreError::Failed(why))
}

fn gone() -> NodeError {
    failed("nothing makes calls any more".into())
}

/// The way to the server.
#[derive(Debug)]
struct Line {
    connection: Arc<Connection>,
    timeout: Duration,
    jitter: Jitter,
    cluster: bool,
    /// For fixed windows.
    count: Twin,
    /// For all else.
    decide: Twin,
    /// Held while a batch is on its way, and somebody waits for it.
    turn: Semaphore,
    breaker: Breaker,
    /// Something has been sent, and nobody waits for the answer any more.
    unheard: Notify,
}

impl Line {
    /// Notices answers for which nobody waits any more: otherwise the server
    /// would be taken for silent since then. Never ends.
    async fn listen(&self) {
        loop {
            self.unheard.notified().await;
            // Answers come in the order of what was sent.
            let answer = || async { self.connection.link().await?.ping().await };
            while timeout(self.timeout, answer()).await.is_err() {}
            self.breaker.answered();
        }
    }

    /// Makes the calls that wait. Never ends before the last.
    async fn serve(&self, mut queue: mpsc::Receiver<Waiting>) {
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
                self.together(next(&mut waiting)).await;
            }
        }
    }

    /// Makes calls in one batch, and tells every caller.
    async fn together(&self, waiting: Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let calls: Vec<_> = waiting.iter().map(|it| &it.call).collect();
        let pulse = self.connection.pulse();
        let answers = pulse.within(self.timeout, self.make(&calls, false)).await;
        let late = || Err(NodeError::Failed(StoreError::Timeout(self.timeout)));
        let answers = answers.unwrap_or_else(|| calls.iter().map(|_| late()).collect());
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // The caller may have given up meanwhile.
            let _ = waiting.answer.send(answer);
        }
    }

    /// What becomes of each of `calls`.
    async fn make(&self, calls: &[&Call], asking: bool) -> Vec<Result<Outcomes, NodeError>> {
        let plain = || calls.iter().filter_map(|it| it.plain.as_ref());
        let batch = Batch {
            sums: Sums::of(plain().flatten()),
            decisions: calls.iter().filter(|it| it.plain.is_none()).copied().collect(),
            jitter: self.jitter,
        };
        let parts = batch.parts(self.cluster);
        match self.send(&batch, &parts, asking).await {
            Ok(answers) => batch.read(calls, &parts, answers),
            Err(error) => calls.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The answer for each of `parts`.
    async fn send(
        &self,
        batch: &Batch<'_>,
        parts: &[Part],
        asking: bool,
    ) -> Result<Vec<Value>, NodeError> {
        let link = self.connection.link().await.map_err(NodeError::Failed)?;
        let by_name = parts.iter().map(|it| batch.ask(it, self.twin(it).by_name()));
        let mut answers = self.ask(&link, by_name, asking).await?;
        // A server that does not know a script has done nothing.
        let unknown: Vec<_> = (0..parts.len()).filter(|it| is_unknown(&answers[*it])).collect();
        if !unknown.is_empty() {
            let whole = unknown.iter().map(|it| &parts[*it]);
            let whole = whole.map(|it| batch.ask(it, self.twin(it).whole()));
            let again = self.ask(&link, whole, asking).await?;
            for (place, answer) in unknown.into_iter().zip(again) {
                answers[place] = answer;
            }
        }
        Ok(answers)
    }

    /// The answers to `commands`, sent together.
    async fn ask(
        &self,
        link: &Link,
        commands: impl Iterator<Item = Cmd>,
        asking: bool,
    ) -> Result<Vec<Value>, NodeError> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            if asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command);
        }
        self.breaker.sent();
        let waits = GivesUp(&self.unheard);
        let answers = link.send_all(&pipeline).await;
        mem::forget(waits);
        self.breaker.answered();
        let answers = answers.map_err(|error| NodeError::from(&error))?;
        if answers.len() != pipeline.len() {
            let (found, expected) = (answers.len(), pipeline.len());
            return Err(failed(format!("there are {found} answers, expected {expected}")));
        }
        let each = 1 + usize::from(asking);
        Ok(answers.into_iter().skip(each - 1).step_by(each).collect())
    }

    fn twin(&self, part: &Part) -> &Twin {
        match part {
            Part::Count(_) => &self.count,
            Part::Decide(_) => &self.decide,
        }
    }
}

/// Dropped if its owner is, while it waits for an answer.
struct GivesUp<'a>(&'a Notify);

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
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

/// What one round trip is to do.
#[derive(Debug)]
struct Batch<'a> {
    sums: Sums<'a>,
    decisions: Vec<&'a Call>,
    jitter: Jitter,
}

/// What one command does.
#[derive(Debug)]
enum Part {
    /// Some of the sums.
    Count(Range<usize>),
    /// Some of the decisions, by their places.
    Decide(Vec<usize>),
}

impl Batch<'_> {
    /// `apart` says that different counters need different commands.
    fn parts(&self, apart: bool) -> Vec<Part> {
        let (sums, decisions) = (self.sums.charges.len(), self.decisions.len());
        let mut parts = Vec::new();
        if apart {
            parts.extend((0..sums).map(|it| Part::Count(it..it + 1)));
            let mut of: HashMap<&[u8], Vec<usize>, RandomState> = HashMap::default();
            for (place, call) in self.decisions.iter().enumerate() {
                let key = call.charges.first().map_or(&[][..], |it| it.counter.key.as_bytes());
                of.entry(key).or_default().push(place);
            }
            parts.extend(of.into_values().map(Part::Decide));
        } else {
            parts.extend((0 < sums).then_some(Part::Count(0..sums)));
            parts.extend((0 < decisions).then(|| Part::Decide((0..decisions).collect())));
        }
        parts
    }

    /// The command that does `part`, and begins with `begin`.
    fn ask(&self, part: &Part, begin: [&str; 2]) -> Cmd {
        match part {
            Part::Count(sums) => sums::ask(begin, &self.sums.charges[sums.clone()], self.jitter),
            Part::Decide(places) => {
                let calls = places.iter().map(|it| self.decisions[*it]);
                let calls: Vec<_> = calls.map(|it| (&it.charges[..], it.now)).collect();
                charge::ask(begin, &calls, self.jitter)
            }
        }
    }

    /// What became of each of `calls`, of which these are the answers.
    fn read(
        &self,
        calls: &[&Call],
        parts: &[Part],
        answers: Vec<Value>,
    ) -> Vec<Result<Outcomes, NodeError>> {
        let mut counts = Vec::with_capacity(self.sums.charges.len());
        let mut decided: Vec<_> = self.decisions.iter().map(|_| Err(gone())).collect();
        for (part, answer) in parts.iter().zip(answers) {
            match part {
                Part::Count(sums) => match elements(answer, sums.len()) {
                    Ok(found) => counts.extend(found.into_iter().map(Ok)),
                    Err(error) => counts.extend(sums.clone().map(|_| Err(error.clone()))),
                },
                Part::Decide(places) => {
                    let charges = places.iter().map(|it| self.decisions[*it].charges.len()).sum();
                    let mut rest = elements(answer, charges);
                    for &place in places {
                        let call = self.decisions[place];
                        decided[place] = match &mut rest {
                            Ok(rest) => {
                                let own: Vec<_> = rest.drain(..call.charges.len()).collect();
                                charge::read(&call.charges, &own, call.now).map_err(Into::into)
                            }
                            Err(error) => Err(error.clone()),
                        };
                    }
                }
            }
        }
        let (mut places, mut decided) = (self.sums.places.iter(), decided.into_iter());
        let outcomes = |call: &&Call| match &call.plain {
            Some(plain) => {
                let own = places.by_ref().take(plain.len());
                // All of them, also after an error: the next call begins there.
                let own: Vec<_> =
                    own.map(|it| counts[it.sum].as_ref().map(|at| it.count(at))).collect();
                let own: Result<Vec<_>, _> = own.into_iter().collect();
                let before = own.map_err(NodeError::clone)?;
                Ok(fixed_window::read(&call.charges, &before, call.now)?)
            }
            None => decided.next().unwrap_or_else(|| Err(gone())),
        };
        calls.iter().map(outcomes).collect()
    }
}
