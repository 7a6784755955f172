//! The answer to a request, before anybody has made a message, a metric or a
//! log line of it.

use std::sync::{Arc, LazyLock};

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

    /// How many limits apply.
    fn limits(&self) -> usize {
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
    /// Which limit decides, and what became of the charge to it: one that is
    /// over, or else the first of those with the least remaining.
    decisive: Option<(usize, Outcome)>,
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
}

impl Verdict {
    fn new(governed: Governed, outcomes: &mut dyn Iterator<Item = Outcome>) -> Self {
        let mut decisive: Option<(usize, Outcome)> = None;
        for (position, outcome) in outcomes.take(governed.limits()).enumerate() {
            let least = |(_, best): &(usize, Outcome)| {
                (!outcome.over, outcome.remaining) < (!best.over, best.remaining)
            };
            if decisive.as_ref().is_none_or(least) {
                decisive = Some((position, outcome));
            }
        }
        Self { governed, decisive }
    }

    /// The limit that decides; none if no limit applies.
    pub fn standing(&self) -> Option<Standing<'_>> {
        let (position, outcome) = self.decisive.as_ref()?;
        let (limit, name) = self.governed.limit(*position)?;
        Some(Standing { limit, name, outcome })
    }

    /// Whether this descriptor is refused: it is over its limit, and its rule
    /// does more than watch.
    pub fn refused(&self) -> bool {
        let shadow = self.governed.rule().is_some_and(|it| it.spec.shadow_mode);
        self.decisive.as_ref().is_some_and(|(_, outcome)| outcome.over) && !shadow
    }

    fn is_quota(&self, mode: Mode) -> bool {
        let quota = self.governed.rule().is_some_and(|it| it.spec.quota_mode);
        (quota || mode.quota) && !matches!(self.governed, Governed::Unlimited(_))
    }
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
    /// The position of the verdict that says most: the last that refuses and
    /// is not a quota; without one, the first of those with the least
    /// remaining. None if no limit applies.
    pub decisive: Option<usize>,
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
        let verdict = |governed: Governed| Verdict::new(governed, outcomes);
        let verdicts: Vec<_> = governed.into_iter().map(verdict).collect();
        let over = is_over(&verdicts, mode);
        Self {
            over_limit: over && !mode.shadow,
            shadowed: over && mode.shadow,
            decisive: decisive(&verdicts, mode),
            policies: Policies::new(),
            verdicts,
        }
    }

    /// The verdict that says most, if a limit applies.
    pub fn decisive(&self) -> Option<&Verdict> {
        self.verdicts.get(self.decisive?)
    }
}

/// A request is over the limit if an ordinary descriptor is refused, or if
/// there are quotas and all of them are exhausted.
fn is_over(verdicts: &[Verdict], mode: Mode) -> bool {
    let (mut quotas, mut exhausted) = (0, 0);
    for verdict in verdicts {
        if verdict.is_quota(mode) {
            quotas += 1;
            exhausted += usize::from(verdict.refused());
        } else if verdict.refused() {
            return true;
        }
    }
    quotas > 0 && quotas == exhausted
}

fn decisive(verdicts: &[Verdict], mode: Mode) -> Option<usize> {
    let mut best: Option<(usize, u32)> = None;
    for (i, verdict) in verdicts.iter().enumerate() {
        let Some((_, outcome)) = &verdict.decisive else { continue };
        if verdict.refused() && !verdict.is_quota(mode) {
            best = Some((i, 0));
        } else if best.is_none_or(|(_, least)| outcome.remaining < least) {
            best = Some((i, outcome.remaining));
        }
    }
    best.map(|(i, _)| i)
}
