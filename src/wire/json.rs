//! The messages as JSON, by protobuf's rules for it: names in camel case (in
//! snake case too when reading), enumerations by name (or number), nothing
//! written that has its default value.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer,
    },
};

use crate::wire::{
    pb::envoy::{
        config::core::v3::HeaderValue,
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor, rate_limit_descriptor as descriptor,
        },
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse,
            rate_limit_response::{self as response, DescriptorStatus, RateLimit},
        },
    },
    request::{MOST_DESCRIPTORS, MOST_ENTRIES},
};

/// Reads a request.
///
/// # Errors
///
/// What is wrong with it, with line and column.
pub fn decode(text: &[u8]) -> Result<RateLimitRequest, serde_json::Error> {
    let Object::<RequestJson>(request) = serde_json::from_slice(text)?;
    Ok(RateLimitRequest {
        domain: request.domain.unwrap_or_default().into(),
        descriptors: list(request.descriptors),
        hits_addend: request.hits_addend.map_or(0, |Number(it)| it),
    })
}

/// Writes a response, on one line.
pub fn encode(response: &RateLimitResponse) -> String {
    serde_json::to_string(&ResponseJson::from(response)).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RequestJson {
    domain: Option<String>,
    descriptors: Option<List<Object<DescriptorJson>, MOST_DESCRIPTORS>>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Number<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DescriptorJson {
    entries: Option<List<Object<EntryJson>, MOST_ENTRIES>>,
    limit: Option<Object<OverrideJson>>,
    #[serde(alias = "hits_addend")]
    hits_addend: Option<Number<u64>>,
    #[serde(alias = "is_negative_hits")]
    is_negative_hits: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OverrideJson {
    #[serde(alias = "requests_per_unit")]
    requests_per_unit: Option<Number<u32>>,
    unit: Option<UnitJson>,
    #[serde(alias = "unit_multiplier")]
    unit_multiplier: Option<Number<u32>>,
}

fn list<J, T: From<J>, const MOST: usize>(json: Option<List<Object<J>, MOST>>) -> Vec<T> {
    json.into_iter().flat_map(|List(it)| it).map(|Object(it)| it.into()).collect()
}

/// An object. Without this a list of its values would pass as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// A list of which no more elements than that are kept: one of three bytes takes a
/// hundred in memory.
struct List<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ListVisitor<T, MOST> {
    type Value = List<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} elements")?;
        if MOST == MOST_DESCRIPTORS {
            f.write_str(" (MAX_DESCRIPTORS can allow no more)")?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
            if MOST < list.len() {
                let mut length = list.len();
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                return Err(Error::invalid_length(length, &self));
            }
        }
        Ok(List(list))
    }
}

impl From<DescriptorJson> for RateLimitDescriptor {
    fn from(json: DescriptorJson) -> Self {
        Self {
            entries: list(json.entries),
            limit: json.limit.map(|Object(it)| it.into()),
            hits_addend: json.hits_addend.map(|Number(it)| it),
            is_negative_hits: json.is_negative_hits.unwrap_or_default(),
        }
    }
}

impl From<EntryJson> for descriptor::Entry {
    fn from(json: EntryJson) -> Self {
        Self {
            key: json.key.unwrap_or_default().into(),
            value: json.value.unwrap_or_default().into(),
        }
    }
}

impl From<OverrideJson> for descriptor::RateLimitOverride {
    fn from(json: OverrideJson) -> Self {
        Self {
            requests_per_unit: json.requests_per_unit.map_or(0, |Number(it)| it),
            unit: json.unit.map_or(0, |UnitJson(it)| it),
            unit_multiplier: json.unit_multiplier.map(|Number(it)| it),
        }
    }
}

/// A number, or a string that holds one.
struct Number<T>(T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bits, number) = (size_of::<T>() * 8, deserializer.deserialize_any(NumberVisitor)?);
        T::try_from(number).map(Self).map_err(|_| {
            Error::custom(format_args!("{number} is too large, expected at most {bits} bits"))
        })
    }
}

#[derive(Clone, Copy)]
struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number) {
            return Ok(number as u64);
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let error = || E::invalid_value(Unexpected::Str(text), &self);
        // As a number may have a fraction of zeros or an exponent, so may a string.
        let float = || self.visit_f64::<E>(text.parse().ok()?).ok();
        text.parse().ok().or_else(float).ok_or_else(error)
    }
}

/// The number of a unit, written as its name or as a number.
struct UnitJson(i32);

impl<'de> Deserialize<'de> for UnitJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor).map(Self)
    }
}

struct UnitVisitor;

impl Visitor<'_> for UnitVisitor {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
        let unit = response::rate_limit::Unit::from_str_name(text);
        unit.map(i32::from).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
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
    dynamic_metadata: Option<serde_json::Value>,
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
    value: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> From<&'a RateLimitResponse> for ResponseJson<'a> {
    fn from(message: &'a RateLimitResponse) -> Self {
        Self {
            overall_code: message.overall_code().as_str_name(),
            statuses: message.statuses.iter().map(Into::into).collect(),
            response_headers_to_add: message
                .response_headers_to_add
                .iter()
                .map(|HeaderValue { key, value }| HeaderJson { key, value })
                .collect(),
            dynamic_metadata: message.dynamic_metadata.as_ref().map(structure),
        }
    }
}

impl<'a> From<&'a DescriptorStatus> for StatusJson<'a> {
    fn from(message: &'a DescriptorStatus) -> Self {
        Self {
            code: message.code().as_str_name(),
            current_limit: message.current_limit.as_ref().map(Into::into),
            limit_remaining: message.limit_remaining,
            duration_until_reset: message.duration_until_reset.map(|it| format!("{}s", it.seconds)),
        }
    }
}

impl<'a> From<&'a RateLimit> for LimitJson<'a> {
    fn from(message: &'a RateLimit) -> Self {
        Self {
            name: &message.name,
            requests_per_unit: message.requests_per_unit,
            unit: message.unit().as_str_name(),
            unit_multiplier: message.unit_multiplier,
        }
    }
}

fn structure(message: &prost_types::Struct) -> serde_json::Value {
    let fields = message.fields.iter().map(|(key, it)| (key.clone(), value(it)));
    serde_json::Value::Object(fields.collect())
}

fn value(message: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;

    match &message.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(it)) => (*it).into(),
        Some(Kind::NumberValue(it)) => number(*it),
        Some(Kind::StringValue(it)) => it.as_str().into(),
        Some(Kind::ListValue(it)) => it.values.iter().map(value).collect(),
        Some(Kind::StructValue(it)) => structure(it),
    }
}

/// Whole numbers without a fraction, as protobuf writes them.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
fn number(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return (number as i64).into();
    }
    number.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_names_and_both_forms_of_numbers_are_read() {
        let camel = r#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requestsPerUnit":5,"unit":"HOUR","unitMultiplier":"2"},
            "hitsAddend":"7","isNegativeHits":true}],"hitsAddend":3}"#;
        let snake = r#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requests_per_unit":"5","unit":3,"unit_multiplier":2},
            "hits_addend":"7e0","is_negative_hits":true}],"hits_addend":3e0}"#;
        let message = decode(camel.as_bytes()).unwrap();
        assert_eq!(decode(snake.as_bytes()).unwrap(), message);
        assert_eq!(message.descriptors[0].hits_addend, Some(7));
        assert_eq!(message.descriptors[0].limit.unwrap().unit_multiplier, Some(2));
    }

    #[test]
    fn nothing_and_null_are_defaults() {
        let nothing = RateLimitRequest::default();
        assert_eq!(decode(b"{}").unwrap(), nothing);
        assert_eq!(decode(br#"{"domain":null,"descriptors":null}"#).unwrap(), nothing);
    }

    #[test]
    fn lists_are_no_objects() {
        let error = |text: &str| decode(text.as_bytes()).unwrap_err().to_string();
        for text in [
            r#"["d",[],1]"#,
            r#"{"descriptors":[[[],null,null,false]]}"#,
            r#"{"descriptors":[{"entries":[["k","v"]]}]}"#,
            r#"{"descriptors":[{"limit":[5,"HOUR",null]}]}"#,
        ] {
            assert!(error(text).contains("invalid type: sequence, expected an object"), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |text: &str| decode(text.as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("EOF"));
        assert!(error("{} x").contains("trailing characters at line 1 column 4"));
        assert!(error(r#"{"domian":"d"}"#).contains("unknown field `domian`, expected"));
        for number in ["-1", "0.5", "\"\"", "\" 1\"", "\"1e99\"", "\"nan\"", "\"0.5\""] {
            let text = format!(r#"{{"hitsAddend":{number}}}"#);
            assert!(error(&text).contains("expected a whole number"), "{number}");
        }
        assert!(error(r#"{"hitsAddend":4294967296}"#).contains("expected at most 32 bits"));
        assert!(error(r#"{"descriptors":"all"}"#).contains("expected a list of at most 1000"));
        let unit = r#"{"descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#;
        assert!(error(unit).contains(r#"string "FORTNIGHT", expected SECOND, MINUTE"#));
    }

    #[test]
    fn lists_have_a_greatest_length() {
        let descriptors = |it: &[&str]| format!(r#"{{"descriptors":[{}]}}"#, it.join(","));
        let entries = |count| format!(r#"{{"entries":[{}]}}"#, vec!["{}"; count].join(","));
        let error = |text: &str| decode(text.as_bytes()).map_err(|it| it.to_string());
        let most = descriptors(&["{}"; MOST_DESCRIPTORS]);
        assert_eq!(error(&most).unwrap().descriptors.len(), MOST_DESCRIPTORS);
        let refused = error(&descriptors(&["{}"; MOST_DESCRIPTORS + 5])).unwrap_err();
        let reason = "invalid length 1005, expected a list of at most 1000 elements \
                      (MAX_DESCRIPTORS can allow no more)";
        assert!(refused.contains(reason), "{refused}");
        let most = descriptors(&[&entries(MOST_ENTRIES)]);
        assert_eq!(error(&most).unwrap().descriptors[0].entries.len(), MOST_ENTRIES);
        let refused = error(&descriptors(&[&entries(MOST_ENTRIES + 1)])).unwrap_err();
        assert!(refused.contains("expected a list of at most 100 elements"), "{refused}");
    }

    #[test]
    fn a_response_leaves_defaults_out() {
        let limited = DescriptorStatus {
            code: response::Code::OverLimit.into(),
            current_limit: Some(RateLimit {
                requests_per_unit: 1,
                unit: response::rate_limit::Unit::Minute.into(),
                ..Default::default()
            }),
            limit_remaining: 0,
            duration_until_reset: Some(prost_types::Duration { seconds: 58, nanos: 0 }),
        };
        let free = DescriptorStatus { code: response::Code::Ok.into(), ..Default::default() };
        let message = RateLimitResponse {
            overall_code: response::Code::OverLimit.into(),
            statuses: vec![limited, free],
            ..Default::default()
        };
        let expected = concat!(
            r#"{"overallCode":"OVER_LIMIT","statuses":[{"code":"OVER_LIMIT","currentLimit":"#,
            r#"{"requestsPerUnit":1,"unit":"MINUTE"},"durationUntilReset":"58s"},{"code":"OK"}]}"#
        );
        assert_eq!(encode(&message), expected);
    }
}
