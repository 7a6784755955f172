//! A [`Decision`] becomes a message.

use crate::{
    descriptor::Request,
    engine::decision::{Decision, Governed, Standing, Verdict},
    limit::{Unit, ceil_seconds},
    wire::{
        metadata,
        pb::envoy::{
            config::core::v3::HeaderValue,
            service::ratelimit::v3::{
                RateLimitResponse,
                rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit},
            },
        },
    },
};

/// What is said beside the decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseSettings {
    /// The names of the headers that tell a client how it stands; none sends
    /// no such headers.
    pub headers: Option<HeaderNames>,
    /// When metadata goes with the answer.
    pub metadata: MetadataWhen,
}

/// The names of the headers that tell a client how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// For the limit.
    pub limit: String,
    /// For what remains of it.
    pub remaining: String,
    /// For the seconds until it starts anew.
    pub reset: String,
}

/// When metadata, which names the rule that decided, goes with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataWhen {
    /// With refusals.
    #[default]
    Refused,
    /// With every answer.
    Always,
    /// Not at all.
    Never,
}

/// The answer to `request`.
pub fn build(
    request: &Request,
    decision: &Decision,
    settings: &ResponseSettings,
) -> RateLimitResponse {
    let with_metadata = match settings.metadata {
        MetadataWhen::Refused => decision.over_limit,
        MetadataWhen::Always => true,
        MetadataWhen::Never => false,
    };
    RateLimitResponse {
        overall_code: code(decision.over_limit),
        statuses: decision.verdicts.iter().map(status).collect(),
        response_headers_to_add: match &settings.headers {
            Some(names) => headers(decision, names),
            None => Vec::new(),
        },
        dynamic_metadata: with_metadata.then(|| metadata::build(request, decision)),
    }
}

fn code(refused: bool) -> i32 {
    i32::from(if refused { Code::OverLimit } else { Code::Ok })
}

fn status(verdict: &Verdict) -> DescriptorStatus {
    let Some(Standing { limit, name, outcome, wait }) = verdict.standing() else {
        // Envoy makes no header of a status without a limit, so what remains
        // of no limit is told to those alone who look at the status.
        let unlimited = matches!(verdict.governed, Governed::Unlimited(_));
        let limit_remaining = if unlimited { u32::MAX } else { 0 };
        return DescriptorStatus { code: code(false), limit_remaining, ..Default::default() };
    };
    let multiplier = limit.window.multiplier().get();
    DescriptorStatus {
        code: code(verdict.refused()),
        current_limit: Some(RateLimit {
            requests_per_unit: limit.requests,
            unit: match limit.has_slots() {
                // So many at a time, whatever the time.
                true => rate_limit::Unit::Unknown.into(),
                false => unit(limit.window.unit()).into(),
            },
            name: name.to_string(),
            unit_multiplier: (multiplier > 1).then_some(multiplier),
        }),
        limit_remaining: outcome.remaining,
        duration_until_reset: wait.map(|wait| prost_types::Duration {
            seconds: i64::try_from(ceil_seconds(wait)).unwrap_or(i64::MAX),
            nanos: 0,
        }),
    }
}

fn unit(unit: Unit) -> rate_limit::Unit {
    match unit {
        Unit::Second => rate_limit::Unit::Second,
        Unit::Minute => rate_limit::Unit::Minute,
        Unit::Hour => rate_limit::Unit::Hour,
        Unit::Day => rate_limit::Unit::Day,
        Unit::Week => rate_limit::Unit::Week,
        Unit::Month => rate_limit::Unit::Month,
        Unit::Year => rate_limit::Unit::Year,
    }
}

/// How the client stands with the limit of which the reference service tells. Nothing in it comes from
/// the caller, so no line break of a caller's can get into a header.
fn headers(decision: &Decision, names: &HeaderNames) -> Vec<HeaderValue> {
    let verdict = decision.headed.and_then(|it| decision.verdicts.get(it));
    let Some(Standing { limit, outcome, wait, .. }) = verdict.and_then(Verdict::standing) else {
        return Vec::new();
    };
    let header =
        |name: &str, value: u64| HeaderValue { key: name.into(), value: value.to_string() };
    vec![
        header(&names.limit, limit.requests.into()),
        header(&names.remaining, outcome.remaining.into()),
        header(&names.reset, ceil_seconds(wait.unwrap_or(outcome.reset_after))),
    ]
}
