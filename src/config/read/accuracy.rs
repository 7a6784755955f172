//! The `accuracy` of a limit.

use super::{
    super::{
        excerpt::quote,
        keys::KeyContext,
        lint,
        parsed::{MAX_LEASE_SHARE, WHOLE_LIMIT},
        yaml::{MapEntry, YamlValue},
    },
    block::LimitBlock,
    reader::{SourceReader, expected_value, non_null},
};
use crate::limit::Algorithm;

impl<'a> SourceReader<'a, '_> {
    /// The number of hits that an instance may reserve in advance; 0 for none.
    pub(super) fn max_prefetch(
        &mut self,
        block: LimitBlock<'_, 'a>,
        algorithm: Algorithm,
        requests: u32,
    ) -> u32 {
        let Some(entry) = non_null(block.map, "accuracy") else { return 0 };
        if matches!(&entry.node.value, YamlValue::Scalar(scalar) if scalar.text == "exact") {
            return 0;
        }
        let YamlValue::Map(map) = &entry.node.value else {
            let expected = expected_value(KeyContext::RateLimit, "accuracy");
            self.unexpected(&entry.node, "`accuracy`", expected);
            return 0;
        };
        self.check_keys(map, KeyContext::Accuracy);
        self.check_accuracy_allowed(block, entry, algorithm);
        let Some(lease) = non_null(map, "lease") else {
            // Any other key has been reported.
            if map.keys().all(|name| name == "lease") {
                let expected = expected_value(KeyContext::Accuracy, "lease");
                let message = format!("`accuracy` has no `lease`, expected {expected}");
                let help = "or write `accuracy: exact`";
                self.sink.error_with_help(entry.key_location, message, help);
            }
            return 0;
        };
        let Some(share) = self.lease_share(lease) else { return 0 };
        lint::check_lease(lease.node.location, share, requests, self.sink);
        let max_prefetch = u64::from(requests) * share / WHOLE_LIMIT;
        u32::try_from(max_prefetch).unwrap_or(u32::MAX)
    }

    /// Reports an `accuracy` that the other keys of the limit rule out.
    fn check_accuracy_allowed(
        &mut self,
        block: LimitBlock<'_, 'a>,
        accuracy: &MapEntry<'a>,
        algorithm: Algorithm,
    ) {
        for other in ["penalty", "consume"] {
            if non_null(block.map, other).is_some() {
                self.conflict(accuracy, "accuracy", &format!("`{other}`"));
            }
        }
        if !algorithm.counts_denied() {
            let message = "`accuracy` is not `exact`, expected a `fixed_window` that counts what \
                           it refuses";
            let help = "an instance may use reserved hits late, which only the end of a fixed \
                        window prevents: with any other algorithm, more hits than the limit could \
                        be allowed; leave out `accuracy` or `algorithm`";
            self.sink.error_with_help(accuracy.key_location, message, help);
        }
    }

    /// The value of `lease` in millionths of the limit; `None` if it is not
    /// valid, which is reported.
    fn lease_share(&mut self, entry: &MapEntry<'a>) -> Option<u64> {
        let expected = expected_value(KeyContext::Accuracy, "lease");
        let YamlValue::Scalar(scalar) = &entry.node.value else {
            self.unexpected(&entry.node, "`lease`", expected);
            return None;
        };
        if let Some(share) = parse_share(&scalar.text)
            && (1..=MAX_LEASE_SHARE).contains(&share)
        {
            return Some(share);
        }
        let message = format!("`lease` is {}, expected {expected}", quote(&scalar.text));
        self.sink.error(entry.node.location, message);
        None
    }
}

/// Parses `1%` or `0.01` to millionths.
fn parse_share(text: &str) -> Option<u64> {
    const MAX_DIGITS: usize = 6;
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), WHOLE_LIMIT / 100),
        None => (text, WHOLE_LIMIT),
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    for digits in [whole, decimals] {
        if digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    let whole: u64 = whole.parse().ok()?;
    let millionths: u64 = format!("{decimals:0<6}").parse().ok()?;
    Some((whole * WHOLE_LIMIT + millionths) * unit / WHOLE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent_or_as_a_fraction() {
        for (text, expected) in [
            ("1%", Some(10_000)),
            ("0.5 %", Some(5_000)),
            ("0.01", Some(10_000)),
            ("100%", Some(WHOLE_LIMIT)),
            ("1", Some(WHOLE_LIMIT)),
            ("", None),
            ("%", None),
            ("-1%", None),
            (".5", None),
            ("1e-2", None),
            ("0.0000001", None),
        ] {
            assert_eq!(parse_share(text), expected, "{text}");
        }
    }
}
