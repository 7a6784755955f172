//! What is limited now: the most frequent and the most refused names, the latest refusals, and
//! the hits of each rule over time. For the admin API; `/metrics` has what is kept for long.
//!
//! The memory is bounded by 12 MiB and 64 bytes for each rule, whatever clients send. Counting
//! allocates nothing.

use std::{hash::BuildHasher, sync::Arc};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::{
    descriptor::Request,
    engine::decision::{Decision, Match, Verdict},
    limit::Hits,
    rules::RuleTree,
    time::Timestamp,
};

mod history;
mod name;
mod refusals;
mod ring;
mod rule_counts;
mod sketch;
mod top;

use self::{history::History, name::Name, refusals::Refusals, rule_counts::RuleCounts, top::Top};
pub use self::{
    history::MOST_RULES,
    name::ReadName,
    refusals::{
        Cause, KEPT as KEPT_REFUSALS, MOST_PER_SECOND as MOST_REFUSALS_PER_SECOND, RecentRefusal,
        RecentRefusals,
    },
    ring::{Point, Step},
    rule_counts::HitResults,
    top::{KEPT_NAMES, MOST_MINUTES, TopName, TopNames},
};

/// One of so many decisions counts for the names with most hits, with that weight.
pub const SAMPLED: u8 = 16;

/// What names are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// All hits, sampled.
    Hits,
    /// Hits of refused requests, by the descriptors that refused them.
    Refused,
    /// Hits that passed only because of a shadow mode.
    WouldRefuse,
}

/// Counts decisions, and shows the counts.
#[derive(Debug)]
pub struct Live {
    rules: ArcSwap<RuleCounts>,
    hits: Top,
    refused: Top,
    would_refuse: Top,
    refusals: Refusals,
    history: Mutex<History>,
    /// With a random seed, so that no client can choose names with the same hash.
    hasher: RandomState,
}

/// What became of the hits of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HitResult {
    Passed,
    Refused,
    WouldRefuse,
}

/// The rules in force.
#[derive(Clone, Debug)]
pub struct RulesInForce {
    /// The rules.
    pub rules: Arc<RuleTree>,
    /// The time at which they were loaded; 0 before the first load.
    pub loaded_at: Timestamp,
}

impl Live {
    /// Begins to count at `now`, without rules.
    pub fn new(now: Timestamp) -> Self {
        Self {
            rules: ArcSwap::from_pointee(RuleCounts::new(Arc::default(), Timestamp::default())),
            hits: Top::new(now),
            refused: Top::new(now),
            would_refuse: Top::new(now),
            refusals: Refusals::default(),
            history: Mutex::default(),
            hasher: RandomState::default(),
        }
    }

    /// Counts a decision.
    pub fn observe(&self, request: &Request, decision: &Decision) {
        self.observe_sampled(request, decision, fastrand::u8(..).is_multiple_of(SAMPLED));
    }

    fn observe_sampled(&self, request: &Request, decision: &Decision, is_sampled: bool) {
        let counts = self.rules.load();
        for (index, descriptor) in request.descriptors.iter().enumerate() {
            let Some(verdict) = decision.verdicts.get(index) else { return };
            let Hits::Add(hits) = descriptor.hits else { continue };
            let is_limited = matches!(verdict.matched, Match::Rule(..) | Match::Override(_));
            if hits == 0 || !is_limited {
                continue;
            }
            let result = result(decision, index, verdict);
            if let Some(rule) = verdict.matched.rule() {
                counts.add(rule, hit_results(decision, result, hits));
            }
            let top = match result {
                HitResult::Passed if is_sampled => None,
                HitResult::Passed => continue,
                HitResult::Refused => Some(&self.refused),
                HitResult::WouldRefuse => Some(&self.would_refuse),
            };
            let name = Name { domain: &request.domain, entries: &descriptor.entries };
            let hash = self.hasher.hash_one(name);
            if let Some(top) = top {
                top.add(name, hash, hits);
            }
            if is_sampled {
                self.hits.add(name, hash, hits.saturating_mul(SAMPLED.into()));
            }
        }
        if decision.over_limit {
            self.record_refusal(request, decision);
        }
    }

    fn record_refusal(&self, request: &Request, decision: &Decision) {
        let Some(index) = decision.binding_verdict else { return };
        let Some((verdict, status)) = decision.binding() else { return };
        let Some(descriptor) = request.descriptors.get(index) else { return };
        let name = Name { domain: &request.domain, entries: &descriptor.entries };
        self.refusals.record(decision.at, name, || Cause {
            rule: verdict.matched.rule().map(Arc::clone),
            limit: status.limit.clone(),
            limit_name: Arc::clone(status.name),
            hits: descriptor.hits.requested(),
            remaining: status.outcome.remaining,
            wait: decision.wait,
            policy: decision.policies.first().copied(),
        });
    }

    /// Must be called before `rules` decide. Hits of rules that are not in force are not
    /// counted by rule.
    pub fn install(&self, rules: Arc<RuleTree>, now: Timestamp) {
        let new = Arc::new(RuleCounts::new(rules, now));
        let mut history = self.history.lock();
        let old = self.rules.swap(Arc::clone(&new));
        history.tick(&old, now);
        history.install(&old, &new);
    }

    /// Must be called about once a second.
    pub fn tick(&self, now: Timestamp) {
        self.history.lock().tick(&self.rules.load(), now);
        for top in [&self.hits, &self.refused, &self.would_refuse] {
            top.tick(now);
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> RulesInForce {
        let counts = self.rules.load();
        RulesInForce { rules: Arc::clone(&counts.rules), loaded_at: counts.loaded_at }
    }

    /// The `most` names with most hits by `measure`, in the minute in progress and in `minutes`
    /// before it.
    pub fn top(&self, measure: Measure, minutes: usize, most: usize) -> TopNames {
        let top = match measure {
            Measure::Hits => &self.hits,
            Measure::Refused => &self.refused,
            Measure::WouldRefuse => &self.would_refuse,
        };
        top.read(minutes, most)
    }

    /// The first `most` refusals that were recorded with the number `from` or a higher one and
    /// `is_wanted`; without `from` the last ones.
    pub fn refusals(
        &self,
        from: Option<u64>,
        most: usize,
        is_wanted: impl Fn(&RecentRefusal) -> bool,
    ) -> RecentRefusals {
        self.refusals.read(from, most, is_wanted)
    }

    /// The hits of all rules over time, the oldest first.
    pub fn history(&self, step: Step, now: Timestamp) -> Vec<Point> {
        self.history.lock().all(step, now)
    }

    /// The hits of the rule with this index over time; `None` if it is not among the
    /// [`MOST_RULES`] busiest.
    pub fn rule_history(&self, rule: usize, step: Step, now: Timestamp) -> Option<Vec<Point>> {
        self.history.lock().of(rule, step, now)
    }

    /// The hits of the rule with this index since it was loaded.
    pub fn rule_total(&self, rule: usize) -> HitResults {
        self.rules.load().of(rule)
    }

    /// The hits of the rule with this index in the last minute; `None` if it is not among the
    /// [`MOST_RULES`] busiest.
    pub fn rule_last_minute(&self, rule: usize, now: Timestamp) -> Option<HitResults> {
        self.history.lock().last_minute(rule, now)
    }
}

fn result(decision: &Decision, index: usize, verdict: &Verdict) -> HitResult {
    if !verdict.is_over() {
        return HitResult::Passed;
    }
    if decision.refusing().any(|(refusing, _)| refusing == index) {
        return HitResult::Refused;
    }
    if verdict.matched.is_shadow() || decision.shadowed {
        HitResult::WouldRefuse
    } else {
        HitResult::Passed
    }
}

fn hit_results(decision: &Decision, result: HitResult, hits: u64) -> HitResults {
    let of = |is_counted| if is_counted { hits } else { 0 };
    HitResults {
        passed: of(result != HitResult::Refused),
        refused: of(result == HitResult::Refused),
        would_refuse: of(result == HitResult::WouldRefuse),
        by_policy: of(!decision.policies.is_empty()),
    }
}

#[cfg(test)]
mod tests;
