//! Where counters are kept.

use std::{borrow::Cow, future::Future, time::Duration};

use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};

use crate::{
    limit::{
        Algorithm, Hits, Limit, Outcome,
        step::{self, Answer, Step},
    },
    rules::counter_key::{CounterKey, Named},
    time::Timestamp,
};

pub mod ahead;
pub mod around;
pub mod deny_cache;
pub mod memory;
mod partly;
pub mod redis;

/// How long a counter outlives its window, for clocks that are behind or step
/// back: within that, every store counts on where it was.
pub const GRACE: Duration = Duration::from_secs(1);

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
    pub counter: Named,
    /// The limit that it is held to.
    pub limit: Limit,
    /// What it is charged.
    pub hits: Hits,
    /// What it consumes if the call is refused.
    pub consume: Consume,
    /// Whether the call is refused if this charge is.
    pub enforced: bool,
    /// Whether the call is refused anyway, by a charge that is not sent along.
    pub refused: bool,
}

/// What a charge consumes if its call is refused: if a charge of it that
/// [enforces](Charge::enforced) is. Unless all charges of a call are independent,
/// it is made or refused as a whole: nobody is served in between.
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
    /// Whether it asks for hits, or looks, and so may be refused.
    pub const fn asks(&self) -> bool {
        matches!(self.hits, Hits::Add(_))
    }

    /// What becomes of it if it is the first to its counter.
    pub fn alone(&self, now: Timestamp) -> Outcome {
        let Step { passes, after, .. } =
            step::step(&self.limit, self.counter.span, None, self.hits, now);
        let answer = Answer { passes, banned: Timestamp::default(), told: after };
        self.outcome(answer, true, now)
    }

    /// Whether it matters to this charge what becomes of the others of its call.
    pub fn depends(&self) -> bool {
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
        self.limit.algorithm == Algorithm::FixedWindow { count_denied: true }
    }

    /// What became of it. `made` says whether its hits were counted if that is
    /// what the algorithm does with them.
    fn outcome(&self, answer: Answer, made: bool, now: Timestamp) -> Outcome {
        let outcome = step::describe(&self.limit, self.counter.span, self.hits, answer, now);
        Outcome { counted: outcome.counted && made, ..outcome }
    }
}

/// One outcome per charge, in the same order.
pub type Outcomes = SmallVec<[Outcome; 4]>;

/// Keeps counters, and charges hits to them.
///
/// A store knows limits but no rules, domains or descriptors, and it decides
/// nothing: it says what became of each charge, and the
/// [`engine`](crate::engine) draws the conclusion.
pub trait Store: Send + Sync + 'static {
    /// Makes every charge, in order, and says what became of each.
    ///
    /// Each charge is atomic: among charges that run at the same time, in any
    /// number of processes that share the store, every value of a counter is
    /// handed out once. Two charges of one call to the same counter count one
    /// after the other. Whether others are served between two charges of one
    /// call is not promised.
    ///
    /// # Errors
    ///
    /// If the store did not answer for every charge. Some, or all, may have
    /// been made all the same; what became of some may be
    /// [known](StoreError::known).
    fn charge(
        &self,
        charges: &[Charge],
        now: Timestamp,
    ) -> impl Future<Output = Result<Outcomes, StoreError>> + Send;

    /// Whether the store decides now, whichever counters it is asked about.
    ///
    /// # Errors
    ///
    /// Why it does not.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends when the store cannot go on because a task of its own has died.
    /// That it does not answer is no reason.
    fn died(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// How much it holds, if it keeps the counters in this process.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// What remembering refusals has come to, if it does.
    fn deny_cache(&self) -> Option<DenyCacheUsage> {
        None
    }

    /// How its connections are doing, if it has any.
    fn pools(&self) -> Pools {
        Pools::default()
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
    pub silent: u64,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Counters that are kept now.
    pub counters: usize,
    /// Counters that were dropped before their time, since the start.
    pub evicted: u64,
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
    /// It did not answer for some charges, which are independent of the others.
    #[error("{why}")]
    Partly {
        /// What became of each charge, where that is known.
        known: Box<[Option<Outcome>]>,
        /// Why it is not known of all.
        why: Box<StoreError>,
    },
}

impl StoreError {
    /// What became of each of the `charges` of the call, where that is known.
    pub fn known(&self, charges: usize) -> SmallVec<[Option<Outcome>; 4]> {
        match self {
            Self::Partly { known, .. } if known.len() == charges => known.iter().copied().collect(),
            _ => smallvec![None; charges],
        }
    }

    /// Why it did not answer, for those who know of whom that is said.
    pub fn text(&self) -> String {
        match self {
            Self::Failed(why) => why.clone(),
            Self::Timeout(_) | Self::Partly { .. } => self.to_string(),
        }
    }

    /// Why not everything is known.
    fn reason(self) -> Self {
        match self {
            Self::Partly { why, .. } => *why,
            error => error,
        }
    }
}
