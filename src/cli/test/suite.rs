//! Tests of rules, as values.

use std::{sync::Arc, time::Duration};

use crate::{
    config::CompileOptions, descriptor::Request, grpc::client::ResponseCode, rules::RuleTree,
    time::Timestamp,
};

/// The tests of one file, and the rules that they test.
pub(super) struct Suite {
    pub(super) file: String,
    pub(super) rules: Arc<RuleTree>,
    pub(super) tests: Vec<Test>,
}

/// The contents of a file, whose rules are not compiled yet.
pub(super) struct ParsedSuite {
    pub(super) options: CompileOptions,
    pub(super) tests: Vec<Test>,
}

impl ParsedSuite {
    pub(super) fn with_rules(self, file: String, rules: RuleTree) -> Suite {
        Suite { file, rules: Arc::new(rules), tests: self.tests }
    }
}

/// One test: it begins with unused counters.
pub(super) struct Test {
    pub(super) name: String,
    pub(super) line: u32,
    /// The time at its start.
    pub(super) start: Timestamp,
    pub(super) steps: Vec<Step>,
}

pub(super) struct Step {
    pub(super) line: u32,
    /// Time that passes before the request.
    pub(super) advance: Duration,
    pub(super) ask: Option<Ask>,
}

/// A request, and the expected answer.
pub(super) struct Ask {
    pub(super) request: Request,
    /// The number of times that the request is sent. Each answer is expected.
    pub(super) times: u32,
    pub(super) code: Option<ResponseCode>,
    /// One for each of the first descriptors.
    pub(super) statuses: Vec<ExpectedStatus>,
}

impl Ask {
    /// Returns true if a part of the answer is compared.
    pub(super) fn compares(&self) -> bool {
        self.code.is_some() || self.statuses.iter().any(ExpectedStatus::compares)
    }
}

/// The expected answer to a descriptor. `None` expects nothing.
#[derive(Default, PartialEq, Eq)]
pub(super) struct ExpectedStatus {
    pub(super) code: Option<ResponseCode>,
    /// As in metadata, such as `5 per minute`, or [`NONE`].
    pub(super) limit: Option<String>,
    pub(super) remaining: Option<u32>,
    /// Whole seconds; `None` inside for a request that never passes.
    pub(super) reset: Option<Option<u64>>,
    /// The name of the rule, or [`NONE`].
    pub(super) rule: Option<String>,
}

impl ExpectedStatus {
    /// Returns true if a part of the answer is compared.
    pub(super) fn compares(&self) -> bool {
        *self != Self::default()
    }
}

/// No rule, or no limit.
pub(super) const NONE: &str = "none";
/// The reset of a request that never passes.
pub(super) const NEVER: &str = "never";
