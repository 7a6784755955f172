//! Explains which rule applies to a request, or why none does.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    answer::AnswerSettings,
    counter::KeyFormat,
    descriptor::{Entry, Request},
    engine::{
        DecideError,
        decision::{Match, Mode},
    },
    grpc::client::Response,
    mapping::MappingCourse,
    rules::{Rule, RuleTree, explain::Explanation},
    time::{Clock, Timestamp},
};

pub mod advice;
pub mod json;
pub mod notation;
pub mod rehearsal;

use self::rehearsal::Rehearsal;

/// The settings of the service that change its decisions and answers.
#[derive(Clone, Debug)]
pub struct Deciding {
    /// Format of the counters' names in the store.
    pub key_format: KeyFormat,
    /// Modes that apply to all rules.
    pub mode: Mode,
    /// Headers and metadata of answers.
    pub answers: AnswerSettings,
}

/// All that is known of a request.
#[derive(Debug)]
pub struct Report<'t> {
    /// The domain of the request.
    pub domain: &'t Bytes,
    /// The descriptors of the HTTP request, and the reasons for those that it does not have.
    pub http: Option<&'t MappingCourse>,
    /// The rules.
    pub rules: &'t RuleTree,
    /// `SHADOW_MODE`: no request is refused.
    pub shadow: bool,
    /// One for each descriptor of the request, in order.
    pub descriptors: Vec<DescriptorReport<'t>>,
    /// The answer with unused counters.
    pub answer: Response,
    /// The answer of the running service, or the reason why there is none.
    pub server: Option<Result<Response, String>>,
}

/// All that is known of a descriptor.
#[derive(Debug)]
pub struct DescriptorReport<'t> {
    /// Its entries.
    pub entries: &'t [Entry],
    /// `None` if the domain is unknown.
    pub explanation: Option<Explanation<'t>>,
    /// The limits of the rule.
    pub limits: Vec<LimitReport>,
    /// The rule is one without limits that another rule replaces.
    pub replaced: bool,
}

/// All that is known of a limit.
#[derive(Debug)]
pub struct LimitReport {
    /// The index in the rule.
    pub index: usize,
    /// The name of its counter.
    pub counter: String,
    /// Another rule of the request replaces this limit.
    pub replaced: bool,
}

/// Explains the request, with counters that begin unused.
///
/// # Errors
///
/// If no rules are loaded.
pub async fn report<'t>(
    deciding: &Deciding,
    request: &'t Request,
    rules: &'t Arc<RuleTree>,
    clock: Arc<dyn Clock>,
) -> Result<Report<'t>, DecideError> {
    let Deciding { key_format, mode, answers } = deciding;
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
                limits(rule, &verdict.matched, entries, deciding, now)
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

fn limits(
    rule: &Rule,
    matched: &Match,
    entries: &[Entry],
    deciding: &Deciding,
    now: Timestamp,
) -> Vec<LimitReport> {
    let mut limits = Vec::with_capacity(rule.spec.limits.len());
    for (index, spec) in rule.spec.limits.iter().enumerate() {
        let counter = rule.counter(&spec.limit, &deciding.key_format, entries, now);
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
    pub fn difference(&self) -> Option<&'static str> {
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
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.explanation.as_ref()?.end.rule()
    }

    /// True if a limit applies, or a rule that allows everything.
    pub fn is_matched(&self) -> bool {
        match self.rule() {
            None => false,
            Some(rule) if rule.is_unlimited() => !self.replaced,
            Some(_) => self.limits.iter().any(|limit| !limit.replaced),
        }
    }
}
