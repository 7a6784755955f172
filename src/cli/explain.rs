//! `tollgate explain`: shows which rule applies to a request, or why none does. Needs no
//! running service.

use std::{
    io::{self, Write},
    sync::Arc,
};

use super::{
    check,
    exit::CommandStatus,
    hit::{self, Hit},
    http_question::HttpQuestion,
    rule_input::{RuleInput, RulePlaces},
};
use crate::{
    config,
    descriptor::{
        Entry,
        invalid::{InvalidRequest, MOST_DESCRIPTORS},
    },
    engine::DecideError,
    explain::{self, Deciding, DescriptorReport, advice, json, notation::printable},
    grpc::client::Response,
    mapping::{MappingCourse, MappingError},
    rules::RuleTree,
    settings::DecisionSettings,
    time::Clock,
};

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
    let mut report = explain::report(&deciding(&explain.settings), &request, &rules, clock).await?;
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

fn deciding(settings: &DecisionSettings) -> Deciding {
    let DecisionSettings { key_format, mode, answers, .. } = settings.clone();
    Deciding { key_format, mode, answers }
}

/// Asks the running service with 0 hits, which charges nothing.
async fn ask_server(hit: &Hit) -> Result<Response, String> {
    let look = Hit { hits: Some(0), ..hit.clone() };
    hit::call(&look).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
