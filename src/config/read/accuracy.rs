//! The `accuracy` of a limit.

use super::{
    super::{
        keys::Home,
        lint,
        report::quote,
        yaml::{Entry, Value},
    },
    Reader,
    fields::{expected, present},
    limit::Block,
};
use crate::limit::Algorithm;

/// A whole, in millionths.
pub(in crate::config) const WHOLE: u64 = 1_000_000;
/// The largest part that may be taken ahead: a tenth.
pub(in crate::config) const MOST: u64 = WHOLE / 10;

impl<'a> Reader<'a, '_> {
    /// How many hits of a limit an instance may take ahead.
    pub(super) fn ahead(
        &mut self,
        block: Block<'_, 'a>,
        algorithm: Algorithm,
        requests: u32,
    ) -> u32 {
        let Some(entry) = present(block.map, "accuracy") else { return 0 };
        if matches!(&entry.node.value, Value::Scalar(it) if it.text == "exact") {
            return 0;
        }
        let Value::Map(map) = &entry.node.value else {
            self.wrong(&entry.node, "`accuracy`", expected(Home::RateLimit, "accuracy"));
            return 0;
        };
        self.check_keys(map, Home::Accuracy);
        for other in ["penalty", "consume"] {
            if present(block.map, other).is_some() {
                self.beside(entry, "accuracy", &format!("`{other}`"));
            }
        }
        if !algorithm.counts_denied() {
            let message = "`accuracy` is not `exact`, expected a `fixed_window` that counts what \
                           it refuses";
            let help = "an instance may spend later what it has taken ahead, and only the end of \
                        a fixed window puts an end to that: under any other algorithm more than \
                        the limit could pass; leave `accuracy` out, or the `algorithm`";
            self.report.mistake(entry.place, message, Some(help.into()));
        }
        let Some(lease) = present(map, "lease") else {
            if map.iter().all(|(name, _)| name == "lease") {
                let lease = expected(Home::Accuracy, "lease");
                let message = format!("`accuracy` has no `lease`, expected {lease}");
                let help = "or write `accuracy: exact`";
                self.report.mistake(entry.place, message, Some(help.into()));
            }
            return 0;
        };
        let part = self.part(lease);
        let ahead = u64::from(requests) * part / WHOLE;
        if 0 < part {
            lint::lease(lease.node.place, part, requests, self.report);
        }
        u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    /// What stands under `lease`, in millionths.
    fn part(&mut self, entry: &Entry<'a>) -> u64 {
        let expected = expected(Home::Accuracy, "lease");
        let Value::Scalar(scalar) = &entry.node.value else {
            self.wrong(&entry.node, "`lease`", expected);
            return 0;
        };
        let part = part(&scalar.text).filter(|it| (1..=MOST).contains(it));
        part.unwrap_or_else(|| {
            let message = format!("`lease` is {}, expected {expected}", quote(&scalar.text));
            self.report.mistake(entry.node.place, message, None);
            0
        })
    }
}

/// `1%` and `0.01`, in millionths.
fn part(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), WHOLE / 100),
        None => (text, WHOLE),
    };
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) || 6 < rest.len() || 6 < whole.len() {
        return None;
    }
    let fraction: u64 = format!("{rest:0<6}").parse().ok()?;
    Some((whole.parse::<u64>().ok()? * WHOLE + fraction) * unit / WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_written_in_percent_or_as_a_fraction() {
        for (text, expected) in [
            ("1%", Some(10_000)),
            ("0.5 %", Some(5_000)),
            ("0.01", Some(10_000)),
            ("100%", Some(WHOLE)),
            ("1", Some(WHOLE)),
            ("", None),
            ("%", None),
            ("-1%", None),
            (".5", None),
            ("1e-2", None),
            ("0.0000001", None),
        ] {
            assert_eq!(part(text), expected, "{text}");
        }
    }
}
