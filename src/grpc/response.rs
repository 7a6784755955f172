//! Builds responses.

use std::fmt::Display;

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Value as Json};

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
        metadata::{self, Audience, ObjectWriter},
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
            Some(metadata(request, decision))
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

pub(super) fn unit(unit: Option<Unit>) -> rate_limit::Unit {
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

/// The metadata of an answer.
pub fn metadata(request: &Request, decision: &Decision) -> Struct {
    let mut metadata = Struct::default();
    metadata::write(request, decision, Audience::Proxy, &mut metadata);
    metadata
}

impl ObjectWriter for Struct {
    fn text(&mut self, key: &str, text: impl Display) {
        self.fields.insert(key.to_owned(), wrap(Kind::StringValue(text.to_string())));
    }

    fn texts(&mut self, key: &str, texts: impl Iterator<Item: Display>) {
        let values = texts.map(|text| wrap(Kind::StringValue(text.to_string()))).collect();
        self.fields.insert(key.to_owned(), wrap(Kind::ListValue(ListValue { values })));
    }

    #[expect(clippy::cast_precision_loss, reason = "the protocol has only f64; exact below 2⁵³")]
    fn number(&mut self, key: &str, number: u64) {
        self.fields.insert(key.to_owned(), wrap(Kind::NumberValue(number as f64)));
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.fields.insert(key.to_owned(), wrap(Kind::BoolValue(flag)));
    }

    fn object(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        let mut object = Self::default();
        write(&mut object);
        self.fields.insert(key.to_owned(), wrap(Kind::StructValue(object)));
    }

    fn objects<T>(
        &mut self,
        key: &str,
        elements: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let mut list = ListValue::default();
        for element in elements {
            let mut object = Self::default();
            write(&mut object, element);
            list.values.push(wrap(Kind::StructValue(object)));
        }
        self.fields.insert(key.to_owned(), wrap(Kind::ListValue(list)));
    }

    fn json(&mut self, key: &str, object: Map<String, Json>) {
        self.fields.insert(key.to_owned(), value(Json::Object(object)));
    }
}

/// A value of JSON.
pub(super) fn value(json: Json) -> Value {
    wrap(match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(elements) => {
            Kind::ListValue(ListValue { values: elements.into_iter().map(value).collect() })
        }
        Json::Object(map) => {
            let mut object = Struct::default();
            for (key, element) in map {
                object.fields.insert(key, value(element));
            }
            Kind::StructValue(object)
        }
    })
}

fn wrap(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
