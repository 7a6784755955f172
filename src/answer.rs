//! The parts of an answer that every protocol derives from a [`Decision`]:
//! a status for each descriptor, headers, and metadata.

use crate::{
    engine::decision::{Decision, LimitStatus, Match, Verdict},
    limit::{Unit, ceil_seconds},
};

pub mod fields;
pub mod metadata;
pub mod problem;

/// The optional parts of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSettings {
    /// The names of the [limit headers](Self::limit_headers); `None` omits them.
    pub headers: Option<HeaderNames>,
    /// Selects the answers with [metadata](metadata::write).
    pub metadata: MetadataWhen,
}

/// The names of the headers that describe the client's limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// Hits per window.
    pub limit: String,
    /// Remaining hits.
    pub remaining: String,
    /// Seconds, rounded up, until the limit resets.
    pub reset: String,
}

/// The answers with metadata, which names the rule that decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataWhen {
    /// Refusals, and decisions without the store.
    #[default]
    Refused,
    /// All answers.
    Always,
    /// None.
    Never,
}

impl AnswerSettings {
    /// Returns true if the answer to this decision has metadata.
    pub fn has_metadata(&self, decision: &Decision) -> bool {
        match self.metadata {
            MetadataWhen::Refused => decision.over_limit || !decision.policies.is_empty(),
            MetadataWhen::Always => true,
            MetadataWhen::Never => false,
        }
    }

    /// The limit headers of the reference service; `None` if they are disabled, or if no
    /// limit applies.
    pub fn limit_headers(&self, decision: &Decision) -> Option<[(&str, u64); 3]> {
        let HeaderNames { limit, remaining, reset } = self.headers.as_ref()?;
        let status = decision.verdicts.get(decision.header_verdict?)?.status()?;
        let wait = status.wait.unwrap_or(status.outcome.reset_after);
        Some([
            (limit, status.limit.requests.into()),
            (remaining, status.outcome.remaining.into()),
            (reset, ceil_seconds(wait)),
        ])
    }
}

/// The result for one descriptor, as Envoy's API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorStatus<'a> {
    /// The descriptor is over its limit.
    pub over_limit: bool,
    /// `None` if no limit applies.
    pub limit: Option<CurrentLimit<'a>>,
    /// Remaining hits. Without a limit: `u32::MAX` if a rule allows everything,
    /// and 0 if no rule matches.
    pub remaining: u32,
    /// Seconds, rounded up, until the limit resets or, if over the limit, until a
    /// retry can pass. `None` without a limit, or if no retry ever passes.
    pub reset_seconds: Option<u64>,
}

/// The limit in a [`DescriptorStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLimit<'a> {
    /// Hits per window, or concurrent slots.
    pub requests: u32,
    /// `None` for a limit on concurrency.
    pub unit: Option<Unit>,
    /// Units per window, if more than one.
    pub multiplier: Option<u32>,
    /// Empty if the limit has no name.
    pub name: &'a str,
}

impl<'a> DescriptorStatus<'a> {
    /// The status of the descriptor with this verdict.
    pub fn new(verdict: &'a Verdict) -> Self {
        let Some(LimitStatus { limit, name, outcome, wait }) = verdict.status() else {
            // Envoy makes headers of the remaining hits only beside a limit.
            let unlimited = matches!(verdict.matched, Match::Unlimited(_));
            let remaining = if unlimited { u32::MAX } else { 0 };
            return Self { over_limit: false, limit: None, remaining, reset_seconds: None };
        };
        let multiplier = limit.window.multiplier().get();
        Self {
            over_limit: verdict.is_refused(),
            limit: Some(CurrentLimit {
                requests: limit.requests,
                unit: if limit.releases_permits() { None } else { Some(limit.window.unit()) },
                multiplier: if multiplier > 1 { Some(multiplier) } else { None },
                name,
            }),
            remaining: outcome.remaining,
            reset_seconds: wait.map(ceil_seconds),
        }
    }
}
