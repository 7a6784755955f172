//! Rules as they are written, after all checks: the input of
//! [`RuleTree::compile`](crate::rules::RuleTree::compile).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{limit::Limit, mapping::MappingSpec};

/// The rules of one domain.
#[derive(Clone, Debug, Default)]
pub struct DomainSpec {
    /// The name by which requests select the domain.
    pub domain: String,
    /// The rules for the first entry of a descriptor.
    pub descriptors: Vec<DescriptorSpec>,
    /// The descriptors of HTTP requests, if the domain has `http`.
    pub http: Option<MappingSpec>,
}

/// One element of a `descriptors` list.
#[derive(Clone, Debug, Default)]
pub struct DescriptorSpec {
    /// The key of the entry. It is a pattern if it contains a `*`.
    pub key: String,
    /// The value of the entry. It is a pattern if it contains a `*`. If it is
    /// empty, the element matches any value.
    pub value: String,
    /// The rule for descriptors that end with this entry.
    pub rule: Option<RuleSpec>,
    /// Keeps statistics for each value of this entry.
    pub value_to_metric: bool,
    /// All values that match the pattern share one counter.
    pub share_threshold: bool,
    /// The rules for the next entry.
    pub descriptors: Vec<DescriptorSpec>,
    /// The position in the source, as `file:line` or `tree: path`.
    pub location: Arc<str>,
}

impl DescriptorSpec {
    /// The key and the value, joined with an underscore; the key alone if the
    /// value is empty. Unique within a list.
    pub fn composite_key(&self) -> String {
        if self.value.is_empty() {
            return self.key.clone();
        }
        format!("{}_{}", self.key, self.value)
    }
}

/// The limits of a descriptor, and the flags that apply to them.
#[derive(Clone, Debug, Default)]
pub struct RuleSpec {
    /// All limits are charged, and each can refuse a request. If there are
    /// none, every request passes, and nothing is counted.
    pub limits: Vec<LimitSpec>,
    /// The name of a rule without limits, by which other rules replace it.
    /// Empty if it has no name.
    pub name: Arc<str>,
    /// The names of limits and rules that do not apply to a request to which
    /// this rule applies.
    pub replaces: Vec<Arc<str>>,
    /// The limits are charged, but never refuse a request.
    pub shadow_mode: bool,
    /// The limits refuse a request only if all quotas of the request are used
    /// up.
    pub quota_mode: bool,
    /// Keeps statistics for each descriptor.
    pub detailed_metric: bool,
    /// Metadata to return to the client when the request passes.
    pub metadata: Option<Arc<Map<String, Value>>>,
    /// The position in the source, as `file:line` or `tree: path`.
    pub location: Arc<str>,
}

/// One limit of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// The number of hits per window, and the algorithm.
    pub limit: Limit,
    /// The name by which other rules replace the limit, also shown to clients.
    /// Empty if it has no name.
    pub name: Arc<str>,
    /// The limit is not charged if another limit refuses the request.
    pub all_or_nothing: bool,
    /// The decision if the store does not answer. `None` uses the default of
    /// the service.
    pub on_error: Option<OnError>,
}

/// The decision if the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Decides as if the counter were empty: the request passes unless it has
    /// more hits than the limit ever allows.
    Allow,
    /// Refuses every request, except refunds.
    Deny,
    /// Charges a counter in the memory of this process.
    Local,
}

impl OnError {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Local];

    /// The name in rule files and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        }
    }
}
