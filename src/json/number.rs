//! Numbers and names of protobuf's JSON mapping.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Expected, Unexpected},
};
use serde_json::value::RawValue;

/// More digits than any number of 64 bits has.
const MANY_DIGITS: i64 = 25;

/// A number, as it is written, or the content of a string.
pub(super) enum Scalar<'a> {
    Number(&'a str),
    String(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Reads a value that is `expected`.
    pub(super) fn read<D: Deserializer<'a>>(
        deserializer: D,
        expected: &dyn Expected,
    ) -> Result<Self, D::Error> {
        // serde's own numbers are not exact beyond 64 bits, or with a fraction or exponent.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let unexpected = match text.as_bytes() {
            [b'-' | b'0'..=b'9', ..] => return Ok(Self::Number(text)),
            [b'"', ..] => {
                return serde_json::from_str(text).map(Self::String).map_err(Error::custom);
            }
            [b'{', ..] => Unexpected::Map,
            [b'[', ..] => Unexpected::Seq,
            [b'n', ..] => Unexpected::Unit,
            _ => Unexpected::Bool(text == "true"),
        };
        Err(Error::invalid_type(unexpected, expected))
    }

    /// This value, as one that is not `expected`.
    pub(super) fn invalid<E: Error>(&self, expected: &dyn Expected) -> E {
        let unexpected = match self {
            Self::Number(text) => Unexpected::Other(text),
            Self::String(text) => Unexpected::Str(text),
        };
        E::invalid_value(unexpected, expected)
    }
}

/// A whole number that is not negative, or a string with one.
pub(super) struct Number<T>(pub(super) T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = &"a whole number that is not negative";
        let scalar = Scalar::read(deserializer, expected)?;
        let number = match &scalar {
            Scalar::Number(text) => whole(text),
            Scalar::String(text) => whole(text),
        };
        let Some(number @ 0..) = number else { return Err(scalar.invalid(expected)) };
        let Ok(number) = T::try_from(number) else {
            let bits = size_of::<T>() * 8;
            return Err(scalar.invalid(&&*format!("at most {bits} bits")));
        };
        Ok(Self(number))
    }
}

/// The value of a JSON number, or `None` if `text` is none or the number is not whole. A
/// number beyond 64 bits becomes any other that is.
pub(super) fn whole(text: &str) -> Option<i128> {
    let (negative, absolute) = match text.strip_prefix('-') {
        Some(absolute) => (true, absolute),
        None => (false, text),
    };
    let (mantissa, exponent) = match absolute.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (absolute, 0),
    };
    let (integer, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let leading_zero = integer.starts_with('0') && integer != "0";
    if integer.is_empty() || leading_zero || !is_digits(integer) || !is_digits(fraction) {
        return None;
    }
    let digits = format!("{integer}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let shift = i64::try_from(zeros).ok()? - i64::try_from(fraction.len()).ok()?;
    let shift = exponent.saturating_add(shift);
    let length = i64::try_from(significant.len()).ok()?;
    let absolute = match u32::try_from(shift) {
        Err(_) if shift < 0 => return None,
        Ok(shift) if length.saturating_add(shift.into()) < MANY_DIGITS => {
            significant.parse::<i128>().ok()? * 10_i128.pow(shift)
        }
        _ => i128::MAX,
    };
    Some(if negative { -absolute } else { absolute })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent of many digits becomes the largest or smallest.
fn read_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !is_digits(digits) {
        return None;
    }
    let exponent = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::read::parse;

    /// JSON values and, if they are whole numbers, their values. The reference service's
    /// parser, protojson of Go, has the same results.
    const NUMBERS: &[(&str, Option<i128>)] = &[
        ("0", Some(0)),
        ("-0", Some(0)),
        ("-0.0", Some(0)),
        ("0e9999999999", Some(0)),
        ("1.00", Some(1)),
        ("1E0", Some(1)),
        ("1e+1", Some(10)),
        ("1e001", Some(10)),
        ("10e-1", Some(1)),
        ("12.50e1", Some(125)),
        ("0.010e3", Some(10)),
        ("1000000000000000000000e-21", Some(1)),
        ("2147483647", Some(2_147_483_647)),
        ("2147483648.0", Some(2_147_483_648)),
        ("4.294967295e9", Some(4_294_967_295)),
        ("4294967296", Some(4_294_967_296)),
        ("9007199254740993.0", Some(9_007_199_254_740_993)),
        ("90071992547409930e-1", Some(9_007_199_254_740_993)),
        ("1e19", Some(10_000_000_000_000_000_000)),
        ("18446744073709551615", Some(18_446_744_073_709_551_615)),
        ("1.8446744073709551615e19", Some(18_446_744_073_709_551_615)),
        ("18446744073709551616", Some(18_446_744_073_709_551_616)),
        ("1e400", Some(i128::MAX)),
        ("-1", Some(-1)),
        ("-2147483648", Some(-2_147_483_648)),
        ("-2147483649", Some(-2_147_483_649)),
        ("0.5", None),
        ("1e-1", None),
        ("1.25e1", None),
        ("5e-324", None),
        ("1e-9999999999", None),
        ("", None),
        ("00", None),
        ("05", None),
        ("+5", None),
        ("5.", None),
        (".5e1", None),
        ("1e+", None),
        ("0x1", None),
        ("1_0", None),
        (" 1", None),
        ("1 2", None),
        ("NaN", None),
        ("Infinity", None),
        ("\\u0031", Some(1)),
    ];

    fn accepts(body: &str) -> bool {
        parse(body.as_bytes()).is_ok()
    }

    #[test]
    fn numbers_are_those_of_the_reference() {
        for &(text, value) in NUMBERS {
            let is_u32 = value.is_some_and(|value| u32::try_from(value).is_ok());
            let is_u64 = value.is_some_and(|value| u64::try_from(value).is_ok());
            let check_hits = |json: &str| {
                assert_eq!(accepts(&format!(r#"{{"hitsAddend":{json}}}"#)), is_u32, "{json}");
                let own = format!(r#"{{"descriptors":[{{"hitsAddend":{json}}}]}}"#);
                assert_eq!(accepts(&own), is_u64, "{json}");
            };
            check_hits(&format!("\"{text}\""));
            // Escapes occur in strings only, and spaces around a number do not belong to it.
            if !text.contains(['\\', ' ']) {
                check_hits(text);
                let is_i32 = value.is_some_and(|value| i32::try_from(value).is_ok());
                let unit = format!(r#"{{"descriptors":[{{"limit":{{"unit":{text}}}}}]}}"#);
                assert_eq!(accepts(&unit), is_i32, "{text}");
                assert_eq!(whole(text), value, "{text}");
            }
        }
    }
}
