//! The decision about a request.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use smallvec::SmallVec;

use crate::{
    limit::{Limit, Outcome},
    rules::{Rule, spec::OnError},
    time::Timestamp,
};

/// Modes that apply to all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Decide, count and show, but refuse no request.
    pub shadow: bool,
    /// Treat every descriptor as if its rule had `quota_mode`.
    pub quota: bool,
    /// A refused request of several limits counts only against those it exceeds.
    pub stop_counting: bool,
}

/// The rule or limit that applies to a descriptor.
#[derive(Clone, Debug)]
pub enum Match {
    /// The domain has no rules.
    UnknownDomain,
    /// The domain has rules, but none matches.
    None,
    /// A rule that a rule of another descriptor replaces, so that no limit applies.
    Replaced(Arc<Rule>),
    /// A rule that allows everything.
    Unlimited(Arc<Rule>),
    /// A rule, and the indexes of its limits that apply, at least one.
    Rule(Arc<Rule>, SmallVec<[usize; 2]>),
    /// A limit sent with the request.
    Override(Limit),
}

impl Match {
    /// The rule that applies.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Rule(rule, _) | Self::Unlimited(rule) => Some(rule),
            Self::UnknownDomain | Self::None | Self::Replaced(_) | Self::Override(_) => None,
        }
    }

    /// Returns true if the descriptor is a quota: the request is refused only when
    /// all its quotas are exhausted.
    pub(super) fn is_quota(&self, mode: Mode) -> bool {
        if matches!(self, Self::Unlimited(_)) {
            return false;
        }
        mode.quota || self.rule().is_some_and(|rule| rule.spec.quota_mode)
    }

    /// Returns true if the rule counts hits and refuses none.
    pub fn is_shadow(&self) -> bool {
        self.rule().is_some_and(|rule| rule.spec.shadow_mode)
    }

    /// The number of limits that apply.
    pub(super) fn limit_count(&self) -> usize {
        match self {
            Self::Rule(_, limits) => limits.len(),
            Self::Override(_) => 1,
            Self::UnknownDomain | Self::None | Self::Replaced(_) | Self::Unlimited(_) => 0,
        }
    }

    /// One of the limits that apply, and its name.
    fn limit(&self, position: usize) -> Option<(&Limit, &Arc<str>)> {
        match self {
            Self::Rule(rule, limits) => {
                let spec = rule.spec.limits.get(*limits.get(position)?)?;
                Some((&spec.limit, &spec.name))
            }
            Self::Override(limit) => Some((limit, &NO_NAME)),
            Self::UnknownDomain | Self::None | Self::Replaced(_) | Self::Unlimited(_) => None,
        }
    }
}

static NO_NAME: LazyLock<Arc<str>> = LazyLock::new(Arc::default);

/// The outcomes of a request's charges.
pub type Outcomes = SmallVec<[Outcome; 4]>;

/// The result for one descriptor.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The rule or limit that applies.
    pub matched: Match,
    /// The descriptor refuses only together with all other quotas of the request.
    pub quota: bool,
    /// One for each limit that applies, in order.
    outcomes: SmallVec<[Outcome; 1]>,
}

/// The state of one limit.
#[derive(Clone, Copy, Debug)]
pub struct LimitStatus<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Its name; may be empty.
    pub name: &'a Arc<str>,
    /// The outcome of the charge.
    pub outcome: &'a Outcome,
    /// The time until a retry can pass if the descriptor is over its limit, and
    /// otherwise until the limit resets. `None` if no retry ever passes.
    pub wait: Option<Duration>,
}

impl LimitStatus<'_> {
    /// Like `wait`, but `None` for every request that can never pass: a fixed window that
    /// counts refused hits has the end of the window in `wait`.
    pub fn exact_wait(&self) -> Option<Duration> {
        if self.outcome.over { self.outcome.retry_after } else { self.wait }
    }
}

impl Verdict {
    fn new(matched: Match, outcomes: SmallVec<[Outcome; 1]>, mode: Mode) -> Self {
        Self { quota: matched.is_quota(mode), matched, outcomes }
    }

    /// Returns true if the descriptor is over a limit and its rule is not in shadow
    /// mode.
    pub fn is_refused(&self) -> bool {
        self.is_over() && !self.matched.is_shadow()
    }

    /// The time until all limits of this descriptor allow it, if no other request
    /// comes; [`NEVER`] if they never do.
    fn wait(&self) -> Duration {
        let mut longest = Duration::ZERO;
        if !self.matched.is_shadow() {
            for outcome in &self.outcomes {
                longest = longest.max(wait(outcome));
            }
        }
        longest
    }

    /// The limit reported to the client: the one with the longest wait if the
    /// descriptor is refused, and otherwise [`Self::counted_status`]. `None` if no
    /// limit applies.
    pub fn status(&self) -> Option<LimitStatus<'_>> {
        if self.is_refused() { self.longest_wait_status() } else { self.counted_status() }
    }

    /// The limit reported in the statistics: the exceeded limit with the longest
    /// wait, or, if none is exceeded, the first with the least remaining hits. `None`
    /// if no limit applies.
    pub fn counted_status(&self) -> Option<LimitStatus<'_>> {
        self.status_at(self.first_best(|outcome, best| match (outcome.over, best.over) {
            (true, true) => wait(best) < wait(outcome),
            // A ban leaves no hits.
            (false, false) => (outcome.remaining, best.banned) < (best.remaining, outcome.banned),
            (over, _) => over,
        })?)
    }

    /// The limit with the longest wait. This request may have used it up without
    /// exceeding it.
    fn longest_wait_status(&self) -> Option<LimitStatus<'_>> {
        self.status_at(
            self.first_best(|outcome, best| {
                (wait(best), best.over) < (wait(outcome), outcome.over)
            })?,
        )
    }

    /// The limits that apply, in order.
    pub fn statuses(&self) -> impl Iterator<Item = LimitStatus<'_>> {
        (0..self.outcomes.len()).filter_map(|position| self.status_at(position))
    }

    /// Returns true if the descriptor is over a limit, also if its rule refuses nothing.
    pub fn is_over(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.over)
    }

    /// The position of the first outcome that no other is better than.
    fn first_best(&self, is_better: impl Fn(&Outcome, &Outcome) -> bool) -> Option<usize> {
        let mut best = self.outcomes.first()?;
        let mut best_position = 0;
        for (position, outcome) in self.outcomes.iter().enumerate() {
            if is_better(outcome, best) {
                (best_position, best) = (position, outcome);
            }
        }
        Some(best_position)
    }

    fn status_at(&self, position: usize) -> Option<LimitStatus<'_>> {
        let (limit, name) = self.matched.limit(position)?;
        let outcome = self.outcomes.get(position)?;
        let wait = if !self.is_over() {
            Some(outcome.reset_after)
        } else if outcome.retry_after.is_none()
            && self.outcomes.len() == 1
            && limit.algorithm.counts_denied()
        {
            // As the reference service does, even for hits that never pass.
            Some(outcome.reset_after)
        } else {
            outcome.retry_after
        };
        Some(LimitStatus { limit, name, outcome, wait })
    }
}

/// The wait of a request that never passes.
const NEVER: Duration = Duration::MAX;

fn wait(outcome: &Outcome) -> Duration {
    outcome.retry_after.unwrap_or(NEVER)
}

/// The policies that decided limits for which the store did not answer.
pub type UsedPolicies = SmallVec<[OnError; 2]>;

/// The decision about a request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The time of the decision.
    pub at: Timestamp,
    /// One for each descriptor, in order.
    pub verdicts: Vec<Verdict>,
    /// The request is refused.
    pub over_limit: bool,
    /// The request passes only because of [`Mode::shadow`].
    pub shadowed: bool,
    /// For a refused request, the exact time until it passes if no other request
    /// comes, or `None` if it never passes. Zero if the request passes.
    pub wait: Option<Duration>,
    /// The index of the verdict in the limit headers, as the reference service
    /// chooses it: the last that is refused and not a quota, or, if there is none, the
    /// first with the least remaining hits. `None` if no limit applies.
    pub header_verdict: Option<usize>,
    /// The index of the verdict that decides the wait of a refused request;
    /// otherwise the same as `header_verdict`.
    pub binding_verdict: Option<usize>,
    /// Empty if the store answered for all limits.
    pub policies: UsedPolicies,
}

impl Decision {
    /// Concludes from the outcomes at the time `at`: one for each limit of `matches`, in
    /// order.
    pub fn new(matches: Vec<Match>, outcomes: Outcomes, mode: Mode, at: Timestamp) -> Self {
        let mut verdicts = Vec::with_capacity(matches.len());
        let mut outcomes = outcomes.into_iter();
        for matched in matches {
            let own = outcomes.by_ref().take(matched.limit_count()).collect();
            verdicts.push(Verdict::new(matched, own, mode));
        }
        let over = is_over(&verdicts);
        let over_limit = over && !mode.shadow;
        let header_verdict = header_verdict(&verdicts);
        let longest = if over_limit { longest_wait(&verdicts) } else { None };
        let (wait, binding_verdict) = match longest {
            Some(found) if found.wait == NEVER => (None, Some(found.verdict)),
            Some(found) => (Some(found.wait), Some(found.verdict)),
            None => (Some(Duration::ZERO), header_verdict),
        };
        let shadowed = over && mode.shadow;
        let policies = UsedPolicies::new();
        Self { at, verdicts, over_limit, shadowed, wait, header_verdict, binding_verdict, policies }
    }

    /// The verdict and the limit that decided: for a refused request those with its
    /// wait. `None` if no limit applies.
    pub fn binding(&self) -> Option<(&Verdict, LimitStatus<'_>)> {
        let verdict = self.verdicts.get(self.binding_verdict?)?;
        let status = if self.over_limit { verdict.longest_wait_status() } else { verdict.status() };
        Some((verdict, status?))
    }

    /// The verdicts that refuse the request, with their indexes.
    pub fn refusing(&self) -> impl Iterator<Item = (usize, &Verdict)> {
        let quotas_refuse = are_quotas_exhausted(&self.verdicts);
        self.verdicts.iter().enumerate().filter(move |(_, verdict)| {
            self.over_limit && verdict.is_refused() && (quotas_refuse || !verdict.quota)
        })
    }
}

/// A request is over the limit if an ordinary descriptor is refused, or if it has
/// quotas and all of them are exhausted.
fn is_over(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|verdict| !verdict.quota && verdict.is_refused())
        || are_quotas_exhausted(verdicts)
}

fn are_quotas_exhausted(verdicts: &[Verdict]) -> bool {
    let mut has_quota = false;
    for verdict in verdicts {
        if verdict.quota {
            has_quota = true;
            if !verdict.is_refused() {
                return false;
            }
        }
    }
    has_quota
}

/// A wait, and the index of the verdict that causes it.
#[derive(Clone, Copy)]
struct VerdictWait {
    wait: Duration,
    verdict: usize,
}

/// The wait of a request: until all ordinary descriptors pass, and one quota if there
/// are any.
fn longest_wait(verdicts: &[Verdict]) -> Option<VerdictWait> {
    let mut ordinary: Option<VerdictWait> = None;
    let mut quota: Option<VerdictWait> = None;
    for (verdict, found) in verdicts.iter().enumerate() {
        let wait = found.wait();
        let new = Some(VerdictWait { wait, verdict });
        if found.quota {
            if quota.is_none_or(|shortest| wait < shortest.wait) {
                quota = new;
            }
        } else if ordinary.is_none_or(|longest| longest.wait < wait) {
            ordinary = new;
        }
    }
    match (ordinary, quota) {
        (Some(ordinary), Some(quota)) if ordinary.wait < quota.wait => Some(quota),
        (Some(ordinary), _) => Some(ordinary),
        (None, quota) => quota,
    }
}

fn header_verdict(verdicts: &[Verdict]) -> Option<usize> {
    let mut best = None;
    let mut least = u32::MAX;
    for (i, verdict) in verdicts.iter().enumerate() {
        let Some(status) = verdict.status() else { continue };
        if verdict.is_refused() && !verdict.quota {
            (best, least) = (Some(i), 0);
        } else if best.is_none() || status.outcome.remaining < least {
            (best, least) = (Some(i), status.outcome.remaining);
        }
    }
    best
}
