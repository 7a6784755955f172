//! Claims: members of a JSON object in base64url, as proxies write the payload of a token that
//! they have verified.

use std::fmt;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::absent::Absent;

/// With or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The place of a claim: the names of members, joined with dots.
///
/// A member with the whole path as its name comes first, such as `https://example.com/org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// The most names in a path.
    pub const MOST_NAMES: usize = 16;

    /// Reads a path; `None` if it is empty or has too many names.
    pub fn parse(text: &str) -> Option<Self> {
        let names = text.split('.').count();
        if text.is_empty() || names > Self::MOST_NAMES {
            return None;
        }
        Some(Self(text.into()))
    }

    /// The path as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of the claim at `path`: a string, or a number or flag as JSON writes it.
pub(super) fn find(encoded: &[u8], path: &ClaimPath) -> Result<Vec<u8>, Absent> {
    let json = BASE64.decode(encoded.trim_ascii()).map_err(|_| Absent::NotBase64)?;
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Absent::NotJson);
    }
    let mut reader = serde_json::Deserializer::from_slice(&json);
    let member = Walk(path.as_str()).deserialize(&mut reader).map_err(|_| Absent::NotJson)?;
    reader.end().map_err(|_| Absent::NotJson)?;
    match member {
        Member::Absent => Err(Absent::NoClaim),
        Member::Other => Err(Absent::ClaimKind),
        Member::Text(text) => Ok(text.into_bytes()),
    }
}

enum Member {
    Absent,
    /// An object, a list or null.
    Other,
    Text(String),
}

impl Member {
    fn of_json(json: &str) -> serde_json::Result<Self> {
        Ok(match json.as_bytes().first() {
            Some(b'"') => Self::Text(serde_json::from_str(json)?),
            Some(b't' | b'f') => Self::Text(json.to_owned()),
            Some(b'-' | b'0'..=b'9') => Self::Text(number(json)),
            _ => Self::Other,
        })
    }
}

/// One text for all spellings of a number. A number that no integer or float has exactly is
/// left as it is written, so that it does not become the value of another one.
fn number(json: &str) -> String {
    if json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return json.to_owned();
    }
    match json.parse::<f64>().map(|float| float.to_string()) {
        Ok(text) if significant_digits(&text) == significant_digits(json) => text,
        _ => json.to_owned(),
    }
}

fn significant_digits(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

/// Reads the member at this path below a value, and skips all others without keeping them. Of
/// members with the same name, the last one counts, as for most readers of JSON.
#[derive(Clone, Copy)]
struct Walk<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Only an object has members.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, _: &str) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        let (mut by_whole_path, mut by_first_name) = (None, Member::Absent);
        while let Some(name) = map.next_key_seed(NameIn(self.0))? {
            match name {
                Name::WholePath => {
                    let json = map.next_value::<&RawValue>()?.get();
                    by_whole_path = Some(Member::of_json(json).map_err(A::Error::custom)?);
                }
                Name::First(rest) => by_first_name = map.next_value_seed(Walk(rest))?,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(by_whole_path.unwrap_or(by_first_name))
    }
}

/// The name of a member, compared with a path.
enum Name<'p> {
    WholePath,
    /// The first of several names; holds the path after it.
    First(&'p str),
    Other,
}

/// Reads the name of a member, which may be on this path.
struct NameIn<'p>(&'p str);

impl<'de, 'p> DeserializeSeed<'de> for NameIn<'p> {
    type Value = Name<'p>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name<'p>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for NameIn<'p> {
    type Value = Name<'p>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'p>, E> {
        let path = self.0;
        if name == path {
            return Ok(Name::WholePath);
        }
        Ok(match path.split_once('.') {
            Some((first, rest)) if name == first => Name::First(rest),
            _ => Name::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    #[track_caller]
    fn check(json: &str, path: &str, expected: Result<&str, Absent>) {
        let path = ClaimPath::parse(path).unwrap();
        for encoded in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json)] {
            let found = find(encoded.as_bytes(), &path);
            let expected = expected.map(|text| text.as_bytes().to_vec());
            assert_eq!(found, expected, "{json}");
        }
    }

    #[test]
    fn a_claim_is_a_string_a_number_or_a_flag() {
        check(r#"{"sub":"ann"}"#, "sub", Ok("ann"));
        check(r#"{"sub":"\u00e4\n"}"#, "sub", Ok("ä\n"));
        check(r#"{"a":0,"n":18446744073709551615}"#, "n", Ok("18446744073709551615"));
        check(r#"{"n":-5}"#, "n", Ok("-5"));
        check(r#"{"n":1.5e1}"#, "n", Ok("15"));
        check(r#"{"n":true}"#, "n", Ok("true"));
        check(r#" {"sub":"a","sub":"b"} "#, "sub", Ok("b"));
        check(r#"{"n":null}"#, "n", Err(Absent::ClaimKind));
        check(r#"{"n":[1,{"n":2}]}"#, "n", Err(Absent::ClaimKind));
        check(r#"{"n":{"n":2}}"#, "n", Err(Absent::ClaimKind));
        check(r#"{"m":{"n":2}}"#, "n", Err(Absent::NoClaim));
    }

    #[test]
    fn numbers_that_differ_have_different_values() {
        check(r#"{"n":18446744073709551616}"#, "n", Ok("18446744073709551616"));
        check(r#"{"n":18446744073709551617}"#, "n", Ok("18446744073709551617"));
        check(r#"{"n":-9223372036854775809}"#, "n", Ok("-9223372036854775809"));
        check(r#"{"n":18446744073709551617.0}"#, "n", Ok("18446744073709551617.0"));
        check(r#"{"n":0.10000000000000000001}"#, "n", Ok("0.10000000000000000001"));
        check(r#"{"n":1e999}"#, "n", Ok("1e999"));
        check(r#"{"n":1e-999}"#, "n", Ok("1e-999"));
    }

    #[test]
    fn spellings_of_a_number_have_one_value() {
        for number in ["15.0", "1.5e1", "1.50E+1", "150e-1", "0.15e2"] {
            check(&format!(r#"{{"n":{number}}}"#), "n", Ok("15"));
        }
        check(r#"{"n":0.30000000000000004}"#, "n", Ok("0.30000000000000004"));
        check(r#"{"n":-0.50}"#, "n", Ok("-0.5"));
        check(r#"{"n":1e2}"#, "n", Ok("100"));
        check(r#"{"n":0.0}"#, "n", Ok("0"));
        check(r#"{"n": 7 }"#, "n", Ok("7"));
        check(r#"{"s":"\ud800","n":1}"#, "s", Err(Absent::NotJson));
        check(r#"{"n":false}"#, "n", Ok("false"));
    }

    #[test]
    fn a_path_leads_through_objects() {
        check(r#"{"org":{"x":1,"id":7},"id":8}"#, "org.id", Ok("7"));
        check(r#"{"a":{"b":{"c":"d"}}}"#, "a.b.c", Ok("d"));
        check(r#"{"a":{"b.c":"d"}}"#, "a.b.c", Ok("d"));
        check(r#"{"https://a.example/org":"o"}"#, "https://a.example/org", Ok("o"));
        check(r#"{"org.id":1,"org":{"id":2}}"#, "org.id", Ok("1"));
        check(r#"{"org":{"id":2},"org.id":1}"#, "org.id", Ok("1"));
        for json in [r#"{"org":"id"}"#, r#"{"org":[{"id":1}]}"#, r#"{"org":null}"#, "{}"] {
            check(json, "org.id", Err(Absent::NoClaim));
        }
    }

    #[test]
    fn other_headers_have_no_claims() {
        for json in ["", "[]", "7", r#"{"sub":"ann"#, r#"{"sub":"ann"} x"#, "{sub: ann}"] {
            check(json, "sub", Err(Absent::NotJson));
        }
        let path = ClaimPath::parse("sub").unwrap();
        for encoded in ["{}", "e30,e30", "é", "e30.e30.x"] {
            assert_eq!(find(encoded.as_bytes(), &path), Err(Absent::NotBase64), "{encoded}");
        }
        let not_utf8 = URL_SAFE.encode(b"{\"sub\":\"\xff\"}");
        assert_eq!(find(not_utf8.as_bytes(), &path), Err(Absent::NotJson));
    }

    #[test]
    fn deep_json_is_skipped_without_recursion() {
        let deep = format!(r#"{{"a":{}{},"sub":"ann"}}"#, "[".repeat(20_000), "]".repeat(20_000));
        check(&deep, "sub", Ok("ann"));
    }

    #[test]
    fn a_path_has_few_names() {
        assert_eq!(ClaimPath::parse(""), None);
        assert!(ClaimPath::parse(&"a.".repeat(ClaimPath::MOST_NAMES - 1)).is_some());
        assert_eq!(ClaimPath::parse(&"a.".repeat(ClaimPath::MOST_NAMES)), None);
    }
}
