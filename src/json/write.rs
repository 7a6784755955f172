//! Writes responses. Fields with their default value are omitted.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    answer::{
        AnswerSettings, CurrentLimit, DescriptorStatus, MetadataWhen,
        metadata::{self, Audience, ObjectWriter},
    },
    descriptor::Request,
    engine::decision::Decision,
    limit::Unit,
};

/// The largest whole number below which `f64` is exact: 2⁵³.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes the response to `request`, on one line, with these limit headers.
pub(super) fn encode(
    request: &Request,
    decision: &Decision,
    settings: &AnswerSettings,
    limit_headers: &[(&str, u64)],
) -> String {
    let mut statuses = Vec::with_capacity(decision.verdicts.len());
    for verdict in &decision.verdicts {
        statuses.push(StatusJson::new(DescriptorStatus::new(verdict)));
    }
    let mut headers = Vec::with_capacity(limit_headers.len());
    for &(key, value) in limit_headers {
        headers.push(HeaderJson { key, value: value.to_string() });
    }
    let response = ResponseJson {
        overall_code: code(decision.over_limit),
        statuses,
        response_headers_to_add: headers,
        // As in the reference service, only if it is asked for: the answer may reach end users.
        dynamic_metadata: if settings.metadata == MetadataWhen::Always {
            let mut metadata = Map::new();
            metadata::write(request, decision, Audience::Anyone, &mut metadata);
            Some(metadata)
        } else {
            None
        },
    };
    serde_json::to_string(&response).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseJson<'a> {
    overall_code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<StatusJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_headers_to_add: Vec<HeaderJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_metadata: Option<Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_limit: Option<LimitJson<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    limit_remaining: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_until_reset: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitJson<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    requests_per_unit: u32,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_multiplier: Option<u32>,
}

#[derive(Serialize)]
struct HeaderJson<'a> {
    key: &'a str,
    value: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> StatusJson<'a> {
    fn new(status: DescriptorStatus<'a>) -> Self {
        Self {
            code: code(status.over_limit),
            current_limit: status.limit.map(LimitJson::new),
            limit_remaining: status.remaining,
            duration_until_reset: status.reset_seconds.map(|seconds| format!("{seconds}s")),
        }
    }
}

impl<'a> LimitJson<'a> {
    fn new(limit: CurrentLimit<'a>) -> Self {
        Self {
            name: limit.name,
            requests_per_unit: limit.requests,
            unit: unit(limit.unit),
            unit_multiplier: limit.multiplier,
        }
    }
}

fn code(over_limit: bool) -> &'static str {
    if over_limit { "OVER_LIMIT" } else { "OK" }
}

fn unit(unit: Option<Unit>) -> &'static str {
    match unit {
        None => "UNKNOWN",
        Some(Unit::Second) => "SECOND",
        Some(Unit::Minute) => "MINUTE",
        Some(Unit::Hour) => "HOUR",
        Some(Unit::Day) => "DAY",
        Some(Unit::Week) => "WEEK",
        Some(Unit::Month) => "MONTH",
        Some(Unit::Year) => "YEAR",
    }
}

impl ObjectWriter for Map<String, Value> {
    fn text(&mut self, key: &str, text: impl Display) {
        self.insert(key.to_owned(), text.to_string().into());
    }

    fn texts(&mut self, key: &str, texts: impl Iterator<Item: Display>) {
        let texts: Vec<String> = texts.map(|text| text.to_string()).collect();
        self.insert(key.to_owned(), texts.into());
    }

    fn number(&mut self, key: &str, number: u64) {
        self.insert(key.to_owned(), number.into());
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.insert(key.to_owned(), flag.into());
    }

    fn object(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        let mut object = Self::new();
        write(&mut object);
        self.insert(key.to_owned(), object.into());
    }

    fn objects<T>(
        &mut self,
        key: &str,
        elements: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let mut list = Vec::new();
        for element in elements {
            let mut object = Self::new();
            write(&mut object, element);
            list.push(Value::Object(object));
        }
        self.insert(key.to_owned(), list.into());
    }

    fn json(&mut self, key: &str, object: Self) {
        self.insert(key.to_owned(), plain(Value::Object(object)));
    }
}

/// A value with the numbers of protobuf.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, whole),
        Value::Array(elements) => Value::Array(elements.into_iter().map(plain).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// Protobuf's metadata has only `f64`; its JSON mapping writes whole numbers
/// without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < EXACT {
        return (number as i64).into();
    }
    number.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_values_are_omitted() {
        let limit =
            CurrentLimit { requests: 1, unit: Some(Unit::Minute), multiplier: None, name: "" };
        let limited = DescriptorStatus {
            over_limit: true,
            limit: Some(limit),
            remaining: 0,
            reset_seconds: Some(58),
        };
        let free =
            DescriptorStatus { over_limit: false, limit: None, remaining: 0, reset_seconds: None };
        let response = ResponseJson {
            overall_code: code(true),
            statuses: vec![StatusJson::new(limited), StatusJson::new(free)],
            response_headers_to_add: Vec::new(),
            dynamic_metadata: None,
        };
        let expected = concat!(
            r#"{"overallCode":"OVER_LIMIT","statuses":[{"code":"OVER_LIMIT","currentLimit":"#,
            r#"{"requestsPerUnit":1,"unit":"MINUTE"},"durationUntilReset":"58s"},{"code":"OK"}]}"#
        );
        assert_eq!(serde_json::to_string(&response).unwrap(), expected);
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        for (number, expected) in [("5.0", "5"), ("0.5", "0.5"), ("-2", "-2"), ("1e300", "1e+300")]
        {
            let json: Value = serde_json::from_str(number).unwrap();
            assert_eq!(plain(json).to_string(), expected);
        }
    }
}
