//! Parses durations as people write them.

use std::time::Duration;

/// Go's units of time, in nanoseconds. `ms` must come before `m`, since the
/// first match is used.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration in the notation of Go, without a sign: `10s`, `1h30m`,
/// `1.5ms`, `0`. `None` if `text` is anything else or longer than 292 years.
pub fn parse(text: &str) -> Option<Duration> {
    let nanos = if text == "0" { 0 } else { parse_nanos(text)? };
    Some(Duration::from_nanos(nanos))
}

fn parse_nanos(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let number_end = rest.find(|character: char| !is_numeric(character))?;
        let (number, after_number) = rest.split_at(number_end);
        let (unit, after_unit) = split_unit(after_number)?;
        total = total.checked_add(multiply(number, unit)?)?;
        rest = after_unit;
        if rest.is_empty() {
            // Go counts nanoseconds in an `i64`.
            return if i64::try_from(total).is_ok() { Some(total) } else { None };
        }
    }
}

fn is_numeric(character: char) -> bool {
    character.is_ascii_digit() || character == '.'
}

/// The length of the unit at the start of `text`, and the text after it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    for (name, nanos) in UNITS {
        if let Some(after) = text.strip_prefix(name) {
            return Some((nanos, after));
        }
    }
    None
}

/// The product of a decimal number and a unit in nanoseconds, rounded down.
fn multiply(number: &str, unit: u64) -> Option<u64> {
    /// More decimals are below a nanosecond for every unit.
    const MAX_DECIMALS: usize = 18;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut fraction: u128 = 0;
    for position in 0..MAX_DECIMALS {
        let digit = decimals.as_bytes().get(position).map_or(0, |digit| digit - b'0');
        fraction = fraction * 10 + u128::from(digit);
    }
    let fraction_nanos = fraction * u128::from(unit) / 10_u128.pow(18);
    whole.checked_mul(unit)?.checked_add(u64::try_from(fraction_nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_go() {
        let cases: &[(&str, u64)] = &[
            ("0", 0),
            ("1ns", 1),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("1.5ms", 1_500_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m1ms", 60_001_000_000),
            ("1h30m10.25s", 5_410_250_000_000),
            ("0.0000000000000000009h", 0),
            ("0.33333333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ];
        for &(text, nanos) in cases {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "9223372036854775808ns", "1", "+1", "1 s", "s", "1x", "0h0", "١s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
