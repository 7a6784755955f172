//! The answer to a request, before anybody has made a message, a metric or a
//! log line of it.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use smallvec::SmallVec;

use crate::{
    limit::{Limit, Outcome},
    rules::{Rule, spec::OnError},
};

/// What the whole service does whatever the rules say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Every decision is made, counted and shown, but no request is refused.
    pub shadow: bool,
    /// Every descriptor is treated as if its rule said `quota_mode`.
    pub quota: bool,
    /// A request that is refused counts only where it is over a limit.
    pub stop: bool,
}

/// What governs a descriptor.
#[derive(Clone, Debug)]
pub enum Governed {
    /// No rule does.
    Unmatched {
        /// Whether there are rules for the domain at all.
        domain_known: bool,
    },
    /// A rule does, and lets everything pass.
    Unlimited(Arc<Rule>),
    /// A rule does: those of its limits at these positions, which are at least
    /// one.
    Rule(Arc<Rule>, SmallVec<[usize; 2]>),
    /// The limit that the caller brought along.
    Override(Limit),
}

impl Governed {
    /// The rule, if it is one.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Rule(rule, _) | Self::Unlimited(rule) => Some(rule),
            Self::Unmatched { .. } | Self::Override(_) => None,
        }
    }

    /// Whether it refuses only together with all other quotas of the request.
    pub(super) fn is_quota(&self, mode: Mode) -> bool {
        let quota = self.rule().is_some_and(|it| it.spec.quota_mode) || mode.quota;
        quota && !matches!(self, Self::Unlimited(_))
    }

    /// Whether it only watches: it refuses nothing, whatever its limits say.
    pub(super) fn watches(&self) -> bool {
        self.rule().is_some_and(|it| it.spec.shadow_mode)
    }

    /// How many limits apply.
    pub(super) fn limits(&self) -> usize {
        match self {
            Self::Rule(_, limits) => limits.len(),
            Self::Override(_) => 1,
            Self::Unmatched { .. } | Self::Unlimited(_) => 0,
        }
    }

    /// One of the limits that apply, and its name.
    fn limit(&self, position: usize) -> Option<(&Limit, &Arc<str>)> {
        match self {
            Self::Rule(rule, limits) => {
                let spec = rule.spec.limits.get(*limits.get(position)?)?;
                Some((&spec.limit, &spec.name))
            }
            Self::Override(limit) => Some((limit, &NAMELESS)),
            Self::Unmatched { .. } | Self::Unlimited(_) => None,
        }
    }
}

/// The name of a limit that has none.
static NAMELESS: LazyLock<Arc<str>> = LazyLock::new(Arc::default);

/// The answer for one descriptor.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What it is based on.
    pub governed: Governed,
    /// Whether it refuses only together with all other quotas of the request.
    pub quota: bool,
    /// What became of the charge to each limit that applies, in their order.
    outcomes: SmallVec<[Outcome; 1]>,
}

/// How one limit stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Its name, which may be empty.
    pub name: &'a Arc<str>,
    /// What became of the charge.
    pub outcome: &'a Outcome,
    /// What a client is told to wait for: the moment to come back if the
    /// descriptor is over its limit, and else the moment when the limit starts
    /// anew. None if coming back is of no use.
    pub wait: Option<Duration>,
}

impl Verdict {
    fn new(governed: Governed, outcomes: &mut dyn Iterator<Item = Outcome>, mode: Mode) -> Self {
        let outcomes = outcomes.take(governed.limits()).collect();
        Self { quota: governed.is_quota(mode), governed, outcomes }
    }

    /// Whether this descriptor is refused: it is over its limit, and its rule
    /// does more than watch.
    pub fn refused(&self) -> bool {
        self.over() && !self.governed.watches()
    }

    /// How long until this descriptor passes, or passes again, if nobody else
    /// asks: all its limits have to have room. [`NEVER`] is never.
    fn wait(&self) -> Duration {
        match self.governed.watches() {
            true => Duration::ZERO,
            false => self.outcomes.iter().map(wait).max().unwrap_or_default(),
        }
    }

    /// The limit that is told to the client: the one that keeps it waiting for
    /// the longest if it is refused, and else the one that is counted. None if no
    /// limit applies.
    pub fn standing(&self) -> Option<Standing<'_>> {
        if self.refused() { self.awaited() } else { self.counted() }
    }

    /// The limit that speaks for all in the statistics: of those that are over,
    /// the one that refuses for the longest, or else the first of those with the
    /// least remaining. None if no limit applies.
    pub fn counted(&self) -> Option<Standing<'_>> {
        self.at(self.first(|it, best| match (it.over, best.over) {
            (true, true) => wait(best) < wait(it),
            // A ban leaves nothing.
            (false, false) => (it.remaining, best.banned) < (best.remaining, it.banned),
            (over, _) => over,
        })?)
    }

    /// The limit that keeps the client waiting for the longest: it may be one that
    /// this call has used up. None if no limit applies.
    fn awaited(&self) -> Option<Standing<'_>> {
        self.at(self.first(|it, best| (wait(best), best.over) < (wait(it), it.over))?)
    }

    fn over(&self) -> bool {
        self.outcomes.iter().any(|it| it.over)
    }

    /// The position of the first outcome than which none is `better`.
    fn first(&self, better: impl Fn(&Outcome, &Outcome) -> bool) -> Option<usize> {
        let mut best = (0, self.outcomes.first()?);
        for (position, outcome) in self.outcomes.iter().enumerate() {
            if better(outcome, best.1) {
                best = (position, outcome);
            }
        }
        Some(best.0)
    }

    fn at(&self, position: usize) -> Option<Standing<'_>> {
        let (limit, name) = self.governed.limit(position)?;
        let outcome = self.outcomes.get(position)?;
        let counts = limit.algorithm.counts_denied();
        let wait = match outcome.retry_after {
            _ if !self.over() => Some(outcome.reset_after),
            // The reference gives the end of the window even to hits that never pass.
            None if self.outcomes.len() == 1 && counts => Some(outcome.reset_after),
            wait => wait,
        };
        Some(Standing { limit, name, outcome, wait })
    }
}

/// A wait that does not end.
const NEVER: Duration = Duration::MAX;

fn wait(outcome: &Outcome) -> Duration {
    outcome.retry_after.unwrap_or(NEVER)
}

/// What decides each limit of a request while the store does not answer.
pub type Policies = SmallVec<[OnError; 2]>;

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// One per descriptor, in the same order.
    pub verdicts: Vec<Verdict>,
    /// Whether the request is refused.
    pub over_limit: bool,
    /// Whether it is not, but only because of [`Mode::shadow`].
    pub shadowed: bool,
    /// How long until a request that is refused passes if nobody else asks, and
    /// not a microsecond less; none if it never does. Zero if it is not refused.
    pub wait: Option<Duration>,
    /// The position of the verdict that the reference service makes headers of:
    /// the last that refuses and is not a quota; without one, the first of those
    /// with the least remaining. None if no limit applies.
    pub headed: Option<usize>,
    /// The position of the verdict for which a request that is refused has to
    /// wait; of another request, the same as `headed`.
    pub awaited: Option<usize>,
    /// What decided each limit that applies, in the place of a store that did
    /// not answer. Empty if it did.
    pub policies: Policies,
}

impl Decision {
    /// Draws the conclusion. `outcomes` holds one for each limit of
    /// `governed`, in the same order.
    pub fn new(
        governed: Vec<Governed>,
        outcomes: &mut dyn Iterator<Item = Outcome>,
        mode: Mode,
    ) -> Self {
        let verdict = |governed: Governed| Verdict::new(governed, outcomes, mode);
        let verdicts: Vec<_> = governed.into_iter().map(verdict).collect();
        let over = is_over(&verdicts);
        let over_limit = over && !mode.shadow;
        let headed = headed(&verdicts);
        let (wait, awaited) = match over_limit.then(|| awaited(&verdicts)).flatten() {
            Some((wait, at)) => (Some(wait).filter(|it| *it != NEVER), Some(at)),
            None => (Some(Duration::ZERO), headed),
        };
        let shadowed = over && mode.shadow;
        let policies = Policies::new();
        Self { verdicts, over_limit, shadowed, wait, headed, awaited, policies }
    }

    /// The verdict that decides, and how its limit stands that does, if a limit
    /// applies: those for which a request that is refused has to wait.
    pub fn decisive(&self) -> Option<(&Verdict, Standing<'_>)> {
        let verdict = self.verdicts.get(self.awaited?)?;
        let standing = if self.over_limit { verdict.awaited() } else { verdict.standing() };
        Some((verdict, standing?))
    }

    /// The verdicts that refuse the request, with their positions.
    pub fn refusing(&self) -> impl Iterator<Item = (usize, &Verdict)> {
        let exhausted = self.over_limit && are_exhausted(&self.verdicts);
        let refuses = move |it: &Verdict| it.refused() && (exhausted || !it.quota);
        let verdicts = self.verdicts.iter().enumerate().filter(move |(_, it)| refuses(it));
        verdicts.filter(|_| self.over_limit)
    }
}

/// A request is over the limit if an ordinary descriptor is refused, or if
/// there are quotas and all of them are exhausted.
fn is_over(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|it| !it.quota && it.refused()) || are_exhausted(verdicts)
}

fn are_exhausted(verdicts: &[Verdict]) -> bool {
    let mut quotas = verdicts.iter().filter(|it| it.quota).peekable();
    quotas.peek().is_some() && quotas.all(Verdict::refused)
}

/// How long until a request passes, and the position of the verdict for which it
/// has to wait. All ordinary descriptors have to pass at once, and one quota if
/// there are any.
fn awaited(verdicts: &[Verdict]) -> Option<(Duration, usize)> {
    let mut ordinary: Option<(Duration, usize)> = None;
    let mut quota: Option<(Duration, usize)> = None;
    for (i, verdict) in verdicts.iter().enumerate() {
        let wait = verdict.wait();
        if verdict.quota {
            quota = quota.filter(|(shortest, _)| *shortest <= wait).or(Some((wait, i)));
        } else {
            ordinary = ordinary.filter(|(longest, _)| wait <= *longest).or(Some((wait, i)));
        }
    }
    match (ordinary, quota) {
        (Some(ordinary), Some(quota)) if ordinary.0 < quota.0 => Some(quota),
        (ordinary, quota) => ordinary.or(quota),
    }
}

fn headed(verdicts: &[Verdict]) -> Option<usize> {
    let mut best: Option<(usize, u32)> = None;
    for (i, verdict) in verdicts.iter().enumerate() {
        let Some(Standing { outcome, .. }) = verdict.standing() else { continue };
        if verdict.refused() && !verdict.quota {
            best = Some((i, 0));
        } else if best.is_none_or(|(_, least)| outcome.remaining < least) {
            best = Some((i, outcome.remaining));
        }
    }
    best.map(|(i, _)| i)
}
