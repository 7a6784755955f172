//! Durations as people write them.

use std::{iter, time::Duration};

/// Go's units of time, in nanoseconds. The first that fits is taken, so `ms`
/// comes before `m`.
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

/// A duration as Go writes it: `10s`, `1h30m`, `0`; at most 292 years. None if
/// `text` is anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let nanos = if text == "0" { Some(0) } else { nanos(text) };
    nanos.map(Duration::from_nanos)
}

fn nanos(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let (number, behind) = rest.split_at(rest.find(|it: char| !is_numeric(it))?);
        let mut units = UNITS.iter();
        let (length, behind) =
            units.find_map(|&(unit, length)| Some((length, behind.strip_prefix(unit)?)))?;
        total = total.checked_add(scale(number, length)?)?;
        rest = behind;
        if rest.is_empty() {
            return i64::try_from(total).is_ok().then_some(total);
        }
    }
}

fn is_numeric(it: char) -> bool {
    it.is_ascii_digit() || it == '.'
}

/// `number`, which may have a fraction, times `length`; rounded down.
fn scale(number: &str, length: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // No unit is so long that the 19th decimal made a nanosecond.
    let fraction: String = fraction.chars().chain(iter::repeat('0')).take(18).collect();
    let part = fraction.parse::<u128>().ok()? * u128::from(length) / 10_u128.pow(18);
    whole.checked_mul(length)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
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
