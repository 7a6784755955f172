//! Reads requests. Names are in camel case or snake case, enumerations are
//! names or numbers.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::number::{Number, Scalar, whole};
use crate::descriptor::{
    Descriptor, Entry, Request,
    envoy::{Override, StatedHits},
    invalid::{InvalidRequest, MOST_DESCRIPTORS, MOST_ENTRIES},
};

/// The most bytes of a message about malformed JSON, without the place of the error.
const MAX_REASON: usize = 500;

/// Reads a request; [`Request::validate`] checks its sizes.
///
/// # Errors
///
/// The first error of the JSON, with its line and column, or of the request.
pub fn decode(text: &[u8]) -> Result<Request, String> {
    parse(text)?.request().map_err(|error| error.to_string())
}

/// Parses the JSON of a request.
///
/// # Errors
///
/// The first error, with its line and column. It quotes little of the text.
pub(super) fn parse(text: &[u8]) -> Result<RequestJson, String> {
    let Object(request) = serde_json::from_slice(text).map_err(|error| reason(&error))?;
    Ok(request)
}

/// The text of an error, cut if it quotes a long name or value: the client may leave the
/// answer unread.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let begin = &text[..text.floor_char_boundary(MAX_REASON)];
    if begin.len() == text.len() {
        return text;
    }
    format!("{begin}… at line {} column {}", error.line(), error.column())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RequestJson {
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

impl RequestJson {
    /// The memory of the descriptors and entries, about, without their texts.
    pub(super) fn decoded_bytes(&self) -> usize {
        let Some(List(descriptors)) = &self.descriptors else { return 0 };
        let mut bytes = 0;
        for Object(descriptor) in descriptors {
            let entries = descriptor.entries.as_ref().map_or(0, |List(entries)| entries.len());
            bytes += size_of::<Descriptor>() + entries * size_of::<Entry>();
        }
        bytes
    }

    /// The request in our terms.
    ///
    /// # Errors
    ///
    /// If an override is invalid.
    pub(super) fn request(self) -> Result<Request, InvalidRequest> {
        let hits_addend = match self.hits_addend {
            Some(Number(hits)) => hits,
            None => 0,
        };
        let mut descriptors = Vec::new();
        for (position, Object(descriptor)) in elements(self.descriptors).into_iter().enumerate() {
            descriptors.push(descriptor.descriptor(position, hits_addend)?);
        }
        Ok(Request { domain: self.domain.unwrap_or_default().into(), descriptors, hits_addend })
    }
}

impl DescriptorJson {
    fn descriptor(self, position: usize, request_hits: u32) -> Result<Descriptor, InvalidRequest> {
        let mut entries = Vec::new();
        for Object(EntryJson { key, value }) in elements(self.entries) {
            let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
            entries.push(Entry { key: key.into(), value: value.into() });
        }
        let own = self.hits_addend.map(|Number(hits)| hits);
        let refund = self.is_negative_hits.unwrap_or_default();
        let hits = StatedHits { own, request: request_hits, refund }.hits();
        let limit = match self.limit {
            Some(Object(limit)) => Some(limit.read().limit(position)?),
            None => None,
        };
        Ok(Descriptor { entries, hits, has_own_hits: own.is_some(), limit })
    }
}

impl OverrideJson {
    fn read(self) -> Override {
        Override {
            requests_per_unit: self.requests_per_unit.map_or(0, |Number(number)| number),
            unit: self.unit.map_or(0, |UnitJson(number)| number),
            unit_multiplier: self.unit_multiplier.map(|Number(number)| number),
        }
    }
}

fn elements<T, const MOST: usize>(list: Option<List<T, MOST>>) -> Vec<T> {
    match list {
        Some(List(elements)) => elements,
        None => Vec::new(),
    }
}

/// A JSON object. serde's derived code also accepts an array of the values.
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

/// A list of at most `MOST` elements: an element of three bytes takes a hundred
/// bytes in memory.
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

/// The number of a unit in Envoy's enumeration, from its name or number.
struct UnitJson(i32);

impl<'de> Deserialize<'de> for UnitJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = &"SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR";
        let scalar = Scalar::read(deserializer, expected)?;
        let number = match &scalar {
            Scalar::Number(text) => whole(text).and_then(|number| number.try_into().ok()),
            Scalar::String(name) => unit_number(name),
        };
        number.map(Self).ok_or_else(|| scalar.invalid(expected))
    }
}

fn unit_number(name: &str) -> Option<i32> {
    Some(match name {
        "UNKNOWN" => 0,
        "SECOND" => 1,
        "MINUTE" => 2,
        "HOUR" => 3,
        "DAY" => 4,
        "MONTH" => 5,
        "YEAR" => 6,
        "WEEK" => 7,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::limit::{Hits, Limit, Unit, Window};

    #[test]
    fn both_spellings_of_names_and_both_forms_of_numbers_are_read() {
        let camel = r#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requestsPerUnit":5,"unit":"HOUR","unitMultiplier":"2"},
            "hitsAddend":"7","isNegativeHits":true}],"hitsAddend":3}"#;
        let snake = r#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requests_per_unit":"5","unit":3,"unit_multiplier":2},
            "hits_addend":"7e0","is_negative_hits":true}],"hits_addend":3e0}"#;
        let request = decode(camel.as_bytes()).unwrap();
        assert_eq!(decode(snake.as_bytes()).unwrap(), request);
        assert_eq!(request.hits_addend, 3);
        assert_eq!(request.descriptors[0].hits, Hits::Refund(7));
        let window = Window::times(Unit::Hour, NonZeroU32::new(2).unwrap()).unwrap();
        assert_eq!(request.descriptors[0].limit, Some(Limit::fixed(5, window)));
    }

    #[test]
    fn missing_and_null_fields_have_their_defaults() {
        let empty = Request { domain: "".into(), descriptors: Vec::new(), hits_addend: 0 };
        assert_eq!(decode(b"{}").unwrap(), empty);
        assert_eq!(decode(br#"{"domain":null,"descriptors":null}"#).unwrap(), empty);
    }

    /// The verdicts are those of the reference service's parser, protojson of Go.
    #[test]
    fn bodies_have_the_verdicts_of_the_reference() {
        for accepted in [
            r#"{"domain":null,"hitsAddend":null,"descriptors":[{"hitsAddend":null,"limit":null}]}"#,
            r#"{"descriptors":[{"entries":null,"isNegativeHits":null}]}"#,
            r#"{"\u0064omain":"\/\ud83d\ude00\u0000"}"#,
            r#"{"descriptors":[{"limit":{"unit":null}},{"limit":{"unit":-1}},{"limit":{"unit":99}}]}"#,
            " {\t\"domain\"\r:\n\"\" } ",
        ] {
            assert!(parse(accepted.as_bytes()).is_ok(), "{accepted}");
        }
        for refused in [
            "",
            "null",
            "\u{feff}{}",
            r#"{"domain":"a",}"#,
            r#"{"domain":"a"} {}"#,
            r#"{"domain":"a","domain":"a"}"#,
            r#"{"domain":null,"domain":"a"}"#,
            r#"{"hitsAddend":1,"hits_addend":1}"#,
            r#"{"Domain":"a"}"#,
            r#"{"@type":"a"}"#,
            r#"{"domain":1}"#,
            r#"{"domain":"\ud83d"}"#,
            "{\"domain\":\"\t\"}",
            r#"{"descriptors":{}}"#,
            r#"{"descriptors":[null]}"#,
            r#"{"descriptors":[{"hitsAddend":{"value":1}}]}"#,
            r#"{"descriptors":[{"isNegativeHits":"true"}]}"#,
            r#"{"descriptors":[{"isNegativeHits":1}]}"#,
            r#"{"descriptors":[{"limit":{"unit":"hour"}}]}"#,
            r#"{"descriptors":[{"limit":{"unit":"3"}}]}"#,
            r#"{"descriptors":[{"limit":{"unit":2147483648}}]}"#,
        ] {
            assert!(parse(refused.as_bytes()).is_err(), "{refused}");
        }
    }

    #[test]
    fn arrays_are_not_objects() {
        let error = |text: &str| decode(text.as_bytes()).unwrap_err();
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
    fn errors_name_their_position() {
        let error = |text: &str| decode(text.as_bytes()).unwrap_err();
        assert!(error("").contains("EOF"));
        assert!(error("{} x").contains("trailing characters at line 1 column 4"));
        assert!(error(r#"{"domian":"d"}"#).contains("unknown field `domian`, expected"));
        for (number, expected) in [
            ("0.5", "invalid value: 0.5, expected a whole number that is not negative at line 1"),
            ("\"05\"", "invalid value: string \"05\", expected a whole number"),
            ("[1]", "invalid type: sequence, expected a whole number"),
            ("4294967296", "invalid value: 4294967296, expected at most 32 bits"),
        ] {
            let message = error(&format!(r#"{{"hitsAddend":{number}}}"#));
            assert!(message.contains(expected), "{message}");
        }
        assert!(error(r#"{"descriptors":"all"}"#).contains("expected a list of at most 1000"));
        let unit = r#"{"descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#;
        assert!(error(unit).contains(r#"string "FORTNIGHT", expected SECOND, MINUTE"#));
        // Protobuf lets an enum be any number of 32 bits, also one without a name.
        let unit = r#"{"descriptors":[{"limit":{"unit":-1}}]}"#;
        assert!(error(unit).contains("descriptors[0].limit.unit is -1, expected SECOND (1)"));
    }

    #[test]
    fn a_parsed_request_counts_all_its_elements() {
        let bytes = |text: &str| parse(text.as_bytes()).unwrap().decoded_bytes();
        assert_eq!(bytes("{}"), 0);
        let two = r#"{"descriptors":[{},{"entries":[{},{},{}]}]}"#;
        assert_eq!(bytes(two), 2 * size_of::<Descriptor>() + 3 * size_of::<Entry>());
    }

    #[test]
    fn lists_have_a_maximum_length() {
        let descriptors = |it: &[&str]| format!(r#"{{"descriptors":[{}]}}"#, it.join(","));
        let entries = |count| format!(r#"{{"entries":[{}]}}"#, vec!["{}"; count].join(","));
        let error = |text: &str| decode(text.as_bytes());
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
}
