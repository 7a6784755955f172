//! Plays a test, and compares the answers.

use std::{fmt, sync::Arc};

use super::suite::{Ask, ExpectedStatus, NEVER, NONE, Step, Suite, Test};
use crate::{
    answer::DescriptorStatus,
    counter::KeyFormat,
    descriptor::{Descriptor, Request},
    engine::{
        DecideError,
        decision::{Decision, Mode, Verdict},
    },
    explain::{
        advice,
        notation::{descriptor, printable},
        rehearsal::Rehearsal,
    },
    rules::RuleTree,
    time::ManualClock,
};

/// The most failures of one test that are listed; the rest follows from them.
const MOST_FAILURES: usize = 10;

/// The result of a test.
pub(super) struct TestResult {
    pub(super) name: String,
    pub(super) line: u32,
    /// Empty if the test passes.
    pub(super) failures: Vec<Failure>,
}

/// An answer that is not the expected one.
pub(super) struct Failure {
    /// The step, counted from 1.
    step: usize,
    line: u32,
    /// The number of the request in the step, from 1.
    time: u32,
    times: u32,
    differences: Vec<String>,
    /// The whole answer.
    answer: Vec<String>,
}

/// Plays a test from the start.
pub(super) async fn play(suite: &Suite, test: &Test) -> Result<TestResult, DecideError> {
    let clock = Arc::new(ManualClock::new(test.start));
    let service = Rehearsal::new(
        Arc::clone(&suite.rules),
        Arc::<ManualClock>::clone(&clock),
        KeyFormat::default(),
        Mode::default(),
    );
    let mut failures = Vec::new();
    'steps: for (index, step) in test.steps.iter().enumerate() {
        clock.advance(step.advance);
        let Some(ask) = &step.ask else { continue };
        for time in 1..=ask.times {
            let decision = service.decide(&ask.request).await?;
            let differences = differences(ask, &decision);
            if differences.is_empty() {
                continue;
            }
            let answer = answer(&suite.rules, &ask.request, &decision);
            let Step { line, .. } = *step;
            let times = ask.times;
            failures.push(Failure { step: index + 1, line, time, times, differences, answer });
            if failures.len() == MOST_FAILURES {
                break 'steps;
            }
            // The other times of this step would differ in the same way.
            break;
        }
    }
    Ok(TestResult { name: printable(&test.name), line: test.line, failures })
}

fn differences(ask: &Ask, decision: &Decision) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |name: String, expected: Option<String>, actual: String| {
        if let Some(expected) = expected
            && expected != actual
        {
            let (expected, actual) = (printable(&expected), printable(&actual));
            differences.push(format!("{name}: expected {expected}, got {actual}"));
        }
    };
    let code = if decision.over_limit { "OVER_LIMIT" } else { "OK" };
    compare("code".into(), ask.code.map(|code| code.name().to_owned()), code.to_owned());
    let actual = ask.request.descriptors.len();
    // Of other requests, the reader of the file has compared the numbers.
    let has_statuses = ask.expects_none || !ask.statuses.is_empty();
    if ask.http.is_some() && has_statuses && actual != ask.statuses.len() {
        compare("descriptors".into(), Some(ask.statuses.len().to_string()), actual.to_string());
    } else if ask.http.is_some() && actual == 0 && !ask.expects_none {
        let expected = "some (if none is right, expect `descriptors: []`)";
        compare("descriptors".into(), Some(expected.into()), "none".into());
    }
    let pairs = ask.statuses.iter().zip(&decision.verdicts);
    for ((expected, verdict), asked) in pairs.zip(&ask.request.descriptors) {
        let name = descriptor(&asked.entries);
        let ExpectedStatus { code, limit, remaining, reset, rule } = expected;
        let actual = Actual::new(verdict);
        let mut field = |field: &str, expected: Option<String>, actual: String| {
            compare(format!("{field} of {name}"), expected, actual);
        };
        field("code", code.map(|code| code.name().to_owned()), actual.code.to_owned());
        field("rule", rule.clone(), actual.rule);
        field("limit", limit.clone(), actual.limit);
        field("remaining", remaining.map(|it| it.to_string()), actual.remaining);
        field("reset", reset.map(seconds), actual.reset);
    }
    differences.extend(unexpectedly_unmatched(ask, decision));
    differences
}

/// The descriptors without a rule, if the file does not expect that. Otherwise a misspelt
/// domain or key would pass as OK.
fn unexpectedly_unmatched(ask: &Ask, decision: &Decision) -> Vec<String> {
    let has_rule = |verdict: &Verdict| verdict.matched.rule().is_some();
    let expects_rules = ask.statuses.iter().any(|expected| expected.rule.is_some());
    let is_limited = decision.verdicts.iter().any(has_rule);
    let mut differences = Vec::new();
    for (index, verdict) in decision.verdicts.iter().enumerate() {
        let expected = ask.statuses.get(index);
        let is_compared = match expected {
            // A difference to this rule is listed already.
            Some(ExpectedStatus { rule: Some(_), .. }) => continue,
            Some(expected) => expected.compares(),
            None => false,
        };
        if has_rule(verdict) || !(is_compared || !is_limited && !expects_rules) {
            continue;
        }
        if let Some(asked) = ask.request.descriptors.get(index) {
            let name = descriptor(&asked.entries);
            differences.push(format!(
                "rule of {name}: expected one, got none; if that is right, expect `rule: {NONE}`"
            ));
        }
    }
    differences
}

/// The answer to a descriptor, with each field as in a file with tests.
struct Actual {
    code: &'static str,
    rule: String,
    limit: String,
    remaining: String,
    reset: String,
}

impl Actual {
    fn new(verdict: &Verdict) -> Self {
        let status = DescriptorStatus::new(verdict);
        let limit = verdict.status().map_or_else(|| NONE.to_owned(), |it| it.limit.to_string());
        Self {
            code: if status.over_limit { "OVER_LIMIT" } else { "OK" },
            rule: verdict.matched.rule().map_or_else(|| NONE.to_owned(), |rule| rule.name()),
            remaining: match status.limit {
                Some(_) => status.remaining.to_string(),
                None => NONE.to_owned(),
            },
            reset: match status.limit {
                Some(_) => seconds(status.reset_seconds),
                None => NONE.to_owned(),
            },
            limit,
        }
    }
}

fn seconds(reset: Option<u64>) -> String {
    reset.map_or_else(|| NEVER.to_owned(), |seconds| format!("{seconds}s"))
}

/// The whole answer, a line for each descriptor.
fn answer(rules: &RuleTree, request: &Request, decision: &Decision) -> Vec<String> {
    let mut lines = Vec::with_capacity(request.descriptors.len());
    for (asked, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
        let Actual { code, rule, limit, remaining, reset } = Actual::new(verdict);
        let name = descriptor(&asked.entries);
        lines.push(match verdict.matched.rule() {
            Some(found) => format!(
                "{name}: {code}, limit {limit}, remaining {remaining}, reset {reset}, rule {} at {}",
                printable(&rule),
                found.spec.location
            ),
            None => format!("{name}: {code}, {}", unmatched(rules, request, asked)),
        });
    }
    lines
}

/// The reason why no rule applies.
fn unmatched(rules: &RuleTree, request: &Request, asked: &Descriptor) -> String {
    let Some(domain) = rules.domain(&request.domain) else {
        return advice::unknown_domain(rules, &request.domain).unwrap_or_default();
    };
    let explanation = domain.explain(&asked.entries);
    if explanation.end.rule().is_some() {
        return "the rule of another descriptor replaces this one's".to_owned();
    }
    let mut text = format!("no rule applies: {}", advice::reason(&explanation, &asked.entries));
    for hint in &explanation.advice {
        text += &format!("; {}", advice::sentence(hint, &asked.entries));
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, line, time, times, differences, answer } = self;
        write!(f, "  step {step}, line {line}")?;
        if *times > 1 {
            write!(f, ", request {time} of {times}")?;
        }
        for difference in differences {
            write!(f, "\n    {difference}")?;
        }
        for line in answer {
            write!(f, "\n    answer: {line}")?;
        }
        Ok(())
    }
}
