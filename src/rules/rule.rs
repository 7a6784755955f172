//! A rule: the limits of a descriptor, and its flags.

use std::sync::Arc;

use super::{
    spec::RuleSpec,
    stat_name::{self, StatName},
    step::RuleStep,
};
use crate::{
    counter::{CounterRef, KeyFormat},
    descriptor::Entry,
    limit::Limit,
    time::Timestamp,
};

/// The limits of a descriptor, and the flags that apply to them.
#[derive(Debug)]
pub struct Rule {
    /// The position in [`RuleTree::rules`](super::RuleTree::rules).
    pub index: usize,
    /// The domain that contains the rule.
    pub domain: Arc<str>,
    /// The rule as it was written.
    pub spec: RuleSpec,
    /// The steps from the root of the domain, one for each entry. Never empty.
    steps: Vec<RuleStep>,
    stat_name: Arc<StatName>,
    /// True if the name in the statistics contains values of the request.
    is_named_by_request: bool,
}

impl Rule {
    pub(super) fn new(index: usize, domain: &Arc<str>, spec: RuleSpec, path: &[RuleStep]) -> Self {
        let components = path.iter().map(|step| step.composite_key().to_string());
        Self {
            index,
            domain: Arc::clone(domain),
            stat_name: Arc::new(StatName::new(domain, components)),
            is_named_by_request: spec.detailed_metric || path.iter().any(RuleStep::value_to_metric),
            steps: path.to_vec(),
            spec,
        }
    }

    /// True if the rule has no limits, so that every request passes.
    pub fn is_unlimited(&self) -> bool {
        self.spec.limits.is_empty()
    }

    /// The domain, and the key and value of each step as they are written in the rules,
    /// joined with dots.
    pub fn name(&self) -> String {
        let mut name = self.domain.to_string();
        for step in &self.steps {
            name.push('.');
            name.push_str(step.composite_key());
        }
        name
    }

    /// True if values that match a pattern of this rule share a counter.
    pub fn shares_counter(&self) -> bool {
        self.steps.iter().any(|step| step.shared_pattern().is_some())
    }

    /// True if the name in the statistics contains the value of some entry.
    pub fn has_value_to_metric(&self) -> bool {
        self.steps.iter().any(RuleStep::value_to_metric)
    }

    /// The name in the statistics, for requests to which
    /// [`Self::stat_name_for`] gives no other name.
    pub fn stat_name(&self) -> &Arc<StatName> {
        &self.stat_name
    }

    /// The name in the statistics for a descriptor with these entries; `None`
    /// unless the rule has `detailed_metric` or `value_to_metric`.
    pub fn stat_name_for(&self, entries: &[Entry]) -> Option<StatName> {
        if !self.is_named_by_request {
            return None;
        }
        let name = if self.spec.detailed_metric {
            stat_name::detailed(&self.domain, &self.steps, entries)
        } else {
            stat_name::by_value(&self.domain, &self.steps, entries)
        };
        Some(name)
    }

    /// The counter of `limit` for a descriptor with these entries at `now`.
    /// `limit` must be one of this rule's.
    pub fn counter(
        &self,
        limit: &Limit,
        format: &KeyFormat,
        entries: &[Entry],
        now: Timestamp,
    ) -> CounterRef {
        let parts = self.steps.iter().zip(entries).map(|(step, entry)| step.key_part(entry));
        let domain = self.domain.as_bytes();
        if self.spec.limits.len() > 1 {
            format.counter_of_several(domain, parts, limit, now)
        } else {
            format.counter(domain, parts, limit, now)
        }
    }
}
