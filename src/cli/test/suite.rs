//! Tests of rules, as values.

use std::{sync::Arc, time::Duration};

use crate::{
    cli::http_question::HttpQuestion,
    config::CompileOptions,
    descriptor::Request,
    grpc::client::ResponseCode,
    limit::Hits,
    mapping::{Mapped, MappingError},
    rules::RuleTree,
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
    /// Adds the rules, which make the descriptors of HTTP requests.
    ///
    /// # Errors
    ///
    /// A line for each HTTP request of which they cannot make any.
    pub(super) fn with_rules(
        mut self,
        file: String,
        rules: RuleTree,
    ) -> Result<Suite, Vec<String>> {
        let mut mistakes = Vec::new();
        for test in &mut self.tests {
            for step in &mut test.steps {
                if let Some(ask) = &mut step.ask
                    && let Err(mistake) = ask.map(&rules)
                {
                    mistakes.push(format!("{file}:{}: {mistake}", step.line));
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Suite { file, rules: Arc::new(rules), tests: self.tests })
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
    /// Without descriptors if they come from `http`.
    pub(super) request: Request,
    /// The HTTP request whose descriptors the rules make.
    pub(super) http: Option<HttpAsk>,
    /// The number of times that the request is sent. Each answer is expected.
    pub(super) times: u32,
    pub(super) code: Option<ResponseCode>,
    /// One for each of the first descriptors.
    pub(super) statuses: Vec<ExpectedStatus>,
    /// The HTTP request should have no descriptors.
    pub(super) expects_none: bool,
}

/// An HTTP request, and the hits that each of its descriptors is charged.
pub(super) struct HttpAsk {
    pub(super) question: HttpQuestion,
    pub(super) hits: Hits,
    pub(super) has_own_hits: bool,
}

impl Ask {
    /// Returns true if a part of the answer is compared.
    pub(super) fn compares(&self) -> bool {
        self.code.is_some()
            || self.expects_none
            || self.statuses.iter().any(ExpectedStatus::compares)
    }

    /// Makes the descriptors of the HTTP request, if it is one.
    fn map(&mut self, rules: &RuleTree) -> Result<(), String> {
        let Some(http) = &self.http else { return Ok(()) };
        let Ok((_, mapping)) = rules.mapping(&self.request.domain) else {
            let domain = String::from_utf8_lossy(&self.request.domain);
            return Err(format!("no rules of the domain `{domain}` have `http`, expected them"));
        };
        let mapped = http.question.ask(|request| mapping.map(request));
        let mapped = mapped.map_err(|error| match error {
            MappingError::NoAddress => {
                "the rules need the address of the client, expected `from`".into()
            }
            error => error.to_string(),
        });
        match mapped? {
            Mapped::Request(request) => self.request.descriptors = request.descriptors,
            Mapped::NoDescriptors | Mapped::Skipped => {}
        }
        for descriptor in &mut self.request.descriptors {
            descriptor.hits = http.hits;
            descriptor.has_own_hits = http.has_own_hits;
        }
        Ok(())
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
