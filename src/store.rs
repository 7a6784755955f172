//! Where counters are kept.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::enforced::Enforced;
use crate::{
    counter::{CounterKey, CounterRef},
    limit::{
        Hits, Limit, Outcome,
        step::{self, Step, StepResult},
    },
    time::Timestamp,
};

pub mod deny_cache;
pub(crate) mod enforced;
pub mod memory;
pub mod observe;
pub mod prefetch;
pub mod redis;
pub(crate) mod script;

/// How long a counter outlives its window, for clocks that are behind or step
/// back: within that, every store counts on where it was.
pub const EXPIRY_SLACK: Duration = Duration::from_secs(1);

/// The longest name that this process keeps, in bytes. The SHA-256 of a longer
/// one stands for it, or few counters could take much memory.
const LONGEST_NAME: usize = 256;

/// What this process keeps of a name.
fn name(key: &CounterKey) -> Cow<'_, [u8]> {
    match key.as_bytes() {
        long if LONGEST_NAME < long.len() => Cow::Owned(Sha256::digest(long).to_vec()),
        short => Cow::Borrowed(short),
    }
}

/// What to do to one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which counter, and which window of it.
    pub counter: CounterRef,
    /// The limit that it is held to.
    pub limit: Limit,
    /// What it is charged.
    pub hits: Hits,
    /// What it consumes if the call is refused.
    pub consume: Consume,
    /// Whether the call is refused if this charge is over its limit.
    pub enforced: Enforced,
    /// Whether the call is refused anyway, by a charge that is not sent along.
    pub refused: bool,
    /// What decides in the place of an answer that does not come in time.
    pub on_timeout: OnTimeout,
}

/// What decides a charge of which the store says nothing in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// Nothing: its request has no decision, unless it is refused anyway.
    Fail,
    /// Hits are over the limit.
    Deny,
    /// All hits pass that ever do.
    Allow,
}

/// What a charge consumes if its call is [refused](Enforced). Unless all charges of a call
/// are independent, it is made or refused as a whole: nobody is served in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consume {
    /// What it would if it were alone.
    Independent,
    /// Nothing: the counter stays as it is.
    AllOrNothing,
    /// What it would if it were alone and is refused itself, and else nothing. So
    /// does Envoy's reference service, if it is told to stop counting.
    IfRefused,
}

impl Charge {
    /// Whether the charge gives hits back. Refunds are never over a limit.
    pub const fn is_refund(&self) -> bool {
        matches!(self.hits, Hits::Refund(_))
    }

    /// What becomes of it if it is the first to its counter.
    pub fn outcome_if_first(&self, now: Timestamp) -> Outcome {
        let Step { passes, after, .. } =
            step::step(&self.limit, self.counter.span, None, self.hits, now);
        let answer = StepResult { passes, banned_until: Timestamp::default(), snapshot: after };
        self.outcome(answer, true, now)
    }

    /// Whether it matters to this charge what becomes of the others of its call.
    pub fn depends_on_others(&self) -> bool {
        self.consume != Consume::Independent
    }

    /// Whether it is made although its call is refused. `passes` says whether
    /// the algorithm lets it pass.
    fn made_if_refused(&self, passes: bool) -> bool {
        match self.consume {
            Consume::Independent => passes || self.counts_denied(),
            Consume::AllOrNothing => false,
            Consume::IfRefused => !passes && self.counts_denied(),
        }
    }

    /// Whether hits that are refused count.
    fn counts_denied(&self) -> bool {
        self.limit.algorithm.counts_denied()
    }

    /// What became of it. `made` says whether its hits were counted if that is
    /// what the algorithm does with them.
    fn outcome(&self, answer: StepResult, made: bool, now: Timestamp) -> Outcome {
        let outcome = step::outcome(&self.limit, self.counter.span, self.hits, answer, now);
        Outcome { counted: outcome.counted && made, ..outcome }
    }
}

/// The result of each charge of a call, in the same order.
pub type Results = SmallVec<[Result<Outcome, StoreError>; 4]>;

/// When a caller has to have the answer; none if it waits as long as the store does.
pub type Deadline = Option<Instant>;

/// Keeps counters, and charges hits to them.
///
/// A store knows limits but no rules, domains or descriptors, and it decides
/// nothing: it gives the result of each charge, and the [`engine`](crate::engine)
/// draws the conclusion.
pub trait Store: Send + Sync + 'static {
    /// Makes every charge, in order, and gives one result for each.
    ///
    /// Each charge is atomic: among charges that run at the same time, in any
    /// number of processes that share the store, every value of a counter is
    /// handed out once. Two charges of one call to the same counter count one
    /// after the other. Whether others are served between two charges of one
    /// call is not promised.
    ///
    /// The results are there by the `deadline`. A charge whose result is an error may
    /// have been made all the same; if its answer comes later and grants hits, they
    /// are given back, unless the caller was [served without it](OnTimeout). The
    /// errors of some charges take nothing from the results of the others.
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Results> + Send;

    /// Whether the store decides now, whichever counters it is asked about.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends when the store cannot go on because a task of its own has died.
    /// That it does not answer is no reason.
    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

impl<S: Store> Store for Arc<S> {
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Results> + Send {
        S::charge(self, charges, now, deadline)
    }

    fn ready(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::ready(self)
    }

    fn task_failed(&self) -> impl Future<Output = ()> + Send {
        S::task_failed(self)
    }
}

/// What operators do to single counters, by their exact names.
pub trait Counters: Send + Sync {
    /// How the counter stands that is held to `limit`. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the store did not answer.
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Forgets the counter, and with it a ban. Says whether there was one.
    ///
    /// # Errors
    ///
    /// If the store did not answer; then it may have been forgotten all the same.
    fn reset(&self, counter: &CounterKey) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Has the counter hold `used` hits, counted now, whatever it held before. That
    /// ends a ban.
    ///
    /// # Errors
    ///
    /// As [`Self::reset`].
    fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<S: Counters> Counters for Arc<S> {
    fn peek(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        (**self).peek(counter, limit, now)
    }

    fn reset(&self, counter: &CounterKey) -> impl Future<Output = Result<bool, StoreError>> + Send {
        (**self).reset(counter)
    }

    fn set(
        &self,
        counter: &CounterRef,
        limit: &Limit,
        used: u64,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).set(counter, limit, used, now)
    }
}

/// A look at one counter.
fn peek_charge(counter: &CounterRef, limit: &Limit) -> Charge {
    Charge {
        counter: counter.clone(),
        limit: limit.clone(),
        hits: Hits::Add(0),
        consume: Consume::Independent,
        enforced: Enforced::No,
        refused: false,
        on_timeout: OnTimeout::Fail,
    }
}

/// The same error for each of so many charges.
fn all_failed(charges: usize, error: &StoreError) -> Results {
    (0..charges).map(|_| Err(error.clone())).collect()
}

/// The result of a call of one charge.
fn single_result(results: Results) -> Result<Outcome, StoreError> {
    let none = || Err(StoreError::Failed("it left a charge unanswered".into()));
    results.into_iter().next().unwrap_or_else(none)
}

/// Where stores say how they are doing, once they are built: whoever shows statistics
/// asks here.
#[derive(Default)]
pub struct StoreStats {
    memory: Reading<MemoryUsage>,
    deny_cache: Reading<DenyCacheUsage>,
    main: Reading<PoolUsage>,
    per_second: Reading<PoolUsage>,
}

/// How to ask for something, once that is known.
type Reading<T> = OnceLock<Box<dyn Fn() -> T + Send + Sync>>;

impl fmt::Debug for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreStats").finish_non_exhaustive()
    }
}

impl StoreStats {
    /// How much a store in this process holds, if there is one.
    pub fn memory(&self) -> Option<MemoryUsage> {
        self.memory.get().map(|it| it())
    }

    /// What remembering refusals has come to, if they are remembered.
    pub fn deny_cache(&self) -> Option<DenyCacheUsage> {
        self.deny_cache.get().map(|it| it())
    }

    /// How connections are doing, where there are any.
    pub fn pools(&self) -> Pools {
        let of = |it: &Reading<PoolUsage>| it.get().map(|it| it());
        Pools { main: of(&self.main), per_second: of(&self.per_second) }
    }

    fn register<T>(reading: &Reading<T>, how: impl Fn() -> T + Send + Sync + 'static) {
        // The first store of a kind is the only one of a process.
        let _ = reading.set(Box::new(how));
    }
}

/// How connections to the places where counters are kept are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// Those for all limits that have no other.
    pub main: Option<PoolUsage>,
    /// Those for limits per second, if they are others.
    pub per_second: Option<PoolUsage>,
}

/// How the connections to one place are doing, which may be several servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Connections that are open now.
    pub active: u64,
    /// Connections that were made since the start.
    pub opened: u64,
    /// Those of them that are closed.
    pub closed: u64,
    /// Calls that wait for others to be answered before they are sent.
    pub waiting: u64,
    /// Servers that do not answer at the moment: calls are refused until they do.
    pub unresponsive: u64,
    /// Hits that were granted or reserved in vain and have been given back, since the
    /// start: counters, not hits.
    pub refunded: u64,
    /// Those that could not be given back: reservations end by themselves, what was
    /// granted too late stays counted.
    pub failed_refunds: u64,
}

/// How much a store in this process holds: first what there is now, then what there was
/// since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Counters that are kept.
    pub counters: usize,
    /// The bytes that they count as.
    pub bytes: usize,
    /// Counters that were dropped before their time.
    pub evicted: u64,
    /// Hits that were decided and not counted, because nothing could be dropped for them.
    pub uncounted: u64,
}

/// What remembering refusals has come to: first what there is now, then what
/// there was since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenyCacheUsage {
    /// Refusals that are kept, also those that have ended and wait to be dropped.
    pub entries: u64,
    /// Counters looked up whose refusal was known.
    pub hits: u64,
    /// Counters looked up of which the store had to be asked.
    pub misses: u64,
    /// Refusals dropped because they had ended.
    pub expired: u64,
    /// Refusals dropped to make room.
    pub evicted: u64,
    /// Refusals that took the place of an older one of the same counter.
    pub overwritten: u64,
}

/// Why a store did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer came in time. The charges may have been made all the same.
    #[error("the counter store did not answer within {0:?}")]
    Timeout(Duration),
    /// It could not be reached, or refused.
    #[error("the counter store failed: {0}")]
    Failed(String),
    /// It is there, and cannot decide as it is set up, however often it is asked.
    #[error("the counter store cannot be used: {0}")]
    Misconfigured(String),
}

impl StoreError {
    /// Why it did not answer, for those who know of whom that is said.
    pub fn reason(&self) -> String {
        match self {
            Self::Failed(why) | Self::Misconfigured(why) => why.clone(),
            Self::Timeout(_) => self.to_string(),
        }
    }
}
