//! What rule files say, once it is known to make sense: what the
//! [`RuleTree`](crate::rules::RuleTree) is compiled from.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::limit::Limit;

/// The rules of one domain.
#[derive(Clone, Debug, Default)]
pub struct DomainSpec {
    /// Its name.
    pub domain: String,
    /// The top of its rules.
    pub descriptors: Vec<DescriptorSpec>,
}

/// One element of a `descriptors` list.
#[derive(Clone, Debug, Default)]
pub struct DescriptorSpec {
    /// The key of the entry. With a `*` anywhere in it, it is a pattern.
    pub key: String,
    /// The value of the entry, or a pattern for it; empty takes any value.
    pub value: String,
    /// The limit for a descriptor that ends here.
    pub rule: Option<RuleSpec>,
    /// Statistics are kept for each value of this entry.
    pub value_to_metric: bool,
    /// All values that match the pattern count together.
    pub share_threshold: bool,
    /// Rules for descriptors that go on.
    pub descriptors: Vec<DescriptorSpec>,
}

impl DescriptorSpec {
    /// The key, with the value behind an underscore if there is one: what
    /// tells this element from those beside it.
    pub fn composite_key(&self) -> String {
        match self.value.as_str() {
            "" => self.key.clone(),
            value => format!("{}_{value}", self.key),
        }
    }
}

/// What applies to a descriptor, and what is said about it.
#[derive(Clone, Debug, Default)]
pub struct RuleSpec {
    /// All are counted, and each may refuse. Empty: everything passes, and nothing
    /// is counted.
    pub limits: Vec<LimitSpec>,
    /// The name of a rule without limits, by which others replace it; may be
    /// empty.
    pub name: Arc<str>,
    /// The names of the limits that do not apply to a request that this rule
    /// governs.
    pub replaces: Vec<Arc<str>>,
    /// Counts, and never refuses.
    pub shadow_mode: bool,
    /// Refuses only together with all other quotas of the request.
    pub quota_mode: bool,
    /// Statistics are kept for each descriptor.
    pub detailed_metric: bool,
    /// Returned with the answer when the request passes.
    pub metadata: Option<Arc<Map<String, Value>>>,
    /// Where it is written, as `file:line`.
    pub location: Arc<str>,
}

/// One limit of a rule.
#[derive(Clone, Debug)]
pub struct LimitSpec {
    /// How much of what may pass.
    pub limit: Limit,
    /// The name by which others replace it, shown to clients; may be empty.
    pub name: Arc<str>,
    /// A call that is refused, for whatever reason, consumes nothing of it.
    pub all_or_nothing: bool,
    /// What to answer when the store does not; none leaves that to the
    /// service's settings.
    pub on_error: Option<OnError>,
}

/// What to answer when the store does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// What the first request of all would be told: that it may pass, unless
    /// it asks for more than the limit ever grants.
    Allow,
    /// That the request may not pass.
    Deny,
    /// What a limiter in this process says.
    Local,
}

impl OnError {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Local];

    /// Its name in rule files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        }
    }
}
