//! `tollgate explain`: shows which rule applies to a request, or why none does. Needs no
//! running service.

use std::{
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    check,
    exit::CommandStatus,
    hit::{self, Hit, render::printable},
    http_question::HttpQuestion,
    rehearsal::{self, Rehearsal},
    rule_input::{RuleInput, RulePlaces},
};
use crate::{
    config,
    descriptor::{
        Entry, Request,
        invalid::{InvalidRequest, MOST_DESCRIPTORS},
    },
    engine::{DecideError, decision::Match},
    grpc::client::Response,
    mapping::{MappingCourse, MappingError},
    rules::{Rule, RuleTree, explain::Explanation},
    settings::DecisionSettings,
    time::{Clock, Timestamp},
};

pub(super) mod advice;
mod json;
mod text;

/// The arguments of `tollgate explain`.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The rules.
    pub input: RuleInput,
    /// The settings of the service that decides by these rules.
    pub settings: DecisionSettings,
    /// The request. Without descriptors if they come from `http`.
    pub hit: Hit,
    /// The HTTP request whose descriptors the rules make.
    pub http: Option<HttpQuestion>,
    /// Set to ask the running service as well, without charging it.
    pub ask_server: bool,
    /// Set to write JSON instead of text.
    pub json: bool,
}

/// The reason why `tollgate explain` failed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The output cannot be written.
    #[error("cannot write the explanation")]
    Output(#[from] io::Error),
    /// No service accepts the request.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The request cannot be decided.
    #[error(transparent)]
    Undecided(#[from] DecideError),
    /// The domain has no descriptors for HTTP requests.
    #[error("{0}")]
    NoMapping(String),
    /// The rules need the address of the client, and nothing tells it.
    #[error("the rules need the address of the client, expected `--from ADDRESS`")]
    NoAddress,
    /// The rules cannot make descriptors of the HTTP request.
    #[error("a proxy that asks about this request gets status 400")]
    Mapping(#[source] MappingError),
}

/// All that is known of a request.
struct Report<'t> {
    domain: &'t Bytes,
    /// The descriptors of the HTTP request, and the reasons for those that it does not have.
    http: Option<&'t MappingCourse>,
    rules: &'t RuleTree,
    /// `SHADOW_MODE`: no request is refused.
    shadow: bool,
    descriptors: Vec<DescriptorReport<'t>>,
    /// The answer with unused counters.
    answer: Response,
    /// The answer of the running service, or the reason why there is none.
    server: Option<Result<Response, String>>,
}

struct DescriptorReport<'t> {
    entries: &'t [Entry],
    /// `None` if the domain is unknown.
    explanation: Option<Explanation<'t>>,
    /// The limits of the rule.
    limits: Vec<LimitReport>,
    /// The rule is one without limits that another rule replaces.
    replaced: bool,
}

struct LimitReport {
    /// The index in the rule.
    index: usize,
    counter: String,
    /// Another rule of the request replaces this limit.
    replaced: bool,
}

/// Explains the request, and writes the result to `out`. Mistakes in the rules go to
/// `errors`. Returns [`CommandStatus::Positive`] if a rule applies to every descriptor.
///
/// # Errors
///
/// If no service accepts the request, or the output cannot be written.
pub async fn run(
    explain: &Explain,
    clock: Arc<dyn Clock>,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<CommandStatus, ExplainError> {
    let mut mistakes = Vec::new();
    let rules = read_rules(explain, &mut mistakes)?;
    errors.write_all(&mistakes)?;
    let Some(rules) = rules else {
        if explain.json {
            let error = String::from_utf8_lossy(&mistakes);
            writeln!(out, "{:#}", json::unusable(&explain.hit.domain, error.trim_end()))?;
        }
        return Ok(CommandStatus::Failed);
    };
    let mut hit = explain.hit.clone();
    let course = match &explain.http {
        Some(question) => Some(map(question, &hit.domain, &rules)?),
        None => None,
    };
    if let Some(course) = &course {
        hit.descriptors = present(course);
        if hit.descriptors.is_empty() {
            return without_descriptors(explain, course, out);
        }
    }
    let request = hit::request(&hit);
    request.validate(MOST_DESCRIPTORS)?;
    let mut report = report(explain, &request, &rules, clock).await?;
    report.http = course.as_ref();
    if explain.ask_server {
        report.server = Some(ask_server(&hit).await);
    }
    if explain.json {
        writeln!(out, "{:#}", json::report(&report))?;
    } else {
        text::write(&report, out)?;
    }
    let all_match = report.descriptors.iter().all(DescriptorReport::is_matched);
    Ok(match report.server {
        Some(Err(_)) => CommandStatus::Failed,
        _ if all_match => CommandStatus::Positive,
        _ => CommandStatus::Unmatched,
    })
}

/// The descriptors that `rules` make of an HTTP request in `domain`.
fn map(
    question: &HttpQuestion,
    domain: &[u8],
    rules: &RuleTree,
) -> Result<MappingCourse, ExplainError> {
    let Ok((_, mapping)) = rules.mapping(domain) else {
        let problem = advice::unknown_domain(rules, domain).unwrap_or_else(|| {
            let name = printable(&String::from_utf8_lossy(domain));
            format!("the rules of the domain `{name}` have no `http`, which makes descriptors of HTTP requests")
        });
        return Err(ExplainError::NoMapping(problem));
    };
    question.ask(|request| mapping.explain(request)).map_err(|error| match error {
        MappingError::NoAddress => ExplainError::NoAddress,
        error => ExplainError::Mapping(error),
    })
}

/// The descriptors that the request has.
fn present(course: &MappingCourse) -> Vec<Vec<Entry>> {
    match course {
        MappingCourse::Skipped(_) => Vec::new(),
        MappingCourse::Descriptors(list) => list.iter().flatten().cloned().collect(),
    }
}

/// Reports on an HTTP request that has no descriptors, so that it passes.
fn without_descriptors(
    explain: &Explain,
    course: &MappingCourse,
    out: &mut impl Write,
) -> Result<CommandStatus, ExplainError> {
    if explain.json {
        writeln!(out, "{:#}", json::without_descriptors(&explain.hit.domain, course))?;
    } else {
        text::write_http(course, out)?;
    }
    Ok(CommandStatus::Unmatched)
}

/// The rules, or `None` if they have mistakes, which are written to `errors`.
fn read_rules(explain: &Explain, errors: &mut impl Write) -> io::Result<Option<Arc<RuleTree>>> {
    let input = &explain.input;
    if explain.settings.rules.xds.is_some() && matches!(input.rules, RulePlaces::Configured(_)) {
        writeln!(
            errors,
            "error: the rules come from a management server, because CONFIG_TYPE is \
             GRPC_XDS_SOTW, expected files: name them with --config. The page /rlconfig of the \
             service lists its rules, and `tollgate hit --hits 0` shows an answer"
        )?;
        return Ok(None);
    }
    let read = input.read();
    for error in &read.errors {
        writeln!(errors, "error: {error}")?;
    }
    if !read.errors.is_empty() && matches!(input.rules, RulePlaces::Configured(_)) {
        writeln!(errors, "name the rules of the service with --config")?;
    }
    check::write_notes(&read, errors)?;
    match config::compile(&read.files, input.options()) {
        Ok(_) if !read.errors.is_empty() => Ok(None),
        Ok(compiled) => Ok(Some(Arc::new(compiled.rules))),
        Err(diagnostics) => {
            check::write_diagnostics(diagnostics.iter(), diagnostics.len(), &read, errors)?;
            Ok(None)
        }
    }
}

async fn report<'t>(
    explain: &'t Explain,
    request: &'t Request,
    rules: &'t Arc<RuleTree>,
    clock: Arc<dyn Clock>,
) -> Result<Report<'t>, ExplainError> {
    let DecisionSettings { key_format, mode, answers, .. } = &explain.settings;
    let now = clock.now();
    let rehearsal = Rehearsal::new(Arc::clone(rules), clock, key_format.clone(), *mode);
    let decision = rehearsal.decide(request).await?;
    let domain = rules.domain(&request.domain);
    let mut descriptors = Vec::with_capacity(request.descriptors.len());
    for (descriptor, verdict) in request.descriptors.iter().zip(&decision.verdicts) {
        let entries = descriptor.entries.as_slice();
        let explanation = domain.map(|domain| domain.explain(entries));
        let rule = explanation.as_ref().and_then(|explanation| explanation.end.rule());
        descriptors.push(DescriptorReport {
            limits: rule.map_or_else(Vec::new, |rule| {
                limits(rule, &verdict.matched, entries, &explain.settings, now)
            }),
            replaced: rule.is_some_and(|rule| rule.is_unlimited())
                && matches!(verdict.matched, Match::Replaced(_)),
            entries,
            explanation,
        });
    }
    Ok(Report {
        domain: &request.domain,
        http: None,
        rules,
        shadow: mode.shadow,
        descriptors,
        answer: rehearsal::response(request, &decision, answers),
        server: None,
    })
}

/// Asks the running service with 0 hits, which charges nothing.
async fn ask_server(hit: &Hit) -> Result<Response, String> {
    let look = Hit { hits: Some(0), ..hit.clone() };
    hit::call(&look).await.map_err(|error| error.to_string())
}

fn limits(
    rule: &Rule,
    matched: &Match,
    entries: &[Entry],
    settings: &DecisionSettings,
    now: Timestamp,
) -> Vec<LimitReport> {
    let mut limits = Vec::with_capacity(rule.spec.limits.len());
    for (index, spec) in rule.spec.limits.iter().enumerate() {
        let counter = rule.counter(&spec.limit, &settings.key_format, entries, now);
        limits.push(LimitReport {
            index,
            counter: String::from_utf8_lossy(counter.key.as_bytes()).into_owned(),
            replaced: match matched {
                Match::Rule(_, applied) => !applied.contains(&index),
                _ => true,
            },
        });
    }
    limits
}

impl Report<'_> {
    /// The sentence that the running service has other rules; `None` if nothing shows it.
    fn difference(&self) -> Option<&'static str> {
        let server = self.server.as_ref()?.as_ref().ok()?;
        for (position, there) in server.statuses.iter().enumerate() {
            let Some(here) = self.answer.statuses.get(position) else { continue };
            // Of several limits, the counters choose the one in the answer.
            let is_single = self.descriptors.get(position).is_some_and(|it| it.limits.len() == 1);
            let differs = if is_single {
                here.limit != there.limit
            } else {
                here.limit.is_some() != there.limit.is_some()
            };
            if differs {
                return Some(
                    "the running service has other rules than these: compare them with its page \
                     /rlconfig, whose end lists the mistakes of rejected rules",
                );
            }
        }
        None
    }
}

impl DescriptorReport<'_> {
    /// The rule that governs the descriptor, also if other rules replace its limits.
    fn rule(&self) -> Option<&Arc<Rule>> {
        self.explanation.as_ref()?.end.rule()
    }

    /// True if a limit applies, or a rule that allows everything.
    fn is_matched(&self) -> bool {
        match self.rule() {
            None => false,
            Some(rule) if rule.is_unlimited() => !self.replaced,
            Some(_) => self.limits.iter().any(|limit| !limit.replaced),
        }
    }
}

#[cfg(test)]
mod tests;
