//! Builds responses.

use prost_types::{ListValue, Struct, Value, value::Kind};

use super::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::{
        RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit},
    },
};
use crate::{
    answer::{
        self, AnswerSettings, CurrentLimit,
        metadata::{self, Audience},
    },
    descriptor::Request,
    engine::decision::Decision,
    limit::Unit,
};

/// The response to `request`.
pub(super) fn build(
    request: &Request,
    decision: &Decision,
    settings: &AnswerSettings,
) -> RateLimitResponse {
    let mut statuses = Vec::with_capacity(decision.verdicts.len());
    for verdict in &decision.verdicts {
        statuses.push(status(answer::DescriptorStatus::new(verdict)));
    }
    RateLimitResponse {
        overall_code: code(decision.over_limit),
        statuses,
        response_headers_to_add: headers(decision, settings),
        dynamic_metadata: if settings.has_metadata(decision) {
            Some(structure(metadata::build(request, decision, Audience::Proxy)))
        } else {
            None
        },
    }
}

fn code(over_limit: bool) -> i32 {
    if over_limit { Code::OverLimit.into() } else { Code::Ok.into() }
}

fn status(status: answer::DescriptorStatus<'_>) -> DescriptorStatus {
    DescriptorStatus {
        code: code(status.over_limit),
        current_limit: status.limit.map(limit),
        limit_remaining: status.remaining,
        duration_until_reset: status.reset_seconds.map(|seconds| prost_types::Duration {
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            nanos: 0,
        }),
    }
}

fn limit(limit: CurrentLimit<'_>) -> RateLimit {
    RateLimit {
        requests_per_unit: limit.requests,
        unit: unit(limit.unit).into(),
        name: limit.name.to_owned(),
        unit_multiplier: limit.multiplier,
    }
}

fn unit(unit: Option<Unit>) -> rate_limit::Unit {
    match unit {
        None => rate_limit::Unit::Unknown,
        Some(Unit::Second) => rate_limit::Unit::Second,
        Some(Unit::Minute) => rate_limit::Unit::Minute,
        Some(Unit::Hour) => rate_limit::Unit::Hour,
        Some(Unit::Day) => rate_limit::Unit::Day,
        Some(Unit::Week) => rate_limit::Unit::Week,
        Some(Unit::Month) => rate_limit::Unit::Month,
        Some(Unit::Year) => rate_limit::Unit::Year,
    }
}

fn headers(decision: &Decision, settings: &AnswerSettings) -> Vec<HeaderValue> {
    let Some(headers) = settings.limit_headers(decision) else { return Vec::new() };
    let mut added = Vec::with_capacity(headers.len());
    for (key, value) in headers {
        added.push(HeaderValue {
            key: key.to_owned(),
            value: value.to_string(),
            ..HeaderValue::default()
        });
    }
    added
}

impl metadata::Tree for Value {
    fn text(text: String) -> Self {
        wrap(Kind::StringValue(text))
    }

    #[expect(clippy::cast_precision_loss, reason = "the protocol has only f64; exact below 2⁵³")]
    fn number(number: u64) -> Self {
        wrap(Kind::NumberValue(number as f64))
    }

    fn flag(flag: bool) -> Self {
        wrap(Kind::BoolValue(flag))
    }

    fn list(values: Vec<Self>) -> Self {
        wrap(Kind::ListValue(ListValue { values }))
    }

    fn object(fields: Vec<(&'static str, Self)>) -> Self {
        wrap(Kind::StructValue(structure(fields)))
    }

    fn json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;

        match value {
            Json::Null => wrap(Kind::NullValue(0)),
            Json::Bool(flag) => Self::flag(*flag),
            Json::Number(number) => wrap(Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN))),
            Json::String(text) => Self::text(text.clone()),
            Json::Array(elements) => {
                let mut list = Vec::with_capacity(elements.len());
                for element in elements {
                    list.push(Self::json(element));
                }
                Self::list(list)
            }
            Json::Object(map) => {
                let mut fields = Struct::default();
                for (key, value) in map {
                    fields.fields.insert(key.clone(), Self::json(value));
                }
                wrap(Kind::StructValue(fields))
            }
        }
    }
}

/// The message with these fields.
pub fn structure(fields: Vec<(&'static str, Value)>) -> Struct {
    let mut map = Struct::default();
    for (key, value) in fields {
        map.fields.insert(key.to_owned(), value);
    }
    map
}

fn wrap(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
