//! Operations of operators on the counters of a request: look, reset, set.
//!
//! Only the store answers. No policy of `on_error` and no cache decides, so that an operator
//! sees what is there, or learns that the store is away.

use std::{iter, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{Engine, charges::override_counter, decision::Match, matching};
use crate::{
    counter::CounterRef,
    descriptor::{Descriptor, Request},
    limit::{Limit, Outcome},
    rules::Rule,
    store::{CallTime, ChangeError, CounterChange, Counters, Deadline, Store, StoreError},
    time::Timestamp,
};

/// The limits of a request whose counters are to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Every limit that applies.
    All,
    /// The limits with this name, or with a counter of this name. Also one that another rule
    /// replaces.
    Named(&'a [u8]),
}

/// A change that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeOrder<'a> {
    /// The counters to change.
    pub target: Target<'a>,
    /// The change.
    pub change: CounterChange,
    /// The name of the operator, for the log.
    pub who: &'a str,
}

/// The counters of a request.
#[derive(Clone, Debug)]
pub struct CounterReport {
    /// The time of the operation.
    pub at: Timestamp,
    /// `SHADOW_MODE`: no request is refused.
    pub shadow: bool,
    /// One for each descriptor, in order.
    pub descriptors: Vec<DescriptorCounters>,
}

/// The counters of one descriptor.
#[derive(Clone, Debug)]
pub struct DescriptorCounters {
    /// The rule or limit that applies, or the reason why none does.
    pub matched: Match,
    /// One for each limit of the rule, in order, also for replaced ones. Empty if there is no
    /// limit.
    pub counters: Vec<CounterStatus>,
}

/// One counter of a request.
#[derive(Clone, Debug)]
pub struct CounterStatus {
    /// The name of the limit; may be empty.
    pub name: Arc<str>,
    /// The limit.
    pub limit: Limit,
    /// The effect of the limit on this request.
    pub effect: LimitEffect,
    /// The counter.
    pub counter: CounterRef,
    /// What the store had before the change.
    pub found: Result<Outcome, StoreError>,
    /// `None` if the counter was only looked at.
    pub changed: Option<Result<(), ChangeError>>,
}

/// The effect of a limit on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitEffect {
    /// It can refuse the request.
    Enforced,
    /// It is counted and refuses nothing, because its rule has `shadow_mode`.
    Shadow,
    /// It is not counted for this request, because a rule of another descriptor replaces it.
    Replaced,
}

impl LimitEffect {
    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Shadow => "shadow",
            Self::Replaced => "replaced",
        }
    }
}

/// The reason why no counter was looked at or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountersError {
    /// No rules have been loaded since the start.
    #[error("no rate limit configuration loaded")]
    NoRules,
    /// No limit of the request has the name of the [target](Target::Named).
    #[error("no limit of these descriptors has this name; expected {}", choices(.0))]
    UnknownLimit(Vec<String>),
    /// Several limits apply. Their counters cannot be set to one value.
    #[error("{} limits apply; name the one to set: {}", .0.len(), choices(.0))]
    SeveralLimits(Vec<String>),
}

/// The names of limits and counters to choose from. Names of counters contain text of clients.
fn choices(names: &[String]) -> String {
    if names.is_empty() {
        return "none, as no limit applies".to_owned();
    }
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

impl CounterReport {
    /// The counters of all descriptors, in order.
    pub fn counters(&self) -> impl Iterator<Item = &CounterStatus> {
        self.descriptors.iter().flat_map(|descriptor| &descriptor.counters)
    }

    /// Returns true if a limit applies to every descriptor, or a rule that allows everything.
    pub fn is_matched(&self) -> bool {
        let is_matched = |descriptor: &DescriptorCounters| match descriptor.matched {
            Match::Rule(..) | Match::Unlimited(_) | Match::Override(_) => true,
            Match::UnknownDomain | Match::None | Match::Replaced(_) => false,
        };
        self.descriptors.iter().all(is_matched)
    }

    fn counters_mut(&mut self) -> impl Iterator<Item = &mut CounterStatus> {
        self.descriptors.iter_mut().flat_map(|descriptor| &mut descriptor.counters)
    }
}

impl CounterStatus {
    /// The name by which the limit is chosen: its own, or that of its counter if it has none.
    fn choice(&self) -> String {
        if self.name.is_empty() {
            return String::from_utf8_lossy(self.counter.key.as_bytes()).into_owned();
        }
        self.name.to_string()
    }

    fn is_target(&self, target: Target<'_>) -> bool {
        match target {
            Target::All => self.effect != LimitEffect::Replaced,
            Target::Named(name) => {
                self.name.as_bytes() == name || self.counter.key.as_bytes() == name
            }
        }
    }
}

impl<S: Store + Counters> Engine<S> {
    /// Looks at the counters of all limits that govern the descriptors of `request`, and
    /// changes nothing. Hits of the request are ignored. `timeout` is the time for which the
    /// caller waits.
    ///
    /// # Errors
    ///
    /// If no rules are loaded. A store that does not answer is an error of each counter.
    pub async fn look(
        &self,
        request: &Request,
        timeout: Option<Duration>,
    ) -> Result<CounterReport, CountersError> {
        let mut report = self.locate(request)?;
        self.look_at_all(&mut report, deadline(timeout)).await;
        Ok(report)
    }

    /// Looks at the counters as [`look`](Self::look) does, and then changes those of `target`.
    /// A counter that could not be looked at is not changed.
    ///
    /// # Errors
    ///
    /// If no rules are loaded, if `target` names no limit, or if several counters would be set.
    /// Then nothing was changed. A store that does not answer is an error of each counter.
    pub async fn change(
        &self,
        request: &Request,
        target: Target<'_>,
        change: CounterChange,
        timeout: Option<Duration>,
    ) -> Result<CounterReport, CountersError> {
        let deadline = deadline(timeout);
        let mut report = self.locate(request)?;
        check_target(&report, target, change)?;
        self.look_at_all(&mut report, deadline).await;
        let time = CallTime { now: report.at, deadline };
        let mut changes = Vec::new();
        for status in report.counters() {
            if status.is_target(target) {
                changes.push(self.change_one(status, change, time));
            }
        }
        let changed = join_all(changes).await;
        let targets = report.counters_mut().filter(|status| status.is_target(target));
        for (status, changed) in iter::zip(targets, changed) {
            status.changed = Some(changed);
        }
        Ok(report)
    }

    /// The counters of the request, none of them looked at yet.
    fn locate(&self, request: &Request) -> Result<CounterReport, CountersError> {
        let now = self.clock.now();
        let rules = self.rules.load();
        if !rules.is_loaded() {
            return Err(CountersError::NoRules);
        }
        let matches = matching::find(&rules, request);
        let mut descriptors = Vec::with_capacity(matches.len());
        for (descriptor, matched) in iter::zip(&request.descriptors, matches) {
            let counters = match &matched {
                Match::UnknownDomain | Match::None | Match::Unlimited(_) => Vec::new(),
                Match::Override(limit) => {
                    let Descriptor { entries, .. } = descriptor;
                    let counter =
                        override_counter(&self.keys, &request.domain, entries, limit, now);
                    vec![unseen(Arc::default(), limit, LimitEffect::Enforced, counter)]
                }
                Match::Replaced(rule) => self.rule_counters(rule, &[], descriptor, now),
                Match::Rule(rule, applied) => self.rule_counters(rule, applied, descriptor, now),
            };
            descriptors.push(DescriptorCounters { matched, counters });
        }
        Ok(CounterReport { at: now, shadow: self.mode.shadow, descriptors })
    }

    /// The counters of all limits of a rule. Those at the indexes `applied` apply.
    fn rule_counters(
        &self,
        rule: &Rule,
        applied: &[usize],
        descriptor: &Descriptor,
        now: Timestamp,
    ) -> Vec<CounterStatus> {
        let mut counters = Vec::with_capacity(rule.spec.limits.len());
        for (index, spec) in rule.spec.limits.iter().enumerate() {
            let effect = if !applied.contains(&index) {
                LimitEffect::Replaced
            } else if rule.spec.shadow_mode {
                LimitEffect::Shadow
            } else {
                LimitEffect::Enforced
            };
            let counter = rule.counter(&spec.limit, &self.keys, &descriptor.entries, now);
            counters.push(unseen(Arc::clone(&spec.name), &spec.limit, effect, counter));
        }
        counters
    }

    async fn look_at_all(&self, report: &mut CounterReport, deadline: Deadline) {
        let now = report.at;
        let mut looks = Vec::new();
        for CounterStatus { counter, limit, .. } in report.counters() {
            looks.push(in_time(self.store.peek(counter, limit, now), deadline));
        }
        let found = join_all(looks).await;
        for (status, found) in iter::zip(report.counters_mut(), found) {
            status.found = found;
        }
    }

    async fn change_one(
        &self,
        status: &CounterStatus,
        change: CounterChange,
        time: CallTime,
    ) -> Result<(), ChangeError> {
        let CounterStatus { counter, limit, found, .. } = status;
        if let Err(error) = found {
            return Err(ChangeError::Unchanged(error.clone()));
        }
        let changed = self.store.change(counter, limit, change, time).await;
        if changed.is_ok() {
            self.fallback.forget(counter, limit, time.now).await;
        }
        changed
    }
}

/// A counter before the first look.
fn unseen(
    name: Arc<str>,
    limit: &Limit,
    effect: LimitEffect,
    counter: CounterRef,
) -> CounterStatus {
    let found = Err(StoreError::Failed("it was not asked".into()));
    CounterStatus { name, limit: limit.clone(), effect, counter, found, changed: None }
}

/// A look that fails once the deadline has passed.
async fn in_time(
    look: impl Future<Output = Result<Outcome, StoreError>>,
    deadline: Deadline,
) -> Result<Outcome, StoreError> {
    let Some(deadline) = deadline else { return look.await };
    let start = Instant::now();
    match timeout_at(deadline, look).await {
        Ok(found) => found,
        Err(_) => Err(StoreError::Timeout(deadline.saturating_duration_since(start))),
    }
}

fn deadline(timeout: Option<Duration>) -> Deadline {
    timeout.map(|timeout| Instant::now() + timeout)
}

fn check_target(
    report: &CounterReport,
    target: Target<'_>,
    change: CounterChange,
) -> Result<(), CountersError> {
    let mut targets: Vec<&CounterStatus> = Vec::new();
    for status in report.counters() {
        // Several descriptors may share a counter.
        let is_new = targets.iter().all(|other| other.counter.key != status.counter.key);
        if is_new && status.is_target(target) {
            targets.push(status);
        }
    }
    if targets.is_empty() && target != Target::All {
        let choices = report.counters().map(CounterStatus::choice).collect();
        return Err(CountersError::UnknownLimit(choices));
    }
    if targets.len() > 1 && matches!(change, CounterChange::Set(_)) {
        let choices = targets.into_iter().map(CounterStatus::choice).collect();
        return Err(CountersError::SeveralLimits(choices));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
